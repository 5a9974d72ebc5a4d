//! Answers: texts of teachers and of the student, token ids, and answers kept on disk.

use gr2::rerank::{
    Answer, AnswerReader, Answers, Cached, Form, ItemSids, PromptStyle, Question, Reply, Response, Teacher,
    TeacherRequest, parse, render,
};
use gr2::text::{Message, SidShape, SidTokens, Tokenizer, train_bpe};
use serde_json::Value;

use super::shop;
use crate::{Reader, SLOW, Scratch, Target, Verdict};

const CANDIDATES: [u32; 3] = [4, 0, 2];

const WORDS: &[&str] = &[
    "explanation",
    "recommendations",
    "<|sid_begin|>",
    "<|sid_end|>",
    "<s_a_0>",
    "<s_b_0>",
    "<s_b_3>",
    "</think>",
    "<think>",
    "```",
    "```json\n",
    "\\u0000",
    "\\\"",
    "<|im_end|>",
    "[]",
    "\n",
    "\t",
    "Here is the answer:",
];

fn rendered(explanation: &str) -> String {
    let answer = Answer { explanation: explanation.into(), ranking: vec![2, 0, 1] };
    render(&answer, &CANDIDATES, &shop::item_sids()).expect("renders").text
}

fn check(answer: &Answer, sids: &ItemSids) {
    let mut places = answer.ranking.clone();
    places.sort_unstable();
    assert_eq!(places, [0, 1, 2], "an answer that does not rank each candidate once");
    let text = render(answer, &CANDIDATES, sids).expect("an answer renders").text;
    assert_eq!(parse(&text, &CANDIDATES, sids, Form::Strict).as_ref(), Ok(answer), "not what was written");
}

fn reader(form: Form) -> Reader {
    let sids = shop::item_sids();
    Box::new(move |input| {
        let text = String::from_utf8_lossy(input);
        let read = parse(&text, &CANDIDATES, &sids, form);
        if let Ok(answer) = &read {
            check(answer, &sids);
        }
        Verdict::of(read, |answer| answer.ranking[0])
    })
}

/// What the student is held to.
pub const STRICT: Target = Target {
    name: "answer_strict",
    seeds: || ["ink, then pens", "日本語 \"q\" \\ \n", ""].map(|text| rendered(text).into_bytes()).to_vec(),
    slow: SLOW,
    words: WORDS,
    reader: || reader(Form::Strict),
};

/// What chat models write.
pub const LENIENT: Target = Target {
    name: "answer_lenient",
    seeds: || {
        let answer = rendered("ink");
        let seeds = [
            format!("<think>\nlong {{\"thoughts\": []}}\n</think>\n\n{answer}"),
            format!("```json\n{answer}\n```"),
            format!("Sure! Here it is:\n```\n{answer}\n```\nHope that helps."),
            format!("{answer} extra"),
            answer.replace("ink", "two\nlines\tand a tab"),
            answer,
        ];
        seeds.map(String::into_bytes).to_vec()
    },
    slow: SLOW,
    words: WORDS,
    reader: || reader(Form::Lenient),
};

/// A small tokenizer with semantic ids of the shop's shape.
pub fn tokenizer() -> Tokenizer {
    let mut tokenizer = train_bpe(["the ink and the pen"; 3], 270).expect("trains");
    SidTokens::add(&mut tokenizer, SidShape::new(2, 4).expect("a shape")).expect("adds");
    tokenizer
}

/// Generated token ids, two bytes each.
pub const TOKENS: Target = Target {
    name: "answer_tokens",
    seeds: || {
        let tokenizer = tokenizer();
        let texts = [rendered("the ink") + "<|im_end|>", rendered("") + "<|im_end|><|endoftext|>"];
        let bytes = |ids: Vec<u32>| ids.iter().flat_map(|&id| (id as u16).to_le_bytes()).collect();
        texts.map(|text| bytes(tokenizer.encode_rendered(&text).expect("encodes"))).to_vec()
    },
    slow: SLOW,
    words: &["\0\0", "\x02\0", "\x01\0", "\0\x01"],
    reader: || {
        let (tokenizer, sids) = (tokenizer(), shop::item_sids());
        Box::new(move |input| {
            let ids: Vec<u32> = input.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]]).into()).collect();
            let answers = AnswerReader::new(&tokenizer, &sids).expect("the shapes agree");
            let read = answers.parse(&ids, &CANDIDATES);
            if let Ok(answer) = &read {
                check(answer, &sids);
            }
            Verdict::of(read, |answer| answer.ranking[0])
        })
    },
};

/// A teacher who has nothing to say that is not kept.
struct Mute;

impl Teacher for Mute {
    fn name(&self) -> &str {
        "mute"
    }

    fn parameters(&self) -> Value {
        Value::Null
    }

    fn style(&self) -> PromptStyle {
        PromptStyle::Student
    }

    fn form(&self) -> Form {
        Form::Lenient
    }

    fn parallel(&self) -> usize {
        1
    }

    fn ask(&self, _: &TeacherRequest, _: u32) -> gr2::Result<Response> {
        Ok(Response::Answered(mute()))
    }
}

fn mute() -> Reply {
    Reply {
        text: String::new(),
        truncated: false,
        refused: false,
        prompt_tokens: None,
        completion_tokens: Some(0),
        cached: false,
    }
}

/// An answer kept on disk, damaged or not.
pub const CACHE: Target = Target {
    name: "teacher_cache",
    seeds: || {
        let kept =
            br#"{"text":"{\"explanation\":\"ink\"}","truncated":false,"prompt_tokens":12,"completion_tokens":null}"#;
        vec![kept.to_vec(), serde_json::to_vec(&mute()).expect("serialises")]
    },
    slow: SLOW,
    words: &["text", "truncated", "refused", "prompt_tokens", "completion_tokens", "cached"],
    reader: || {
        let folder = Scratch::new();
        let cached = Cached::new(Mute, Answers::open(folder.path(), &[]).expect("a folder"));
        let request = || TeacherRequest {
            slate: 0,
            question: Question { user: 0, history: &[0], candidates: &CANDIDATES },
            shown: None,
            messages: vec![Message::user("rank")],
        };
        cached.ask(&request(), 0).expect("answers");
        let kept = only_file(folder.path());
        Box::new(move |input| {
            let _ = &folder;
            std::fs::write(&kept, input).expect("writes");
            match cached.ask(&request(), 0) {
                Ok(Response::Answered(reply)) if reply.cached => Verdict::Accepted(reply.text.len() as u64),
                Ok(Response::Answered(_)) => Verdict::Refused("damaged".into()),
                Ok(other) => panic!("not asked again: {other:?}"),
                Err(error) => Verdict::Refused(error.to_string()),
            }
        })
    },
};

/// The one file below a folder.
fn only_file(folder: &std::path::Path) -> std::path::PathBuf {
    let mut entries = std::fs::read_dir(folder).expect("a folder");
    let path = entries.next().expect("an entry").expect("an entry").path();
    if path.is_dir() { only_file(&path) } else { path }
}
