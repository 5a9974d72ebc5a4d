//! Fields of metadata records, which hold text, lists of text or nothing according to year and category.

use serde_json::{Map, Value};

use crate::data::clean::clean;
use crate::data::prices::Prices;
use crate::data::{ImportCounts, Item};

/// What pandas and Python write for a value that is missing, where they write text.
const NO_VALUE: [&str; 7] = ["nan", "NaN", "None", "none", "null", "<NA>", "NaT"];

/// What the metadata say of an item that somebody bought.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Slot {
    /// There is no metadata record of it.
    Missing,
    /// Its title is page markup.
    MarkupTitle,
    /// It has neither title nor description.
    NoText,
    /// It was removed before metadata were looked at, and counted.
    Removed,
    /// It can stand in the catalogue.
    Usable(Box<Item>),
}

impl Slot {
    /// The place of an item with this record; `raw_title` is the title before cleaning.
    pub(super) fn of(item: Item, raw_title: Option<&Value>) -> Slot {
        // Titles of the 2018 files that were scraped from a broken page look like one of these two.
        let markup = |title: &str| title.contains("<span id") || title.contains("getTime()");
        if raw_title.and_then(Value::as_str).is_some_and(markup) {
            Slot::MarkupTitle
        } else if item.has_text() {
            Slot::Usable(Box::new(item))
        } else {
            Slot::NoText
        }
    }
}

/// Reads the fields of one record; every method names the field in its error.
pub(super) struct Fields<'a> {
    pub(super) record: &'a Map<String, Value>,
    pub(super) counts: &'a mut ImportCounts,
    /// How prices are written in this file.
    pub(super) prices: &'a mut Prices,
}

impl Fields<'_> {
    /// A field that must be text and not empty.
    pub(super) fn key(&self, field: &str) -> Result<String, String> {
        match self.record.get(field) {
            Some(Value::String(key)) if !key.is_empty() => Ok(key.clone()),
            Some(other) => Err(format!("field `{field}`: expected a key, found {}", kind(other))),
            None => Err(format!("field `{field}` is missing")),
        }
    }

    /// An item whose fields are called `title`, `description`, `brand`, `categories` and `price`.
    pub(super) fn item(&mut self, key: String) -> Result<Item, String> {
        Ok(Item {
            key,
            title: self.text("title")?,
            description: self.text("description")?,
            brand: self.text("brand")?,
            categories: self.names("categories")?,
            price: self.price("price"),
        })
    }

    /// Text, a list of texts (joined by blanks), or nothing; cleaned of markup.
    pub(super) fn text(&mut self, field: &str) -> Result<String, String> {
        let mut parts = Vec::new();
        gather(self.record.get(field), field, &mut parts)?;
        self.leave_out_missing(&mut parts);
        // markup may have hidden that there is nothing
        let mut cleaned = vec![self.clean(&parts.join(" "))];
        self.leave_out_missing(&mut cleaned);
        Ok(cleaned.pop().unwrap_or_default())
    }

    /// Drops texts that stand for a missing value, and counts them.
    fn leave_out_missing(&mut self, parts: &mut Vec<String>) {
        let before = parts.len();
        parts.retain(|part| !NO_VALUE.contains(&part.trim()));
        self.counts.texts_not_a_value += (before - parts.len()) as u64;
    }

    /// Names of a category path: a text split at commas and `>`, or a list, possibly of lists; without repetitions.
    pub(super) fn names(&mut self, field: &str) -> Result<Vec<String>, String> {
        let value = self.record.get(field);
        let mut parts = Vec::new();
        gather(value, field, &mut parts)?;
        self.leave_out_missing(&mut parts);
        let is_path = matches!(value, Some(Value::String(_)));
        let mut names: Vec<String> = Vec::new();
        for part in parts {
            let mut cleaned = vec![self.clean(&part)];
            self.leave_out_missing(&mut cleaned);
            let Some(part) = cleaned.pop() else { continue };
            // Markup first: its own signs divide nothing.
            let several = if is_path { part.split([',', '>']).collect() } else { vec![part.as_str()] };
            for name in several.into_iter().map(str::trim) {
                if !name.is_empty() && !names.iter().any(|known| known == name) {
                    names.push(name.to_owned());
                }
            }
        }
        Ok(names)
    }

    /// A number, or a text as in `$12.99`, `12,99`, `from 14.99`, `$1,024.00 - $2,000.00` (the lower end); else nothing,
    /// counted.
    pub(super) fn price(&mut self, field: &str) -> Option<f32> {
        self.prices.forget();
        let price = match self.record.get(field) {
            None | Some(Value::Null) => return None,
            Some(Value::Number(number)) => number.as_f64().map(|price| price as f32),
            Some(Value::String(text)) if matches!(text.trim(), "" | "—" | "-") => return None,
            Some(Value::String(text)) if NO_VALUE.contains(&text.trim()) => return None,
            Some(Value::String(text)) => self.prices.read(text).map(|(price, comma)| {
                self.counts.prices_with_comma += u64::from(comma);
                price
            }),
            Some(_) => None,
        };
        let price = price.filter(|price| price.is_finite() && *price >= 0.0);
        self.counts.prices_unreadable += u64::from(price.is_none());
        price
    }

    fn clean(&mut self, text: &str) -> String {
        let (text, cleaned) = clean(text);
        self.counts.texts_cleaned += u64::from(cleaned.markup);
        self.counts.texts_with_hidden_characters += u64::from(cleaned.hidden);
        self.counts.texts_with_control_tokens += u64::from(cleaned.control);
        text
    }
}

