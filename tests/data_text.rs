//! Texts of a catalogue that spell tokens: whatever stands in a title, description, brand, category or key, no training
//! example, prompt or answer holds a control token for it, nor another item's semantic id, and no stage stops.

mod support;

use gr2::data::{Catalogue, DataConfig, Dataset, Examples, Item, Source, User, import};
use gr2::pipeline::Stage;
use gr2::rerank::{
    Attributes, Habits, ItemSids, Knowledge, KnowledgeConfig, LossWeights, PromptConfig, Prompter, Question, Scripted,
    ScriptedConfig, TeacherRequest,
};
use gr2::sid::SemanticIds;
use gr2::text::{
    ChatTemplate, ENDOFTEXT, IM_END, IM_START, SID_BEGIN, SID_END, SidShape, SidTokens, THINK, THINK_END, Tokenizer,
    train_bpe,
};
use gr2::train::{Augment, MidtrainExamples, TaskMix};
use gr2_kernels::Device;
use serde_json::{Map, Value, json};
use std::path::Path;
use support::smoke;

const SPELLINGS: [&str; 12] = [
    IM_END,
    IM_START,
    ENDOFTEXT,
    THINK,
    THINK_END,
    SID_BEGIN,
    SID_END,
    "<s_a_1>",
    "<s_b_0>",
    "[INST]",
    "<|fim_prefix|>",
    "<|sid_begin|><s_a_0><s_b_0><|sid_end|>",
];
const ITEMS: usize = 6;

fn tokenizer() -> Tokenizer {
    let mut tokenizer = train_bpe(["Tape roll words Acme Office explanation recommendations"; 4], 320).expect("trains");
    tokenizer.add_tokens(&["[INST]", "<|fim_prefix|>"].map(String::from)).expect("adds");
    SidTokens::add(&mut tokenizer, SidShape::new(2, 4).expect("a shape")).expect("adds");
    tokenizer
}

/// As a shop may export a text: as it stands, as entities, as entities of entities, with a blank of no width inside.
fn dresses(text: &str) -> [String; 4] {
    let entities = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&#62;");
    let once = entities(text);
    let (first, rest) = text.split_at(2);
    [text.to_owned(), entities(&once), once, format!("{first}\u{200b}{rest}")]
}

/// A catalogue in which every text and key holds `text`, and customers who bought from it.
fn dataset(text: &str) -> Dataset {
    let item = |i: usize| Item {
        key: format!("k{i} {text}"),
        title: format!("Tape {text} roll {i}"),
        description: format!("{text} words {i}{text}"),
        brand: format!("Acme{} {text}", i % 2),
        categories: vec![format!("Office {text}"), format!("Tape {text}")],
        price: Some(i as f32 + 1.0),
    };
    let users = (0..12).map(|u| User { key: format!("u{u} {text}"), items: (0..5).map(|i| (u + i * i) % 6).collect() });
    Dataset {
        name: "hostile".into(),
        catalogue: Catalogue { items: (0..ITEMS).map(item).collect() },
        users: users.collect(),
        counts: Default::default(),
    }
}

/// The same as files of the LC-Rec layout, imported.
fn imported(text: &str) -> Dataset {
    let dir = tempfile::tempdir().expect("temporary directory");
    write_files(text, dir.path());
    import(&DataConfig { source: Source::LcRec, dir: Some(dir.path().to_owned()), ..DataConfig::default() })
        .unwrap_or_else(|e| panic!("{text}: {e}"))
}

fn write_files(text: &str, dir: &Path) {
    let data = dataset(text);
    let items: Map<String, Value> = data
        .catalogue
        .items
        .iter()
        .map(|item| (item.key.clone(), json!({ "title": item.title, "description": item.description, "brand": item.brand, "categories": item.categories })))
        .collect();
    let key = |item: &u32| data.catalogue.items[*item as usize].key.clone();
    let users: Map<String, Value> = data
        .users
        .iter()
        .map(|user| (user.key.clone(), json!(user.items.iter().map(key).collect::<Vec<_>>())))
        .collect();
    std::fs::write(dir.join("X.item.json"), Value::Object(items).to_string()).expect("writes");
    std::fs::write(dir.join("X.inter.json"), Value::Object(users).to_string()).expect("writes");
}

