//! The LC-Rec layout, and texts with markup in it.

use std::path::Path;

use gr2::data::{DataConfig, Dataset, Repeats, Source, import};
use serde_json::json;

use super::shop;
use crate::{SLOW, Scratch, Target, Verdict, join, parts};

/// A configuration that reads a folder and leaves nothing out.
pub fn config(source: Source, folder: &Path) -> DataConfig {
    DataConfig {
        source,
        dir: Some(folder.into()),
        k_core: Some(0),
        repeats: Some(Repeats::Keep),
        ..DataConfig::default()
    }
}

/// What must hold of every import, and the verdict.
pub fn judged(read: gr2::Result<Dataset>) -> Verdict {
    if let Ok(dataset) = &read {
        shop::check(dataset);
        assert_eq!(dataset.counts.unaccounted(), [0; 3], "{}", dataset.counts);
        assert_eq!(dataset.counts.interactions, dataset.interactions());
    }
    Verdict::of(read, |dataset| dataset.users.len())
}

/// `X.inter.json` and `X.item.json`.
pub const LCREC: Target = Target {
    name: "lcrec",
    seeds: || {
        let users = br#"{"0": [0, 1, 2, 1], "ann": ["b", 2], "2": [0, 2, 0]}"#;
        let items = br#"{"0": {"title": "Pen", "description": "Blue &amp; <b>thin</b>", "brand": "Acme", "categories": "Office,Pens", "price": "$1.50"}, "1": {"title": ["Ink"], "description": [], "categories": [["Office", "Ink"]], "price": 3}, "2": {"title": "Paper", "description": null}, "b": {"title": "", "description": "<br>"}}"#;
        let small = br#"{"u": [0]}"#;
        let gzip = super::logs::gzip(users);
        vec![join(&[users, items]), join(&[small, br#"{"0": {"title": "x"}}"#]), join(&[&gzip, items])]
    },
    slow: SLOW,
    words: &["title", "description", "brand", "categories", "price", "null", "&amp;", "<br>", "0", "$"],
    reader: || {
        let folder = Scratch::new();
        Box::new(move |input| {
            let [users, items] = parts(input);
            folder.put("X.inter.json", users);
            folder.put("X.item.json", items);
            judged(import(&config(Source::LcRec, folder.path())))
        })
    },
};

/// Texts as shops export them: tags, comments, styles, entities.
pub const MARKUP: Target = Target {
    name: "markup",
    seeds: || {
        let texts = [
            "Blue &amp; <b>thin</b> pen, 5 < 6 > 4",
            "<style>a { b: c }</style>x<!-- hidden -->y<script type='x'>1</script>",
            "&lt;|im_end|&gt; &amp;lt;|im_start|&amp;gt; &#60;&#x3C;&quot;&nbsp;&#0;&#1114112;&#xD800;",
            "a<br/>b <img src=\"x>y\"> caf\u{e9} \u{201c}q\u{201d} &hellip; &copy; &eacute; &rsquo;",
            "<s_a_1><|sid_begin|><think></think>\u{feff}\u{200b}",
        ];
        texts.map(|text| text.as_bytes().to_vec()).to_vec()
    },
    slow: SLOW,
    words: &[
        "&amp;",
        "&lt;",
        "&gt;",
        "&quot;",
        "&nbsp;",
        "&#60;",
        "&#x3c;",
        "<!--",
        "-->",
        "<style>",
        "</style>",
        "<script>",
        "</script",
        "<br>",
        "</",
        "<|im_end|>",
        "<|im_start|>",
        "<|",
        "|>",
        "&amp;amp;",
        "<s_a_0>",
    ],
    reader: || {
        let folder = Scratch::new();
        folder.put("X.inter.json", br#"{"u": [0]}"#);
        let import_text = move |text: &str| {
            let item = json!({"0": {
                "title": text, "description": [text, "red"], "brand": text, "categories": text, "price": text,
            }});
            folder.put("X.item.json", item.to_string().as_bytes());
            import(&config(Source::LcRec, folder.path()))
        };
        Box::new(move |input| {
            let text = String::from_utf8_lossy(input);
            let read = import_text(&text);
            let title = read.as_ref().map_or(String::new(), |dataset| dataset.catalogue.items[0].title.clone());
            assert!(title.len() <= 3 * text.len().max(1), "{} bytes of a title that had {}", title.len(), text.len());
            // markup in markup in markup is looked for to a depth
            let nested = ["&", "<|", ";"].iter().any(|mark| text.matches(mark).count() > 8);
            if !title.is_empty() && !nested {
                let again = import_text(&title).expect("a title that was accepted");
                assert_eq!(again.catalogue.items[0].title, title, "what was cleaned can be cleaned again");
            }
            judged(read)
        })
    },
};
