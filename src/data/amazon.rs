//! What the three releases of Amazon Reviews have in common: a file of reviews and a file of metadata, a record a line.
//!
//! The metadata are much larger than the reviews and most of it is of items that the k-core removes. So the reviews come
//! first, then a k-core, then one pass over the metadata that keeps only what is still wanted, then the k-core again: the
//! k-core of a part lies inside the k-core of the whole, so the result is the same as with metadata read first.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rayon::slice::ParallelSliceMut;
use serde_json::{Map, Value};

use crate::data::assemble::Collected;
use crate::data::config::{MissingText, Repeats};
use crate::data::fields::{Fields, Slot};
use crate::data::lines::{Line, Lines};
use crate::data::prices::Prices;
use crate::data::ratings::{Columns, Ratings};
use crate::data::times::Time;
use crate::data::{DataConfig, Dataset, ImportCounts, Item, User};
use crate::error::{Error, Result};

/// Endings of the files that are looked for.
const JSON_ENDINGS: [&str; 4] = [".json", ".json.gz", ".jsonl", ".jsonl.gz"];
const CSV_ENDINGS: [&str; 2] = [".csv", ".csv.gz"];

/// How one release writes its records.
pub(super) struct Layout {
    /// Reads a line of the reviews.
    pub(super) review: for<'a> fn(&Line<'a>) -> Result<Review<'a>>,
    /// Order of the columns in its ratings-only CSV files that do not name them.
    pub(super) ratings: Columns,
    /// Reads a line of the metadata.
    pub(super) record: fn(&Line) -> Result<Map<String, Value>>,
    /// The field of the metadata that identifies the item.
    pub(super) item_key: &'static str,
    /// Makes an item of a metadata record.
    pub(super) item: fn(&mut Fields, String) -> std::result::Result<Item, String>,
}

/// Who had what when.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Review<'a> {
    pub(super) user: Cow<'a, str>,
    pub(super) item: Cow<'a, str>,
    pub(super) time: Time,
}

impl<'a> Review<'a> {
    /// What `read` makes of a line, or of what the line stands for where Python has written it; `expected` says in words
    /// what it should be.
    pub(super) fn read(
        line: &Line<'a>,
        expected: &str,
        read: fn(&str) -> serde_json::Result<Review<'_>>,
    ) -> Result<Review<'a>> {
        let owned = |review: Review| Review {
            user: Cow::Owned(review.user.into_owned()),
            item: Cow::Owned(review.item.into_owned()),
            time: review.time,
        };
        read(line.text)
            .or_else(|source| line.loosened().map_or(Err(source), |text| read(&text).map(owned)))
            .map_err(|source| line.json_error(expected, &source))
    }
}

/// The two files.
pub(super) struct Files {
    pub(super) reviews: PathBuf,
    pub(super) metadata: PathBuf,
}

/// The files named in the configuration, or the only ones in the directory that can be meant.
pub(super) fn find(config: &DataConfig) -> Result<Files> {
    let dir = config.dir.clone().unwrap_or_default();
    if let (Some(reviews), Some(metadata)) = (&config.reviews, &config.metadata) {
        return Ok(Files { reviews: dir.join(reviews), metadata: dir.join(metadata) });
    }
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&dir).map_err(Error::io(&dir))? {
        let name = entry.map_err(Error::io(&dir))?.file_name().to_string_lossy().into_owned();
        if JSON_ENDINGS.iter().chain(&CSV_ENDINGS).any(|ending| name.ends_with(ending)) {
            names.push(name);
        }
    }
    names.sort();
    let (metadata, reviews): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| name.starts_with("meta_"));
    let only = |given: &Option<PathBuf>, found: &[String], field, what, example| match (given, found) {
        (Some(path), _) => Ok(dir.join(path)),
        (None, [name]) => Ok(dir.join(name)),
        (None, names) => {
            let problem = match names {
                [] => format!("no file of {what} here, as in {example}"),
                _ => format!("several files may be the {what}: {}", names.join(", ")),
            };
            let hint = Some(format!("name the file in {field}"));
            Err(Error::Data { path: dir.clone(), line: None, problem, hint })
        }
    };
    Ok(Files {
        reviews: only(
            &config.reviews,
            &reviews,
            "data.reviews",
            "reviews",
            "reviews_X_5.json.gz, X_5.json.gz, X.jsonl.gz",
        )?,
        metadata: only(&config.metadata, &metadata, "data.metadata", "metadata", "meta_X.json.gz, meta_X.jsonl.gz")?,
    })
}

