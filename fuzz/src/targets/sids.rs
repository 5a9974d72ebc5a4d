//! Semantic ids: of a run, of others, and as text.

use gr2::sid::{IndexJson, SemanticIds, Trie, read_index_json, read_jsonl, write_index_json, write_jsonl};
use gr2::text::SidShape;

use super::shop;
use crate::{SLOW, Scratch, Target, Verdict};

fn check(ids: &SemanticIds) {
    let below = |code: &u16| usize::from(*code) < ids.codes_per_level();
    assert!(ids.codes().iter().all(below), "a code that its level does not have");
    if ids.items() > 0 {
        let trie = Trie::new(ids, |_| false).expect("there are items");
        assert!(trie.owner(ids.get(0)).is_some(), "an id of which no item is found");
    }
}

/// `X.index.json`, semantic ids that others made.
pub const INDEX_JSON: Target = Target {
    name: "index_json",
    seeds: || {
        let folder = Scratch::new();
        let path = folder.path().join("X.index.json");
        write_index_json(&path, &shop::dataset().catalogue, &shop::sids()).expect("writes");
        let written = std::fs::read_to_string(path).expect("was written");
        let other = written.replace("<a_", "<x_").replace("<b_", "<yy_");
        vec![written.replace("<a_", "<s_a_").into_bytes(), other.into_bytes(), written.into_bytes()]
    },
    slow: SLOW,
    words: &[
        "<a_0>",
        "<b_3>",
        "<s_a_1>",
        "<c_0>",
        "<d_255>",
        "B00",
        "B04",
        "<a_",
        ">",
        "<a_99999999999999999999>",
        "<_1>",
        "<a_-1>",
    ],
    reader: || {
        let folder = Scratch::new();
        let catalogue = shop::dataset().catalogue;
        Box::new(move |input| {
            let path = folder.put("X.index.json", input);
            let read = read_index_json(&path, &catalogue);
            if let Ok(IndexJson { ids, .. }) = &read {
                assert_eq!(ids.items(), catalogue.len());
                check(ids);
            }
            Verdict::of(read, |read| 100 * read.ids.levels() + read.unknown)
        })
    },
};

/// `sids.jsonl`.
pub const SIDS_JSONL: Target = Target {
    name: "sids_jsonl",
    seeds: || {
        let folder = Scratch::new();
        let path = folder.path().join("sids.jsonl");
        write_jsonl(&path, &shop::sids()).expect("writes");
        vec![std::fs::read(path).expect("was written")]
    },
    slow: SLOW,
    words: &[
        "levels",
        "codes_per_level",
        "items",
        "item",
        "codes",
        "{\"item\":5,\"codes\":[0,0]}\n",
        "26",
        "27",
        "65536",
    ],
    reader: || {
        let folder = Scratch::new();
        Box::new(move |input| {
            let read = read_jsonl(&folder.put("sids.jsonl", input));
            read.iter().for_each(check);
            Verdict::of(read, |ids| ids.items())
        })
    },
};

/// One semantic id as text.
pub const SEMANTIC_ID: Target = Target {
    name: "semantic_id",
    seeds: || {
        let texts = ["<|sid_begin|><s_a_0><s_b_3><|sid_end|>", "<|sid_begin|><s_a_1><s_b_2><s_c_3><|sid_end|>"];
        texts.map(|text| text.as_bytes().to_vec()).to_vec()
    },
    slow: SLOW,
    words: &["<|sid_begin|>", "<|sid_end|>", "<s_a_0>", "<s_b_0>", "<s_c_1>", "<s_", "_", ">", "65535", "65536", "00"],
    reader: || {
        let shape = SidShape::new(2, 4).expect("a shape");
        Box::new(move |input| {
            let text = String::from_utf8_lossy(input);
            let read = shape.parse(&text);
            if let Ok(codes) = &read {
                assert_eq!(shape.text(codes).expect("it was read"), text, "two spellings of one id");
            }
            Verdict::of(read, |codes| usize::from(codes[0]))
        })
    },
};
