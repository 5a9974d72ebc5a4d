//! Amazon Reviews 2018: JSON lines; some titles are markup of a page that was scraped wrongly.
//!
//! Source: Ni et al., EMNLP 2019; the files `X_5.json.gz` and `meta_X.json.gz`.

use serde_json::{Map, Value};

use crate::data::Item;
use crate::data::amazon::Layout;
use crate::data::amazon2014;
use crate::data::fields::Fields;
use crate::data::lines::Line;
use crate::data::ratings::Columns;
use crate::error::Result;

/// How 2018 writes its records.
pub(super) const LAYOUT: Layout = Layout {
    review: amazon2014::review,
    ratings: Columns { names: ["item", "user", "rating", "timestamp"] },
    record,
    item_key: "asin",
    item,
};

/// A metadata record of 2018 or 2023.
pub(super) fn record(line: &Line) -> Result<Map<String, Value>> {
    line.json("a metadata record, a JSON object a line")
}

fn item(fields: &mut Fields, key: String) -> std::result::Result<Item, String> {
    let mut description = fields.text("description")?;
    if description.is_empty() {
        description = fields.text("feature")?;
    }
    Ok(Item {
        key,
        title: fields.text("title")?,
        description,
        brand: fields.text("brand")?,
        categories: fields.names("category")?,
        price: fields.price("price"),
    })
}

#[cfg(test)]
mod tests {
    use crate::data::amazon::tests::import_texts;
    use crate::data::config::Source;

    const REVIEWS: &str = r#"{"overall": 4.0, "vote": "1,002", "verified": true, "reviewerID": "A", "asin": "p", "style": {"Size:": " L"}, "unixReviewTime": 3, "image": ["x"]}
{"reviewerID": "A", "asin": "q", "unixReviewTime": 1}
{"reviewerID": "A", "asin": "r", "unixReviewTime": 2}
"#;
    const METADATA: &str = r#"{"category": ["Toys", "Games &amp; Puzzles", "</span></span>"], "description": ["Fun.", "For all."], "title": "Puzzle", "brand": "Acme", "price": "$12.99", "feature": ["not used"], "asin": "p"}
{"category": [], "description": [], "title": "<span id=\"productTitle\" class=\"a\">Kite", "brand": "", "asin": "q"}
{"category": [], "description": "", "title": "Ball", "feature": ["Round", "Red"], "price": ".a-box-inner{background-color:#fff}", "asin": "r"}
"#;

    #[test]
    fn a_category_of_2018() {
        let data =
            import_texts(Source::Amazon2018, ("Toys_5.json", REVIEWS), ("meta_Toys.json", METADATA), |_| ()).unwrap();
        let items = &data.catalogue.items;
        assert_eq!(items[0].text(), "Puzzle. Brand: Acme. Categories: Toys, Games & Puzzles. Fun. For all.");
        assert_eq!(items[0].price, Some(12.99));
        assert_eq!(items[1].text(), "Ball. Round Red.");
        assert_eq!(data.users[0].items, [1, 0]);
        let counts = &data.counts;
        assert_eq!(counts.unaccounted(), [0; 3]);
        assert_eq!((counts.items_with_markup_title, counts.interactions_with_markup_title), (1, 1));
        assert_eq!(counts.prices_unreadable, 1);
    }
}