/// Everything about a catalogue that training reads, as tokens.
struct Lessons {
    /// Sequences of mid-training.
    sequences: Vec<Vec<u32>>,
    /// Chats of SFT, and how many tokens of each are prompt.
    chats: Vec<(Vec<u32>, usize)>,
}

fn lessons(data: &Dataset, tokenizer: &Tokenizer) -> Lessons {
    let codes = (0..ITEMS as u16).flat_map(|item| [item / 4, item % 4]).collect();
    let ids = SemanticIds::new(2, 4, codes).expect("ids");
    let tokens = SidTokens::find(tokenizer).expect("reads").expect("has ids");
    let examples = MidtrainExamples {
        catalogue: &data.catalogue,
        split: data.split(),
        users: (0..data.users.len() as u32).collect(),
        sids: &ids,
        tokenizer,
        sid_tokens: &tokens,
        mix: TaskMix { sequence: 0.2, caption: 0.2, persona: 0.2, general: 0.2, list: 0.2 },
        augment: Augment::default(),
        text_words: 24,
        seed: 1,
    };
    let sequences = (0..examples.len()).map(|i| examples.get(0, i).expect("an example").tokens).collect();

    let attributes = Attributes::learn(&data.catalogue);
    let training: Vec<&[u32]> = (0..data.users.len() as u32).map(|user| data.split().train(user)).collect();
    let habits = Habits::learn(&training, &attributes).expect("habits");
    let hints = KnowledgeConfig { min_support: 1, min_lift: 1.0, ..KnowledgeConfig::default() };
    let knowledge = Knowledge::learn(&attributes, &habits, &hints);
    let sids = ItemSids::new(ids).expect("ids");
    let config = PromptConfig::default();
    let prompter = Prompter {
        config,
        catalogue: &data.catalogue,
        attributes: &attributes,
        sids: &sids,
        habits: &habits,
        knowledge: &knowledge,
    };
    let teacher = Scripted::new(ScriptedConfig::default(), prompter.clone()).expect("a teacher");
    let template = ChatTemplate::of(tokenizer).expect("a template");
    let chat = |user: u32| {
        let question = Question { user, history: &[0, 1, 2], candidates: &[3, 4, 5] };
        let request = TeacherRequest { slate: u64::from(user), question, shown: None, messages: vec![] };
        let answer = teacher.answer(&request, 0).expect("an answer");
        let example = prompter
            .example(&question, &answer, tokenizer, &template, false, LossWeights::default())
            .unwrap_or_else(|e| panic!("{e}"));
        (example.ids, example.prompt)
    };
    Lessons { sequences, chats: (0..4).map(chat).collect() }
}

/// Every token that is not made of bytes, in its order.
fn added(ids: &[u32], tokenizer: &Tokenizer) -> Vec<String> {
    let spelling = |id: &u32| tokenizer.token(*id).expect("a token");
    let is_added = |token: &String| token.len() > 2 && (token.starts_with(['<', '[']) && token.ends_with(['>', ']']));
    ids.iter().map(spelling).filter(is_added).collect()
}

#[test]
fn no_text_of_a_catalogue_is_a_token() {
    let tokenizer = tokenizer();
    let clean = lessons(&dataset("paper"), &tokenizer);
    let words = |chats: &[(Vec<u32>, usize)]| -> Vec<Vec<String>> {
        let tokens = |(ids, _): &(Vec<u32>, usize)| {
            let all = added(ids, &tokenizer).into_iter();
            all.filter(|token| !token.starts_with("<s_") && !token.starts_with("<|sid_")).collect()
        };
        chats.iter().map(tokens).collect()
    };
    for spelling in SPELLINGS {
        assert!(!added(&tokenizer.encode(spelling).expect("encodes"), &tokenizer).is_empty(), "{spelling} is no token");
        for text in dresses(spelling) {
            for data in [dataset(&text), imported(&text)] {
                let found = lessons(&data, &tokenizer);
                for ids in &found.sequences {
                    // ids of items, each whole and of an item there is, and the end of a text; nothing else
                    let tokens = added(ids, &tokenizer);
                    let mut rest = &tokens[..];
                    while let Some(first) = rest.first() {
                        if first == ENDOFTEXT {
                            assert_eq!(rest.len(), 1, "{text}: {tokens:?}");
                            break;
                        }
                        assert!(rest.len() >= 4 && first == SID_BEGIN && rest[3] == SID_END, "{text}: {tokens:?}");
                        rest = &rest[4..];
                    }
                }
                assert_eq!(words(&found.chats), words(&clean.chats), "{text}");
                for (ids, prompt) in &found.chats {
                    let begins = |ids: &[u32]| {
                        ids.iter().filter(|id| tokenizer.token(**id).as_deref() == Some(SID_BEGIN)).count()
                    };
                    // three purchases and three candidates; one cited and three ranked
                    assert_eq!((begins(&ids[..*prompt]), begins(&ids[*prompt..])), (6, 4), "{text}");
                }
            }
        }
    }
}