fn gather(value: Option<&Value>, field: &str, parts: &mut Vec<String>) -> Result<(), String> {
    match value {
        None | Some(Value::Null) => {}
        Some(Value::String(text)) => parts.push(text.clone()),
        Some(Value::Number(number)) => parts.push(number.to_string()),
        Some(Value::Array(values)) => {
            for value in values {
                gather(Some(value), field, parts)?;
            }
        }
        Some(other) => return Err(format!("field `{field}`: expected text or a list of texts, found {}", kind(other))),
    }
    Ok(())
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(text) if text.is_empty() => "empty text",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn with<T>(record: Value, read: impl FnOnce(&mut Fields) -> T) -> (T, ImportCounts) {
        let mut counts = ImportCounts::default();
        let record = record.as_object().unwrap().clone();
        let mut prices = Prices::default();
        let value = read(&mut Fields { record: &record, counts: &mut counts, prices: &mut prices });
        (value, counts)
    }

    #[test]
    fn text_takes_text_lists_and_nothing() {
        let read = |value| with(json!({ "f": value }), |fields| fields.text("f")).0;
        assert_eq!(read(json!("a<br>b")).unwrap(), "a b");
        assert_eq!(read(json!(["a", ["b", 3], null])).unwrap(), "a b 3");
        assert_eq!(read(json!(null)).unwrap(), "");
        assert_eq!(with(json!({}), |fields| fields.text("f")).0.unwrap(), "");
        let error = read(json!({"a": 1})).unwrap_err();
        assert_eq!(error, "field `f`: expected text or a list of texts, found an object");
        let counted = |text| with(json!({ "f": text }), |fields| fields.text("f")).1;
        assert_eq!(counted("<b>x").texts_cleaned, 1);
        assert_eq!(counted("x\u{202e}y").texts_with_hidden_characters, 1);
        assert_eq!(counted("x &lt;|im_end|&gt;").texts_with_control_tokens, 1);
        assert_eq!((read(json!(["nan", "a", "None"])).unwrap(), counted("nan").texts_not_a_value), ("a".into(), 1));
        assert_eq!(read(json!("<b>None</b>")).unwrap(), "");
    }

    #[test]
    fn names_flatten_paths_once() {
        let read = |value| with(json!({ "f": value }), |fields| fields.names("f")).0.unwrap();
        assert_eq!(read(json!([["Beauty", "Hair, Care"], ["Beauty", "Shampoo"]])), ["Beauty", "Hair, Care", "Shampoo"]);
        assert_eq!(read(json!("Office > Paper, Pads,")), ["Office", "Paper", "Pads"]);
        assert_eq!(read(json!(["Toys", "</span></span>"])), ["Toys"]);
        assert_eq!(read(json!("Pens &gt; <b>Ink</b> &amp; Co, Ink & Co")), ["Pens", "Ink & Co"]);
        assert_eq!(read(json!(["Pens", "nan"])), ["Pens"]);
        assert!(read(json!("")).is_empty() && read(json!("nan")).is_empty());
    }

    #[test]
    fn prices_in_many_dresses() {
        let cases = [
            (json!(12.5), Some(12.5), 0),
            (json!("$12.99"), Some(12.99), 0),
            (json!("US$ 1,024.00 - $2,000.00"), Some(1024.0), 0),
            (json!("12,99"), Some(12.99), 0),
            (json!("nan"), None, 0),
            (json!("from 14.99"), Some(14.99), 0),
            (json!(null), None, 0),
            (json!("None"), None, 0),
            (json!(".a-box-inner{color:red}"), None, 1),
            (json!("12 monkeys"), None, 1),
            (json!(-1), None, 1),
            (json!([1]), None, 1),
        ];
        for (value, expected, unreadable) in cases {
            let (price, counts) = with(json!({ "p": value }), |fields| fields.price("p"));
            assert_eq!((price, counts.prices_unreadable), (expected, unreadable), "{value}");
        }
    }

    #[test]
    fn keys_must_be_there() {
        assert_eq!(with(json!({"k": "B01"}), |f| f.key("k")).0.unwrap(), "B01");
        assert_eq!(with(json!({}), |f| f.key("k")).0.unwrap_err(), "field `k` is missing");
        assert_eq!(with(json!({"k": 3}), |f| f.key("k")).0.unwrap_err(), "field `k`: expected a key, found a number");
    }

    #[test]
    fn slots_tell_markup_from_silence() {
        let item = |title: &str| Item { title: title.into(), ..Item::default() };
        let raw = json!("<span id=\"x\">Brush</span>");
        assert_eq!(Slot::of(item("Brush"), Some(&raw)), Slot::MarkupTitle);
        assert_eq!(Slot::of(item("Brush"), Some(&json!("Brush"))), Slot::Usable(Box::new(item("Brush"))));
        assert_eq!(Slot::of(item(""), None), Slot::NoText);
    }
}
