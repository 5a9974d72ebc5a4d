//! The three releases of Amazon Reviews.

use gr2::data::{DataConfig, Source, import};

use super::lcrec::{config, judged};
use crate::{Reader, SLOW, Scratch, Target, join, parts};

/// Reviews and metadata under the names that a release gives them, in one folder.
fn reader(source: Source, reviews: &'static str) -> Reader {
    let folder = Scratch::new();
    let config = DataConfig {
        reviews: Some(reviews.into()),
        metadata: Some("meta_X.json".into()),
        ..config(source, folder.path())
    };
    Box::new(move |input| {
        let [reviews_text, metadata] = parts(input);
        folder.put(reviews, reviews_text);
        folder.put("meta_X.json", metadata);
        judged(import(&config))
    })
}

const WORDS: &[&str] = &[
    "reviewerID",
    "asin",
    "unixReviewTime",
    "title",
    "description",
    "brand",
    "categories",
    "category",
    "feature",
    "features",
    "price",
    "details",
    "Brand",
    "store",
    "main_category",
    "user_id",
    "parent_asin",
    "timestamp",
    "None",
    "u'",
    "\\u",
    "\\x41",
    "\\N{DASH}",
    "NaN",
    "from ",
    "$1,024.00 - $2,000.00",
    "12,99",
    "&amp;",
    "<span id",
];

const REVIEWS: &[u8] =
    br#"{"reviewerID": "A1", "asin": "p", "overall": 5.0, "unixReviewTime": 1369699200, "helpful": [0, 0]}
{"reviewerID": "A1", "asin": "q", "unixReviewTime": 3}
{"reviewerID": "B", "asin": "p", "unixReviewTime": 1369699200, "style": {"Size:": " L"}}
{"reviewerID": "B", "asin": "r", "unixReviewTime": 7}
"#;

const METADATA_2014: &[u8] = br#"{'asin': 'p', 'description': "It's &amp; was", 'title': 'Bio L\'Active', 'related': {'also_bought': ['1']}, 'salesRank': {'Beauty': 461765}, 'categories': [['Beauty', 'Skin Care']]}
{'asin': 'q', 'title': u'Mass \u2013 Age \x41\101', 'price': 19.98, 'brand': None, 'categories': [('Beauty', 'Hair'), ['Men']]}
{"asin": "r", "title": r'raw\n', "price": 12L, 'x': -1.5e3, 'y': (1,), 'z': True}
"#;

/// JSON reviews, metadata as Python literals.
pub const AMAZON2014: Target = Target {
    name: "amazon2014",
    seeds: || vec![join(&[REVIEWS, METADATA_2014])],
    slow: SLOW,
    words: WORDS,
    reader: || reader(Source::Amazon2014, "reviews_X_5.json"),
};

/// JSON lines, titles of broken pages.
pub const AMAZON2018: Target = Target {
    name: "amazon2018",
    seeds: || {
        let metadata = br#"{"category": ["Toys", "Games &amp; Puzzles", "</span></span>"], "description": ["Fun.", "For all."], "title": "Puzzle", "brand": "Acme", "price": "$12.99", "feature": ["not used"], "asin": "p"}
{"category": [], "description": [], "title": "<span id=\"productTitle\" class=\"a\">Kite", "brand": "", "asin": "q"}
{"category": "a,b", "description": "", "title": "Ball", "feature": ["Round", "Red"], "price": ".a-box-inner{background-color:#fff}", "asin": "r", "rank": NaN}
"#;
        let fine = br#"{"category": [], "description": "", "title": "Ball", "feature": ["Round", "Red"], "price": 1, "asin": "r"}
"#;
        vec![join(&[REVIEWS, metadata]), join(&[REVIEWS, fine])]
    },
    slow: SLOW,
    words: WORDS,
    reader: || reader(Source::Amazon2018, "X_5.json"),
};

