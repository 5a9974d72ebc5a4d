//! Amazon Reviews 2014: JSON reviews, metadata as Python literals.
//!
//! Source: McAuley et al., SIGIR 2015; the files `reviews_X_5.json.gz` and `meta_X.json.gz`.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::data::amazon::{Layout, Review};
use crate::data::lines::Line;
use crate::data::python_literal;
use crate::data::ratings::Columns;
use crate::data::times::Time;
use crate::error::Result;

/// How 2014 writes its records.
pub(super) const LAYOUT: Layout = Layout {
    review,
    ratings: Columns { names: ["user", "item", "rating", "timestamp"] },
    record,
    item_key: "asin",
    item: |fields, key| fields.item(key),
};

/// A review of 2014 or 2018.
pub(super) fn review<'a>(line: &Line<'a>) -> Result<Review<'a>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Record<'a> {
        #[serde(borrow, rename = "reviewerID")]
        reviewer: Cow<'a, str>,
        #[serde(borrow)]
        asin: Cow<'a, str>,
        unix_review_time: Time,
    }
    fn read(text: &str) -> serde_json::Result<Review<'_>> {
        let record: Record = serde_json::from_str(text)?;
        Ok(Review { user: record.reviewer, item: record.asin, time: record.unix_review_time })
    }
    Review::read(line, "a review with reviewerID, asin and unixReviewTime", read)
}

fn record(line: &Line) -> Result<Map<String, Value>> {
    match python_literal::parse(line.text) {
        Ok(Value::Object(record)) => Ok(record),
        Ok(_) => Err(line.error("expected a Python dict with asin and title")),
        Err(problem) => Err(line.error(format!("expected a Python dict with asin and title: {problem}"))),
    }
}

#[cfg(test)]
mod tests {
    use crate::data::amazon::tests::import_texts;
    use crate::data::config::Source;

    const REVIEWS: &str = r#"{"reviewerID": "A1", "asin": "0205", "reviewerName": "Sue", "helpful": [0, 0], "reviewText": "ok", "overall": 5.0, "summary": "s", "unixReviewTime": 1369699200, "reviewTime": "05 28, 2013"}
{"reviewerID": "A1", "asin": "0558", "unixReviewTime": 1355443200}
"#;
    const METADATA: &str = r#"{'asin': '0205', 'description': "It's &amp; was", 'title': 'Bio L\'Active', 'imUrl': 'http://x', 'related': {'also_bought': ['1']}, 'salesRank': {'Beauty': 461765}, 'categories': [['Beauty', 'Skin Care', 'Face']]}
{'asin': '0558', 'title': u'Mass \u2013 Age', 'price': 19.98, 'brand': 'Neutro', 'categories': [['Beauty', 'Hair'], ['Beauty', 'Men']]}
"#;

    #[test]
    fn a_category_of_2014() {
        let names = (("reviews_Beauty_5.json", REVIEWS), ("meta_Beauty.json", METADATA));
        let data = import_texts(Source::Amazon2014, names.0, names.1, |_| ()).unwrap();
        assert_eq!(data.name, "Beauty");
        assert_eq!(data.users[0].items, [1, 0], "oldest first");
        let items = &data.catalogue.items;
        assert_eq!(items[0].text(), "Bio L'Active. Categories: Beauty, Skin Care, Face. It's & was.");
        assert_eq!(items[1].title, "Mass – Age");
        assert_eq!(items[1].categories, ["Beauty", "Hair", "Men"]);
        assert_eq!((items[0].price, items[1].price), (None, Some(19.98)));
        assert_eq!(data.counts.texts_cleaned, 1);
    }

    #[test]
    fn a_bad_dict_names_its_line_and_column() {
        let metadata = METADATA.replace("'price': 19.98", "'price': 19.98 'x'");
        let names = (("reviews_Beauty_5.json", REVIEWS), ("meta_Beauty.json", metadata.as_str()));
        let error = import_texts(Source::Amazon2014, names.0, names.1, |_| ()).unwrap_err().to_string();
        assert!(
            error.ends_with("meta_Beauty.json:2: expected a Python dict with asin and title: expected `,` or `}`, found `'` (column 62)"),
            "{error}"
        );
    }
}