/// Imports a category.
pub(super) fn import(config: &DataConfig, layout: &Layout) -> Result<Dataset> {
    let files = find(config)?;
    let mut counts = ImportCounts {
        source: config.source.name().to_owned(),
        k_core: config.k_core(),
        repeats_kept: config.repeats() == Repeats::Keep,
        ..ImportCounts::default()
    };
    let (users, item_keys) = read_reviews(&files.reviews, layout, &mut counts)?;
    let slots = vec![Slot::Missing; item_keys.len()];
    let name = category(&files.metadata);
    let mut collected =
        Collected { name, path: files.reviews.clone(), slots, users, counts, prices: Prices::default() };
    if config.repeats() == Repeats::First {
        collected.keep_first_purchases();
    }
    collected.keep_k_core();
    read_metadata(&files.metadata, layout, config.missing_text, &item_keys, &mut collected)?;
    collected.finish(config.max_history)
}

/// The X of `meta_X.json.gz`.
fn category(metadata: &Path) -> String {
    let name = metadata.file_name().unwrap_or_default().to_string_lossy();
    let name = name.strip_prefix("meta_").unwrap_or(&name);
    JSON_ENDINGS.iter().rev().find_map(|ending| name.strip_suffix(ending)).unwrap_or(name).to_owned()
}

/// Users with their purchases in order of time, and the keys of the items.
fn read_reviews(path: &Path, layout: &Layout, counts: &mut ImportCounts) -> Result<(Vec<User>, Keys)> {
    struct Event {
        user: u32,
        item: u32,
        time: f64,
    }
    let csv = CSV_ENDINGS.iter().any(|ending| path.to_string_lossy().ends_with(ending));
    let mut user_keys = Keys::default();
    let mut item_keys = Keys::default();
    let mut events = Vec::new();
    let mut ratings = csv.then(|| Ratings::new(&layout.ratings));
    let mut lines = Lines::open(path)?;
    while let Some(line) = lines.next_line()? {
        let review = match &mut ratings {
            Some(ratings) => ratings.read(&line)?,
            None => Some((layout.review)(&line)?),
        };
        let Some(review) = review else { continue };
        if review.user.is_empty() || review.item.is_empty() {
            let which = if review.user.is_empty() { "user" } else { "item" };
            return Err(line.error(format!("the {which} is empty, expected its key")));
        }
        let Time(Some(time)) = review.time else {
            counts.interactions_without_time += 1;
            continue;
        };
        let user = user_keys.number(&review.user, &line)?;
        let item = item_keys.number(&review.item, &line)?;
        events.push(Event { user, item, time });
    }
    counts.interactions_read = events.len() as u64 + counts.interactions_without_time;
    counts.users_read = user_keys.len() as u64;
    counts.items_read = item_keys.len() as u64;

    // The sort is stable: purchases of the same time keep their order in the file.
    events.par_sort_by(|a, b| a.user.cmp(&b.user).then(a.time.total_cmp(&b.time)));
    let mut users = Vec::with_capacity(user_keys.len());
    for (purchases, key) in events.chunk_by(|a, b| a.user == b.user).zip(&user_keys.keys) {
        users.push(User { key: key.to_string(), items: purchases.iter().map(|event| event.item).collect() });
    }
    Ok((users, item_keys))
}

/// Fills the slots of the items that are still wanted.
fn read_metadata(
    path: &Path,
    layout: &Layout,
    missing: MissingText,
    item_keys: &Keys,
    collected: &mut Collected,
) -> Result<()> {
    let mut lines = Lines::open(path)?;
    while let Some(line) = lines.next_line()? {
        let record = (layout.record)(&line)?;
        collected.counts.metadata_read += 1;
        let mut fields = Fields { record: &record, counts: &mut collected.counts, prices: &mut collected.prices };
        let key = fields.key(layout.item_key).map_err(|problem| line.error(problem))?;
        let wanted =
            item_keys.numbers.get(key.as_str()).map(|number| (*number, &mut collected.slots[*number as usize]));
        let Some((number, slot)) = wanted.filter(|(_, slot)| **slot != Slot::Removed) else {
            collected.counts.metadata_not_wanted += 1;
            continue;
        };
        if let Slot::Usable(_) = slot {
            collected.counts.metadata_repeated += 1;
            continue;
        }
        let item = (layout.item)(&mut fields, key).map_err(|problem| line.error(problem))?;
        let found = Slot::of(item, record.get("title"));
        if found == Slot::NoText && missing == MissingText::Error {
            return Err(line.error("the item has neither title nor description (data.missing_text = \"error\")"));
        }
        collected.counts.metadata_repeated += u64::from(*slot != Slot::Missing);
        if matches!(found, Slot::Usable(_)) {
            collected.prices.settle(number);
        }
        *slot = found;
    }
    if missing == MissingText::Error
        && let Some(item) = collected.slots.iter().position(|slot| *slot == Slot::Missing)
    {
        let lacking = collected.slots.iter().filter(|slot| **slot == Slot::Missing).count();
        return Err(Error::Data {
            path: path.to_owned(),
            line: None,
            problem: format!(
                "no record of item `{}`, nor of {} others that were bought (data.missing_text = \"error\")",
                item_keys.keys[item],
                lacking - 1
            ),
            hint: Some("do the interactions and the metadata belong to the same category?".to_owned()),
        });
    }
    Ok(())
}

