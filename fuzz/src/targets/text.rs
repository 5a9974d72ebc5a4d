//! Tokenizers, chat templates and chats.

use std::time::Duration;

use gr2::text::{ChatTemplate, Message, SidTokens, Tokenizer};
use serde_json::json;

use super::answers;
use crate::{SLOW, Scratch, Target, Verdict, join, parts};

const TEXT: &str = "the ink, 12 x\u{e9}\u{65e5} <|im_end|> <think>\n";

/// What a checkpoint's tokenizer is used for.
fn use_tokenizer(tokenizer: &Tokenizer) {
    let Ok(ids) = tokenizer.encode(TEXT) else { return };
    let size = tokenizer.vocab_size();
    if let Ok((rendered, offsets)) = tokenizer.encode_with_offsets(TEXT) {
        assert_eq!(rendered.len(), offsets.len());
        assert!(offsets.iter().all(|at| at.end <= TEXT.len()), "a token beyond the text");
    }
    let _ = tokenizer.decode(&ids, true);
    let _ = tokenizer.decode(&[0, 1, size as u32, u32::MAX], false);
    let mut stream = tokenizer.stream(false);
    for &id in ids.iter().take(8) {
        if stream.push(id).is_err() {
            break;
        }
    }
    let _ = stream.finish();
    let _ = (SidTokens::find(tokenizer), tokenizer.eos_ids(), tokenizer.pad_id(), tokenizer.gaps().len());
    let mut grown = tokenizer.clone();
    let _ = grown.add_tokens(&["<s_a_0>".to_owned(), "<s_a_1>".to_owned()]);
}

fn added(id: u32, content: &str, special: bool) -> serde_json::Value {
    json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": special})
}

