//! Amazon Reviews 2023: JSON lines keyed by `parent_asin`, times in milliseconds; the 5-core comes as CSV.
//!
//! Source: Hou et al., arXiv:2403.03952; the files `X.jsonl.gz` or `X.csv.gz`, and `meta_X.jsonl.gz`.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::data::amazon::{Layout, Review};
use crate::data::amazon2018;
use crate::data::fields::Fields;
use crate::data::lines::Line;
use crate::data::python_literal;
use crate::data::ratings::Columns;
use crate::data::times::Time;
use crate::data::{ImportCounts, Item};
use crate::error::Result;

/// How 2023 writes its records.
pub(super) const LAYOUT: Layout = Layout {
    review,
    ratings: Columns { names: ["user", "item", "rating", "timestamp"] },
    record: amazon2018::record,
    item_key: "parent_asin",
    item,
};

fn review<'a>(line: &Line<'a>) -> Result<Review<'a>> {
    #[derive(Deserialize)]
    struct Record<'a> {
        #[serde(borrow)]
        user_id: Cow<'a, str>,
        #[serde(borrow)]
        parent_asin: Cow<'a, str>,
        timestamp: Time,
    }
    fn read(text: &str) -> serde_json::Result<Review<'_>> {
        let record: Record = serde_json::from_str(text)?;
        Ok(Review { user: record.user_id, item: record.parent_asin, time: record.timestamp })
    }
    Review::read(line, "a review with user_id, parent_asin and timestamp", read)
}

fn item(fields: &mut Fields, key: String) -> std::result::Result<Item, String> {
    let mut description = fields.text("description")?;
    if description.is_empty() {
        description = fields.text("features")?;
    }
    let mut brand = fields.text("store")?;
    if let Some(details) = details(fields.record, fields.counts)
        && brand.is_empty()
    {
        brand = Fields { record: &details, counts: fields.counts, prices: fields.prices }.text("Brand")?;
    }
    let mut categories = fields.names("categories")?;
    if categories.is_empty() {
        categories = vec![fields.text("main_category")?];
        categories.retain(|name| !name.is_empty());
    }
    Ok(Item { key, title: fields.text("title")?, description, brand, categories, price: fields.price("price") })
}

/// The details: an object, or the text of one, as the Hugging Face data set has them. Others are counted.
fn details<'a>(record: &'a Map<String, Value>, counts: &mut ImportCounts) -> Option<Cow<'a, Map<String, Value>>> {
    let details = match record.get("details") {
        None | Some(Value::Null) => return None,
        Some(Value::String(text)) if matches!(text.trim(), "" | "None" | "nan" | "null") => return None,
        Some(Value::Object(details)) => return Some(Cow::Borrowed(details)),
        // JSON is read as a Python literal, too.
        Some(Value::String(text)) => python_literal::parse(text).ok(),
        Some(_) => None,
    };
    match details {
        Some(Value::Object(details)) => Some(Cow::Owned(details)),
        _ => {
            counts.details_unreadable += 1;
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::data::amazon::tests::import_texts;
    use crate::data::config::Source;

    const REVIEWS: &str = r#"{"rating": 5.0, "title": "t", "text": "x", "images": [], "asin": "child", "parent_asin": "P", "user_id": "U", "timestamp": 1588687728923, "helpful_vote": 0, "verified_purchase": true}
{"asin": "child", "parent_asin": "Q", "user_id": "U", "timestamp": 1588687728922}
"#;
    const METADATA: &str = r#"{"main_category": "All Beauty", "title": "Spray", "average_rating": 4.8, "rating_number": 10, "features": ["Soft", "Light"], "description": [], "price": "from 9.99", "images": [{}], "videos": [], "store": "Howard", "categories": [], "details": {"Brand": "Other"}, "parent_asin": "P", "bought_together": null}
{"main_category": null, "title": "Comb", "features": [], "description": ["A comb."], "price": null, "store": null, "categories": ["Beauty", "Hair"], "details": {"Brand": "Lurrose", "Color": "red"}, "parent_asin": "Q"}
"#;

    #[test]
    fn a_category_of_2023() {
        let files = (("All_Beauty.jsonl", REVIEWS), ("meta_All_Beauty.jsonl", METADATA));
        let data = import_texts(Source::Amazon2023, files.0, files.1, |_| ()).unwrap();
        assert_eq!(data.name, "All_Beauty");
        assert_eq!(data.users[0].items, [1, 0], "by the millisecond");
        let items = &data.catalogue.items;
        assert_eq!(items[0].text(), "Spray. Brand: Howard. Categories: All Beauty. Soft Light.");
        assert_eq!(items[1].text(), "Comb. Brand: Lurrose. Categories: Beauty, Hair. A comb.");
        assert_eq!((items[0].price, items[1].price), (Some(9.99), None));
        assert_eq!(data.counts.prices_unreadable, 0);
    }

    #[test]
    fn details_may_be_the_text_of_an_object() {
        let of = |details: &str| {
            let quoted = serde_json::to_string(details).unwrap();
            let metadata = METADATA.replace(r#"{"Brand": "Lurrose", "Color": "red"}"#, &quoted);
            let files = (("All_Beauty.jsonl", REVIEWS), ("meta_All_Beauty.jsonl", metadata.as_str()));
            let data = import_texts(Source::Amazon2023, files.0, files.1, |_| ()).unwrap();
            (data.catalogue.items[1].brand.clone(), data.counts.details_unreadable)
        };
        for text in [
            r#"{"Brand": "Lurrose", "Set": true, "x": null}"#,
            "{'Brand': 'Lurrose'}",
            r#"{"Brand": "Lurrose", "w": NaN}"#,
        ] {
            assert_eq!(of(text), ("Lurrose".into(), 0), "{text}");
        }
        for text in ["", "{}", "None"] {
            assert_eq!(of(text), (String::new(), 0), "{text}");
        }
        for text in ["Brand: Lurrose", "[1]", "{\"Brand\": "] {
            assert_eq!(of(text), (String::new(), 1), "{text}");
        }
    }

    #[test]
    fn the_published_core_is_a_csv() {
        let csv = "user_id,parent_asin,rating,timestamp\nU,Q,5.0,2\nU,P,1.0,1\n";
        let files = (("All_Beauty.csv", csv), ("meta_All_Beauty.jsonl", METADATA));
        let data = import_texts(Source::Amazon2023, files.0, files.1, |_| ()).unwrap();
        let keys: Vec<&str> = data.catalogue.items.iter().map(|item| item.key.as_str()).collect();
        assert_eq!(keys, ["Q", "P"]);
        assert_eq!(data.users[0].items, [1, 0]);
    }
}