/// JSON lines keyed by `parent_asin`, details of several kinds.
pub const AMAZON2023: Target = Target {
    name: "amazon2023",
    seeds: || {
        let reviews = br#"{"rating": 5.0, "title": "t", "text": "x", "asin": "c", "parent_asin": "p", "user_id": "A", "timestamp": 1588687728923, "verified_purchase": true}
{"parent_asin": "q", "user_id": "A", "timestamp": 2}
{"parent_asin": "p", "user_id": "B", "timestamp": 1588687728923.0}
"#;
        let whole = br#"{"parent_asin": "p", "user_id": "A", "timestamp": 1588687728923}
{"parent_asin": "q", "user_id": "A", "timestamp": 2}
"#;
        let metadata = br#"{"main_category": "All Beauty", "title": "Soap", "features": ["Soft"], "description": [], "price": 9.99, "store": "Acme", "categories": ["Beauty"], "details": {"Brand": "B", "Size": "1"}, "parent_asin": "p"}
{"main_category": "Toys", "title": "Kite", "features": [], "description": ["Flies"], "price": "from 14.99", "store": null, "categories": [], "details": "{\"Brand\": \"C\"}", "parent_asin": "q"}
"#;
        vec![join(&[whole, metadata]), join(&[reviews, metadata])]
    },
    slow: SLOW,
    words: WORDS,
    reader: || reader(Source::Amazon2023, "X.jsonl"),
};

/// One Python literal, as a metadata record of an item that was bought.
pub const PYTHON_LITERAL: Target = Target {
    name: "python_literal",
    seeds: || METADATA_2014.split_inclusive(|c| *c == b'\n').map(<[u8]>::to_vec).collect(),
    slow: SLOW,
    words: &[
        "u'",
        "b\"",
        "r'",
        "None",
        "True",
        "\\u00e9",
        "\\U0001F600",
        "\\x",
        "\\N{",
        "\\777",
        "\\\n",
        "1_0",
        "1e9",
        "L",
        "{}",
        "()",
        "(,)",
        "'asin': 'p',",
        "\\ud83d\\ude00",
    ],
    reader: || {
        let mut read = reader(Source::Amazon2014, "reviews_X_5.json");
        let prefix = join(&[REVIEWS, b""]);
        Box::new(move |input| read(&[&prefix, input].concat()))
    },
};

/// Ratings without texts, in the order of columns of each release; the first line says which.
pub const RATINGS_CSV: Target = Target {
    name: "ratings_csv",
    seeds: || {
        let with_header = b"2023\nuser_id,parent_asin,rating,timestamp\nA,p,5.0,1588687728923\nA,q,1.0,2\nB,p,3.0,7\n";
        let of_2018 = b"2018\np,A,5.0,1369699200\nq,A,4.0,3\np,\"B\",1.0,7\n";
        let of_2014 = b"2014\nA,p,5.0,1369699200\nA,q,4.0,3.0\nB,p,1.0,7e3\n";
        vec![with_header.to_vec(), of_2018.to_vec(), of_2014.to_vec(), b"2014\nA,p,5.0,13\n".to_vec()]
    },
    slow: SLOW,
    words: &[
        "user_id,parent_asin,rating,timestamp",
        "A,p,5.0,1",
        "\"",
        "\"\"",
        ",",
        "\r\n",
        ";",
        "\t",
        "1e9",
        "-1",
        ".5",
    ],
    reader: || {
        let metadata = br#"{"asin": "p", "parent_asin": "p", "title": "Soap"}
{"asin": "q", "parent_asin": "q", "title": "Kite"}
"#;
        let [mut of_2014, mut of_2018, mut of_2023] =
            [Source::Amazon2014, Source::Amazon2018, Source::Amazon2023].map(|source| reader(source, "X.csv"));
        Box::new(move |input| {
            let line = input.iter().position(|c| *c == b'\n').unwrap_or(input.len());
            let rows = &input[(line + 1).min(input.len())..];
            let read = match &input[..line] {
                b"2014" => &mut of_2014,
                b"2018" => &mut of_2018,
                _ => &mut of_2023,
            };
            read(&join(&[rows, metadata]))
        })
    },
};