/// Tokenizers of every family, with a few words each.
fn tokenizer_seeds() -> Vec<Vec<u8>> {
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let shell = |model, normalizer, pre, post, decoder, added: serde_json::Value| {
        let json: serde_json::Value = json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": normalizer,
            "pre_tokenizer": pre, "post_processor": post, "decoder": decoder, "model": model,
        });
        json.to_string().into_bytes()
    };
    let null = || json!(null);
    let bpe = json!({
        "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "", "end_of_word_suffix": "",
        "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
        "vocab": {"<|endoftext|>": 0, "<|im_start|>": 1, "<|im_end|>": 2, "t": 3, "h": 4, "e": 5, "i": 6, "n": 7, "k": 8, "\u{120}": 9, "th": 10, "the": 11, "in": 12, "ink": 13},
        "merges": [["t", "h"], ["th", "e"], ["i", "n"], ["in", "k"]],
    });
    let controls = || {
        json!([
            added(0, "<|endoftext|>", true),
            added(1, "<|im_start|>", true),
            added(2, "<|im_end|>", true),
            added(14, "<think>", false)
        ])
    };
    let split = json!({"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": " ?[a-z]+|[0-9]|\\s+(?!\\S)|[^a-z0-9]+"}, "behavior": "Isolated", "invert": false},
        byte_level,
    ]});
    let word_piece = json!({"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": {"[UNK]": 0, "the": 1, "in": 2, "##k": 3, "[CLS]": 4, "[SEP]": 5}});
    let bert = json!({"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true});
    let template = json!({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}], "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}], "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [4], "tokens": ["[CLS]"]}}});
    let unigram = json!({"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["\u{2581}the", -1.0], ["\u{2581}ink", -2.5], ["i", -3.0], ["n", -3.5]], "byte_fallback": false});
    let metaspace = json!({"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "always", "split": true});
    let replace = json!({"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Replace", "pattern": {"String": " "}, "content": "_"}, {"type": "Strip", "strip_left": true, "strip_right": true}, {"type": "Prepend", "prepend": "_"}]});
    let word_level = json!({"type": "WordLevel", "vocab": {"the": 0, "ink": 1, "<unk>": 2}, "unk_token": "<unk>"});
    vec![
        shell(bpe, json!({"type": "NFC"}), split, byte_level.clone(), byte_level, controls()),
        shell(
            word_piece,
            bert,
            json!({"type": "BertPreTokenizer"}),
            template,
            json!({"type": "WordPiece", "prefix": "##", "cleanup": true}),
            json!([added(4, "[CLS]", true)]),
        ),
        shell(unigram, replace, metaspace.clone(), null(), metaspace, json!([])),
        shell(
            word_level.clone(),
            json!({"type": "Lowercase"}),
            json!({"type": "Whitespace"}),
            null(),
            json!({"type": "Fuse"}),
            json!([]),
        ),
        shell(
            word_level,
            null(),
            json!({"type": "WhitespaceSplit"}),
            null(),
            null(),
            json!([added(3, "<|endoftext|>", true), added(4, "<|im_start|>", true), added(5, "<|im_end|>", true)]),
        ),
    ]
}

/// `tokenizer.json`.
pub const TOKENIZER_JSON: Target = Target {
    name: "tokenizer_json",
    seeds: tokenizer_seeds,
    slow: SLOW,
    words: &[
        "BPE",
        "WordPiece",
        "Unigram",
        "WordLevel",
        "ByteLevel",
        "Split",
        "Sequence",
        "Metaspace",
        "NFC",
        "NFKD",
        "Replace",
        "Regex",
        "String",
        "Isolated",
        "Removed",
        "MergedWithPrevious",
        "Contiguous",
        "Digits",
        "Punctuation",
        "ByteFallback",
        "Fuse",
        "Strip",
        "Prepend",
        "TemplateProcessing",
        "RobertaProcessing",
        "BertProcessing",
        "Precompiled",
        "precompiled_charsmap",
        "AA==",
        "unk_token",
        "unk_id",
        "vocab",
        "merges",
        "added_tokens",
        "continuing_subword_prefix",
        "end_of_word_suffix",
        "byte_fallback",
        "dropout",
        "cache_capacity",
        "truncation",
        "padding",
        "max_length",
        "LongestFirst",
        "BatchLongest",
        "Fixed",
        "(a+)+$",
        "(?=",
        "\\p{L}",
        "[",
        "(?i)",
        "special",
        "single_word",
        "normalized",
        "lstrip",
        "rstrip",
        "id",
        "content",
        "\"\"",
        "4294967295",
        "\u{120}",
        "trim_offsets",
        "max_input_chars_per_word",
        "[[\"a\",\"b\"]]",
        "\"a b\"",
    ],
    reader: || {
        Box::new(|input| {
            let read = Tokenizer::from_json(input, "tokenizer.json");
            read.iter().for_each(use_tokenizer);
            Verdict::of(read, |tokenizer| tokenizer.vocab_size())
        })
    },
};

/// The files beside `tokenizer.json`: `tokenizer_config.json`, `generation_config.json`, `config.json` and
/// `chat_template.jinja`.
pub const TOKENIZER_FOLDER: Target = Target {
    name: "tokenizer_folder",
    seeds: || {
        let config = br#"{"eos_token": {"content": "<|im_end|>"}, "pad_token": "<|endoftext|>", "bos_token": null, "chat_template": [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "{{ messages[0].content }}"}], "added_tokens_decoder": {"3": {"content": "<|endoftext|>"}}}"#;
        let generation = br#"{"eos_token_id": [5, 3], "pad_token_id": 3}"#;
        let model = br#"{"eos_token_id": 5, "pad_token_id": -1, "bos_token_id": null}"#;
        let template = b"{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}";
        vec![join(&[config, generation, model, template]), join(&[b"{}", b"{}", b"{}", b""])]
    },
    slow: SLOW,
    words: &[
        "eos_token",
        "pad_token",
        "chat_template",
        "eos_token_id",
        "pad_token_id",
        "content",
        "name",
        "template",
        "default",
        "added_tokens_decoder",
        "<|im_end|>",
        "unk_token",
        "tokenizer_class",
        "additional_special_tokens",
    ],
    reader: || {
        let (folder, saved) = (Scratch::new(), Scratch::new());
        folder.put("tokenizer.json", &tokenizer_seeds()[4]);
        Box::new(move |input| {
            let [config, generation, model, template] = parts(input);
            folder.put("tokenizer_config.json", config);
            folder.put("generation_config.json", generation);
            folder.put("config.json", model);
            folder.put_if_any("chat_template.jinja", template);
            let read = Tokenizer::load(folder.path());
            if let Ok(tokenizer) = &read {
                if let Ok(template) = ChatTemplate::of(tokenizer) {
                    let _ = template.render(&chat("ink"), true, false);
                }
                // not synced for every input: that takes longer than all the rest
                if input.len() % 16 == 0 {
                    tokenizer.save(saved.path()).expect("what was loaded is saved");
                }
            }
            Verdict::of(read, |tokenizer| tokenizer.eos_ids().len())
        })
    },
};

fn chat(question: &str) -> Vec<Message> {
    vec![Message::system("Rank."), Message::user(question), Message::assistant("B"), Message::user("Sure?")]
}

/// A chat template, compiled and rendered.
pub const CHAT_TEMPLATE: Target = Target {
    name: "chat_template",
    seeds: || {
        let templates = [
            "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}{%- endif %}",
            "{%- set ns = namespace(multi=true, last=messages|length - 1) %}{%- for message in messages[::-1] %}{%- set index = (messages|length - 1) - loop.index0 %}{%- if ns.multi and message.role == 'user' and not(message.content.startswith('<tool>') and message.content.endswith('</tool>')) %}{%- set ns.multi = false %}{%- set ns.last = index %}{%- endif %}{%- endfor %}{{ ns.last }}",
            "{% macro turn(m, depth=0) %}[{{ m.role|upper }}] {{ m.content|trim }}{% if depth < 3 %}{{ turn(m, depth + 1) }}{% endif %}{% endmacro %}{{ bos_token }}{% for m in messages %}{{ turn(m) }}{% if not loop.last %}{{ eos_token }}{% endif %}{% endfor %}",
            "{{ messages|tojson(indent=2) }}{% generation %}{{ messages[-1]['content'].split('u')[0].lstrip('S').replace('a', 'b') }}{% endgeneration %}",
            "{% if messages[0].role != 'system' %}{{ raise_exception('no system') }}{% endif %}{% for i in range(10) %}{{ i * 2 // 3 % 4 ** 2 }}{% if i == 4 %}{% break %}{% endif %}{% else %}none{% endfor %}{{ [1, 2]|map('string')|join(',') }}{{ {'a': 1}.items()|list|length }}{{ 'x' ~ 1 if true else 'y' }}",
        ];
        templates.map(|template| template.as_bytes().to_vec()).to_vec()
    },
    // a template may take 5 s to compile and 5 s to render before it is refused
    slow: Duration::from_secs(11),
    words: &[
        "{%",
        "%}",
        "{{",
        "}}",
        "{#",
        "#}",
        "-%}",
        "{%-",
        "for",
        "endfor",
        "if",
        "elif",
        "else",
        "endif",
        "set",
        "in",
        "macro",
        "endmacro",
        "call",
        "endcall",
        "filter",
        "endfilter",
        "raw",
        "endraw",
        "block",
        "extends",
        "include",
        "import",
        "recursive",
        "loop(",
        "loop.",
        "range(1000000000)",
        "range(",
        "'a' * 100000000",
        "|join",
        "|map",
        "|sort",
        "|tojson",
        "|tojson(indent=1000000)",
        "|safe",
        "|length",
        "|batch(3)",
        "|slice(2)",
        "|replace('a',",
        "namespace(",
        "messages",
        "message",
        "break",
        "continue",
        "generation",
        "endgeneration",
        "is defined",
        "not",
        "and",
        "**",
        "//",
        "%",
        "~",
        "[::",
        "[:-1]",
        ".format(",
        ".split(",
        "'chat_template'",
        "{% include 'chat_template' %}",
        "{% extends 'chat_template' %}",
        "{% import 'chat_template' as t %}",
        "do",
        "with",
        "autoescape",
        "lipsum",
    ],
    reader: || {
        Box::new(|input| {
            let source = String::from_utf8_lossy(input);
            let rendered = ChatTemplate::new(&source).and_then(|template| template.render(&chat("ink"), true, false));
            Verdict::of(rendered, |text| text.len())
        })
    },
};

/// A chat whose texts come from data: question, then answer.
pub const CHAT_MESSAGES: Target = Target {
    name: "chat_messages",
    seeds: || {
        let answer = b"{\"explanation\":\"the ink\",\"recommendations\":[\"<|sid_begin|><s_a_1><s_b_3><|sid_end|>\"]}";
        vec![join(&["Item 1. caf\u{e9} <b>\u{65e5}".as_bytes(), answer]), join(&[b"A or B?", b"B"])]
    },
    slow: SLOW,
    words: &[
        "<|im_end|>",
        "<|im_start|>",
        "<|endoftext|>",
        "<think>",
        "</think>",
        "<s_a_1>",
        "<|sid_begin|>",
        "\n\n",
        "assistant",
        " ",
    ],
    reader: || {
        let tokenizer = answers::tokenizer();
        let template = ChatTemplate::of(&tokenizer).expect("the built-in template");
        let plain = template.encode_chat(&tokenizer, &chat("ink"), true).expect("a plain chat");
        Box::new(move |input| {
            let [question, answer] = parts(input);
            let [question, answer] = [question, answer].map(String::from_utf8_lossy);
            let mut chat = chat(&question);
            chat[2] = Message::assistant(answer);
            let thinking = input.len() % 2 == 0;
            let read = template.encode_chat(&tokenizer, &chat, thinking);
            if let Ok(encoded) = &read {
                let prompt = template.encode_prompt(&tokenizer, &chat[..2], thinking).expect("the chat was encoded");
                let special = |ids: &[u32]| ids.iter().filter(|&&id| tokenizer.is_special(id)).count();
                assert_eq!(special(&encoded.ids), special(&plain.ids), "a text became a control token");
                let span = &encoded.spans[0];
                assert_eq!(encoded.ids[..span.content.start], prompt, "not the prompt that generation sees");
                assert!(span.learnt().end <= encoded.ids.len());
                let _ = encoded.token_at(span, &chat[2], chat[2].content.len() / 2);
            }
            Verdict::of(read, |encoded| encoded.spans.len())
        })
    },
};
