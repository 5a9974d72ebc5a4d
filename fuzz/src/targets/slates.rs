//! Slates of a user's own ranker, and the slates and traces of a run.

use gr2::data::Part;
use gr2::rerank::{Answer, Slate, Trace, import_slates, read_slates, read_traces, write_slates, write_traces};

use super::shop::{self, ITEMS};
use crate::{SLOW, Scratch, Target, Verdict};

fn slates() -> Vec<Slate> {
    let slate = |user, history: &[u32], candidates: &[u32], target| Slate {
        user,
        history: history.to_vec(),
        candidates: candidates.to_vec(),
        target,
    };
    vec![slate(0, &[0, 1], &[2, 3, 4], Some(3)), slate(1, &[4], &[3, 0], Some(1)), slate(2, &[2], &[1, 0, 3], Some(0))]
}

/// Slates of a user's own ranker.
pub const IMPORT: Target = Target {
    name: "slates_import",
    seeds: || {
        let file = br#"{"user": "ann", "candidates": ["B02", 3, "B04"], "scores": [0.5, -1, 2e3]}
{"user": "bob", "candidates": [1, 2], "history": [4, "B03"], "target": "B01"}
{"user": "7", "candidates": [3, 1], "target": null}
"#;
        vec![file.to_vec(), file[..79].to_vec(), super::logs::gzip(file)]
    },
    slow: SLOW,
    words: &["user", "candidates", "scores", "history", "target", "ann", "bob", "B00", "NaN", "null", "[]"],
    reader: || {
        let folder = Scratch::new();
        let dataset = shop::dataset();
        Box::new(move |input| {
            let path = folder.put("slates.jsonl", input);
            let mut last = Verdict::Accepted(0);
            for (part, size) in [(Part::Validation, 2), (Part::Test, 10)] {
                let read = import_slates(&path, &dataset, part, size);
                for slate in read.iter().flat_map(|imported| &imported.slates) {
                    assert_eq!(slate.problem(ITEMS as usize), None);
                    assert!(slate.candidates.len() <= size);
                }
                last = Verdict::of(read, |imported| imported.slates.len());
            }
            last
        })
    },
};

/// The slates of a run.
pub const SLATES_JSONL: Target = Target {
    name: "slates_jsonl",
    seeds: || {
        let folder = Scratch::new();
        let path = folder.path().join("slates.jsonl");
        write_slates(&path, &slates()).expect("writes");
        vec![std::fs::read(path).expect("was written")]
    },
    slow: SLOW,
    words: &["user", "candidates", "history", "target", "4", "5", "[]"],
    reader: || {
        let folder = Scratch::new();
        Box::new(move |input| {
            let path = folder.put("slates.jsonl", input);
            let read = read_slates(&path, ITEMS as usize, false);
            for slate in read.iter().flatten() {
                assert_eq!(slate.problem(ITEMS as usize), None);
                slate.rank_pre();
                slate.question(1);
            }
            let with_target = read_slates(&path, ITEMS as usize, true);
            assert!(read.is_ok() || with_target.is_err(), "the stricter reading accepts more");
            Verdict::of(read, |slates| slates.len())
        })
    },
};

/// The traces of a run.
pub const TRACES_JSONL: Target = Target {
    name: "traces_jsonl",
    seeds: || {
        let folder = Scratch::new();
        let path = folder.path().join("traces.jsonl");
        let trace = |slate: u32, ranking: &[usize]| Trace {
            slate,
            user: slate,
            answer: Answer { explanation: "ink \"and\" <pen>".into(), ranking: ranking.to_vec() },
            attempts: 1,
            teacher: "scripted".into(),
        };
        write_traces(&path, &[trace(0, &[1, 0, 2]), trace(1, &[1, 0]), trace(2, &[2, 1, 0])]).expect("writes");
        vec![std::fs::read(path).expect("was written")]
    },
    slow: SLOW,
    words: &[
        "slate",
        "user",
        "answer",
        "explanation",
        "ranking",
        "attempts",
        "teacher",
        "[0,1]",
        "[0,1,2]",
        "18446744073709551615",
    ],
    reader: || {
        let folder = Scratch::new();
        let slates = slates();
        Box::new(move |input| {
            let read = read_traces(&folder.put("traces.jsonl", input), &slates);
            for trace in read.iter().flatten() {
                let candidates = slates[trace.slate as usize].candidates.len();
                assert!((0..candidates).all(|at| trace.answer.rank_of(at).is_some()), "a candidate without a place");
            }
            Verdict::of(read, |traces| traces.len())
        })
    },
};
