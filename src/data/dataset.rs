//! What every later stage reads: items with text, users with purchases in order of time.

use serde::{Deserialize, Serialize};

use crate::data::ImportCounts;

/// One product and everything known of it in words.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Item {
    /// Identifier in the source (an ASIN, a row number).
    pub key: String,
    /// Name on the shelf.
    pub title: String,
    /// Running text; may be empty.
    pub description: String,
    /// Maker or store; may be empty.
    pub brand: String,
    /// From general to special where the source has a path; may be empty.
    pub categories: Vec<String>,
    /// In the currency of the source, where it is known.
    pub price: Option<f32>,
}

impl Item {
    /// Title, brand, categories and description as one text; parts that are empty leave no trace.
    ///
    /// The only place where an item becomes text for embeddings, so that two stages never disagree about it.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut add = |label: &str, part: &str| {
            let part = part.trim().trim_end_matches('.');
            if !part.is_empty() {
                if !text.is_empty() {
                    text.push(' ');
                }
                text.push_str(label);
                text.push_str(part);
                text.push('.');
            }
        };
        add("", &self.title);
        add("Brand: ", &self.brand);
        add("Categories: ", &self.categories.join(", "));
        add("", &self.description);
        text
    }

    /// Whether title or description says anything; a brand or a category alone does not tell items apart.
    pub fn has_text(&self) -> bool {
        !self.title.trim().is_empty() || !self.description.trim().is_empty()
    }
}

/// All items; an item is referred to by its index here, dense from 0.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Catalogue {
    /// In the order of the source.
    pub items: Vec<Item>,
}

impl Catalogue {
    /// Number of items.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is no item at all.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The item of an index, if there is one.
    pub fn get(&self, item: u32) -> Option<&Item> {
        self.items.get(item as usize)
    }
}

/// One customer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// Identifier in the source.
    pub key: String,
    /// Catalogue indices of the purchases, oldest first.
    pub items: Vec<u32>,
}

/// A catalogue, who bought what in which order, and how it came to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    /// Name of the category or shop, for reports.
    pub name: String,
    /// The items.
    pub catalogue: Catalogue,
    /// The users, in the order of the source; each has at least one purchase.
    pub users: Vec<User>,
    /// Everything read, kept and left out.
    pub counts: ImportCounts,
}

impl Dataset {
    /// Number of purchases of all users.
    pub fn interactions(&self) -> u64 {
        self.users.iter().map(|user| user.items.len() as u64).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_joins_what_is_there() {
        let mut item = Item {
            title: "Acme ink".into(),
            brand: "Acme".into(),
            categories: vec!["Office".into(), "Ink".into()],
            description: "Goes well with paper.".into(),
            ..Item::default()
        };
        assert_eq!(item.text(), "Acme ink. Brand: Acme. Categories: Office, Ink. Goes well with paper.");
        item.title = "  ".into();
        item.brand.clear();
        item.categories.clear();
        assert_eq!(item.text(), "Goes well with paper.");
        assert!(item.has_text());
        item.description.clear();
        item.brand = "Acme".into();
        assert!(!item.has_text());
    }
}