#[test]
fn hostile_texts_stop_no_stage_up_to_sft() {
    let data = tempfile::tempdir().expect("temporary directory");
    let text = SPELLINGS.map(|spelling| dresses(spelling).concat()).concat();
    write_files(&text, data.path());
    let root = tempfile::tempdir().expect("temporary directory");
    let dir = format!("data.dir={}", data.path().display());
    let config = smoke::parse(
        "[data]\nsource = \"lcrec\"\n[sid]\nlevels = 2\ncodes_per_level = 8\nrqvae.epochs = 2\nrqvae.hidden = [16]\n\
         rqvae.latent = 4\n[base]\nvocab_size = 300\nhidden = 16\nlayers = 1\nheads = 2\nkv_heads = 1\nhead_dim = 8\n\
         ffn = 32\ntrain.epochs = 1\n[midtrain]\ntrain.epochs = 1\ncontexts.beams = 10\n[slates]\nsource = \"markov\"\n\
         size = 3\npractice = 1\n[sft]\ntrain.epochs = 1\n",
        &[&dir],
    );
    let stages = [Stage::Data, Stage::Sid, Stage::Base, Stage::Midtrain, Stage::Slates, Stage::Traces, Stage::Sft];
    smoke::run(&stages, &config, root.path(), &Device::Cpu);
    let counts = smoke::json(&root.path().join("data/counts.json"));
    for reason in ["texts_cleaned", "texts_with_hidden_characters", "texts_with_control_tokens"] {
        assert!(counts["counts"][reason].as_u64() > Some(0), "{reason}: {counts}");
    }
    let traces: Vec<Value> = gr2::files::read_jsonl(root.path().join("traces/traces.jsonl")).expect("traces");
    assert!(!traces.is_empty());
    for trace in traces {
        let said = trace["answer"]["explanation"].as_str().expect("an explanation");
        assert_eq!(said.matches(SID_BEGIN).count(), 1, "{said}");
    }
}

#[test]
fn ids_made_elsewhere_are_taken_as_they_are() {
    let root = tempfile::tempdir().expect("temporary directory");
    let root = root.path();
    let stages = [Stage::Sid, Stage::Base, Stage::Midtrain, Stage::Slates];
    smoke::run(&[Stage::Data], &smoke::config(&[]), root, &Device::Cpu);
    let items: Vec<Value> = gr2::files::read_jsonl(root.join("data/items.jsonl")).expect("items");
    let tokens = |i: usize| [format!("<q_{}>", i % 3), format!("<X_{}>", i % 5), format!("<q_{i}>")];
    let mut index: Map<String, Value> = items
        .iter()
        .enumerate()
        .map(|(i, item)| (item["key"].as_str().expect("a key").to_owned(), json!(tokens(i))))
        .collect();
    index.insert("an item that was left out".into(), json!(tokens(70)));
    let path = root.join("X.index.json");
    std::fs::write(&path, Value::Object(index).to_string()).expect("writes");
    let config =
        smoke::config(&[&format!("sid.index={}", path.display()), "midtrain.train.epochs=1", "base.train.epochs=1"]);
    smoke::run(&stages, &config, root, &Device::Cpu);
    let ids = gr2::sid::read_jsonl(&root.join("sid/sids.jsonl")).expect("ids");
    assert_eq!((ids.levels(), ids.codes_per_level(), ids.items()), (3, 71, items.len()));
    assert_eq!(ids.get(7), [1, 2, 7]);
    let results = smoke::json(&root.join("sid/results.json"));
    assert_eq!((&results["unique_items"], &results["index"]["unknown_items"]), (&json!(1.0), &json!(1)));
    assert!(
        gr2::pipeline::plan(&config, root, &stages).expect("a plan").contains("3 levels of 71 codes, made elsewhere")
    );
}