/// Keys numbered from 0 in order of their first appearance.
#[derive(Default)]
struct Keys {
    keys: Vec<Rc<str>>,
    numbers: HashMap<Rc<str>, u32>,
}

impl Keys {
    fn len(&self) -> usize {
        self.keys.len()
    }

    fn number(&mut self, key: &str, line: &Line) -> Result<u32> {
        if let Some(number) = self.numbers.get(key) {
            return Ok(*number);
        }
        let number = u32::try_from(self.keys.len()).ok().filter(|number| *number != u32::MAX);
        let number = number.ok_or_else(|| line.error("more than 4,294,967,295 users or items"))?;
        let key: Rc<str> = key.into();
        self.keys.push(key.clone());
        self.numbers.insert(key, number);
        Ok(number)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::data::config::Source;
    use crate::data::import;

    /// Imports two texts as the files of a category, written under the given names.
    pub fn import_texts(
        source: Source,
        reviews: (&str, &str),
        metadata: (&str, &str),
        edit: impl FnOnce(&mut DataConfig),
    ) -> Result<Dataset> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(reviews.0), reviews.1).unwrap();
        std::fs::write(dir.path().join(metadata.0), metadata.1).unwrap();
        let mut config =
            DataConfig { source, dir: Some(dir.path().to_owned()), k_core: Some(1), ..DataConfig::default() };
        edit(&mut config);
        import(&config)
    }

    fn review(user: &str, item: &str, time: i64) -> String {
        format!(
            "{{\"reviewerID\": \"{user}\", \"asin\": \"{item}\", \"unixReviewTime\": {time}, \"vote\": \"1,234\"}}\n"
        )
    }

    fn meta(item: &str) -> String {
        format!("{{\"asin\": \"{item}\", \"title\": \"Item {item}\"}}\n")
    }

    fn import_lines(reviews: &str, metadata: &str, edit: impl FnOnce(&mut DataConfig)) -> Result<Dataset> {
        import_texts(Source::Amazon2018, ("Toys_5.json", reviews), ("meta_Toys.json", metadata), edit)
    }

    #[test]
    fn purchases_are_sorted_by_time_then_file_order_and_repeats_dropped() {
        let reviews = [("B", "x", 5), ("A", "y", 9), ("A", "x", 3), ("A", "z", 9), ("A", "x", 10), ("B", "y", 5)];
        let reviews: String = reviews.iter().map(|(user, item, time)| review(user, item, *time)).collect();
        let metadata = ["z", "y", "x", "unbought", "x"].map(meta).concat();
        let data = import_lines(&reviews, &metadata, |_| ()).unwrap();
        assert_eq!(data.name, "Toys");
        let keys: Vec<&str> = data.catalogue.items.iter().map(|item| item.key.as_str()).collect();
        assert_eq!(keys, ["x", "y", "z"]);
        assert_eq!(data.users[0], User { key: "B".into(), items: vec![0, 1] });
        assert_eq!(data.users[1], User { key: "A".into(), items: vec![0, 1, 2] });
        let counts = &data.counts;
        assert_eq!(counts.unaccounted(), [0; 3]);
        assert_eq!((counts.interactions_repeated, counts.metadata_not_wanted, counts.metadata_repeated), (1, 1, 1));
        assert_eq!(counts.metadata_read, 5);
        let kept = import_lines(&reviews, &metadata, |config| config.repeats = Some(Repeats::Keep)).unwrap();
        assert_eq!(kept.users[1].items, [0, 1, 2, 0]);
    }

    #[test]
    fn the_core_is_that_of_items_with_metadata() {
        // Item w has no metadata; without it user C falls below 2, and with C item z does.
        let pairs = ["Ax", "Ay", "Bx", "By", "Cw", "Cz", "Dw", "Dx", "Dy", "Dz", "Ev"];
        let reviews: String = pairs.iter().map(|pair| review(&pair[..1], &pair[1..], 1)).collect();
        let data =
            import_lines(&reviews, &["x", "y", "z", "v"].map(meta).concat(), |config| config.k_core = Some(2)).unwrap();
        let keys: Vec<&str> = data.users.iter().map(|user| user.key.as_str()).collect();
        assert_eq!(keys, ["A", "B", "D"]);
        let counts = &data.counts;
        assert_eq!(counts.unaccounted(), [0; 3], "{counts}");
        assert_eq!((counts.items_without_metadata, counts.items_below_k_core, counts.items), (1, 2, 2));
        assert_eq!(counts.metadata_not_wanted, 1, "v had left before the metadata were read");
    }

    #[test]
    fn bad_records_and_missing_metadata_are_errors() {
        let good = review("A", "x", 1);
        let message = |reviews: &str, metadata: &str, missing_text| {
            import_lines(reviews, metadata, |config| config.missing_text = missing_text).unwrap_err().to_string()
        };
        let error = message(&format!("{good}{{\"asin\": \"x\"}}\n"), &meta("x"), MissingText::Drop);
        assert!(
            error.contains("Toys_5.json:2: expected a review with reviewerID, asin and unixReviewTime: missing"),
            "{error}"
        );
        let error = message(&review("", "x", 1), &meta("x"), MissingText::Drop);
        assert!(error.contains("Toys_5.json:1: the user is empty"), "{error}");
        let error = message(&good, "{\"asin\": \"x\", \"title\": tru}\n", MissingText::Drop);
        assert!(error.contains("meta_Toys.json:1: expected a metadata record"), "{error}");
        let error = message(&good, "{\"title\": \"x\"}\n", MissingText::Drop);
        assert!(error.contains("meta_Toys.json:1: field `asin` is missing"), "{error}");
        let error = message(&good, &meta("y"), MissingText::Error);
        assert!(error.contains("no record of item `x`, nor of 0 others"), "{error}");
        let error = message(&good, "{\"asin\": \"x\", \"brand\": \"b\"}\n", MissingText::Error);
        assert!(error.contains("meta_Toys.json:1: the item has neither title nor description"), "{error}");
        let error = message("", &meta("x"), MissingText::Drop);
        assert!(error.contains("nothing to train on") && error.contains("no interactions"), "{error}");
    }

    #[test]
    fn times_and_numbers_as_pandas_writes_them() {
        let line = |user: &str, item: &str, time: &str| {
            format!("{{\"reviewerID\": \"{user}\", \"asin\": \"{item}\", \"unixReviewTime\": {time}, \"vote\": NaN}}\n")
        };
        let reviews = [
            ("A", "z", "1400000000.5"),
            ("A", "x", "1.4e9"),
            ("A", "y", "\"1400000000\""),
            ("B", "x", "NaN"),
            ("A", "x", "null"),
        ];
        let reviews: String = reviews.iter().map(|(user, item, time)| line(user, item, time)).collect();
        let metadata = "{\"asin\": \"x\", \"title\": \"X\", \"price\": \"1.299\", \"brand\": NaN}\n\
                        {\"asin\": \"y\", \"title\": \"Y\", \"price\": \"12,99\"}\n{\"asin\": \"z\", \"title\": \"Z\", \"price\": -Infinity}\n";
        let data = import_lines(&reviews, metadata, |_| ()).unwrap();
        let items = &data.catalogue.items;
        let bought: Vec<&str> = data.users[0].items.iter().map(|item| items[*item as usize].title.as_str()).collect();
        assert_eq!((data.users.len(), bought), (1, vec!["X", "Y", "Z"]));
        let price = |title: &str| items.iter().find(|item| item.title == title).unwrap().price;
        assert_eq!((price("X"), price("Y"), price("Z")), (Some(1299.0), Some(12.99), None));
        assert_eq!(data.counts.unaccounted(), [0; 3], "{}", data.counts);
        assert_eq!((data.counts.interactions_without_time, data.counts.prices_with_comma), (2, 1));
        let none = import_lines(&line("A", "x", "NaN"), metadata, |_| ()).unwrap_err().to_string();
        assert!(none.contains("hint: purchases need a time"), "{none}");
    }

    #[test]
    fn files_that_cannot_be_told_apart_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let config =
            DataConfig { source: Source::Amazon2018, dir: Some(dir.path().to_owned()), ..DataConfig::default() };
        let error = config.inputs().unwrap_err().to_string();
        assert!(error.contains("no file of reviews here") && error.contains("data.reviews"), "{error}");
        for name in ["A_5.json.gz", "A.csv", "meta_A.json", "notes.txt"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let error = config.inputs().unwrap_err().to_string();
        assert!(error.contains("several files may be the reviews: A.csv, A_5.json.gz"), "{error}");
        let config = DataConfig { reviews: Some("A.csv".into()), ..config };
        assert_eq!(config.inputs().unwrap(), [dir.path().join("A.csv"), dir.path().join("meta_A.json")]);
    }
}
