//! The LC-Rec layout: `X.inter.json` (user → items, oldest first) and `X.item.json` (item → title, description, …), plain
//! or gzip.
//!
//! `X.index.json`, where present, holds the semantic ids of whoever published the data; it is not read here, because the
//! `sid` stage makes its own, unless `sid.index` names it.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};
use serde_json::{Map, Value};

use crate::data::assemble::Collected;
use crate::data::config::{MissingText, Repeats};
use crate::data::entries::each_entry;
use crate::data::fields::{Fields, Slot};
use crate::data::prices::Prices;
use crate::data::{DataConfig, Dataset, ImportCounts, User};
use crate::error::{Error, Result};

/// The two files of a data set and the name before their endings.
pub(super) struct Files {
    pub(super) prefix: String,
    pub(super) inter: PathBuf,
    pub(super) item: PathBuf,
}

/// Finds the files in `config.dir`, whatever the category is called.
pub(super) fn find(config: &DataConfig) -> Result<Files> {
    let dir = config.dir.clone().unwrap_or_default();
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&dir).map_err(Error::io(&dir))? {
        names.push(entry.map_err(Error::io(&dir))?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    let prefix_of = |name: &'_ String| -> Option<String> {
        Some(name.strip_suffix(".gz").unwrap_or(name).strip_suffix(".inter.json")?.to_owned())
    };
    let mut prefixes: Vec<String> = names.iter().filter_map(prefix_of).collect();
    // sorted: X.inter.json stands beside X.inter.json.gz
    prefixes.dedup();
    if let Some(prefix) = &config.prefix {
        prefixes.retain(|found| found == prefix);
    }
    let fail =
        |problem, hint: &str| Error::Data { path: dir.clone(), line: None, problem, hint: Some(hint.to_owned()) };
    let [prefix] = &prefixes[..] else {
        return Err(match (&prefixes[..], &config.prefix) {
            ([], Some(prefix)) => fail(format!("no {prefix}.inter.json (or .gz) in this directory"), "see data.prefix"),
            ([], None) => fail(
                format!("no *.inter.json here, found {}", listed(&names)),
                "the LC-Rec layout is X.inter.json with X.item.json; purchases without item texts cannot be used, \
                 because semantic ids and prompts are made from the texts",
            ),
            (several, _) => fail(format!("several data sets: {}", several.join(", ")), "choose one with data.prefix"),
        });
    };
    // The plain file where there are both.
    let file = |kind: &str| {
        let mut endings = ["json", "json.gz"].iter().map(|ending| dir.join(format!("{prefix}.{kind}.{ending}")));
        endings.find(|path| path.is_file())
    };
    let (Some(inter), Some(item)) = (file("inter"), file("item")) else {
        return Err(fail(
            format!("{prefix}.inter.json has no {prefix}.item.json beside it"),
            "the item file gives titles and descriptions; without texts there are no semantic ids",
        ));
    };
    Ok(Files { prefix: prefix.clone(), inter, item })
}

/// Up to five names, and how many more there are.
fn listed(names: &[String]) -> String {
    match names {
        [] => "an empty directory".to_owned(),
        _ if names.len() > 5 => format!("{} and {} more", names[..5].join(", "), names.len() - 5),
        _ => names.join(", "),
    }
}

/// Imports a data set; each file is streamed once.
pub(super) fn import(config: &DataConfig) -> Result<Dataset> {
    let files = find(config)?;
    let mut counts = ImportCounts {
        source: config.source.name().to_owned(),
        k_core: config.k_core(),
        repeats_kept: config.repeats() == Repeats::Keep,
        ..ImportCounts::default()
    };
    let mut prices = Prices::default();
    let (mut index, mut slots) = read_items(&files.item, config.missing_text, &mut counts, &mut prices)?;
    let users = read_users(&files.inter, &files.item, config.missing_text, &mut index, &mut slots, &mut counts)?;
    counts.items_read = slots.len() as u64;
    let mut collected = Collected { name: files.prefix, path: files.inter, slots, users, counts, prices };
    if config.repeats() == Repeats::First {
        collected.keep_first_purchases();
    }
    collected.finish(config.max_history)
}

fn read_items(
    path: &Path,
    missing: MissingText,
    counts: &mut ImportCounts,
    prices: &mut Prices,
) -> Result<(HashMap<String, u32>, Vec<Slot>)> {
    let mut index = HashMap::new();
    let mut slots: Vec<Slot> = Vec::new();
    each_entry(path, "an object of items, each with title and description", |key, record: Map<String, Value>| {
        counts.metadata_read += 1;
        if index.insert(key.clone(), slots.len() as u32).is_some() {
            return Err(format!("item `{key}` stands here a second time"));
        }
        let mut fields = Fields { record: &record, counts, prices };
        let item = fields.item(key.clone()).map_err(|problem| format!("item `{key}`: {problem}"))?;
        let slot = Slot::of(item, record.get("title"));
        if slot == Slot::NoText && missing == MissingText::Error {
            return Err(format!("item `{key}` has neither title nor description (data.missing_text = \"error\")"));
        }
        prices.settle(slots.len() as u32);
        slots.push(slot);
        Ok(())
    })?;
    Ok((index, slots))
}

fn read_users(
    path: &Path,
    item_path: &Path,
    missing: MissingText,
    index: &mut HashMap<String, u32>,
    slots: &mut Vec<Slot>,
    counts: &mut ImportCounts,
) -> Result<Vec<User>> {
    let mut users: Vec<User> = Vec::new();
    let mut seen = HashSet::new();
    each_entry(path, "an object of users, each with a list of items", |key, bought: Option<Vec<ItemKey>>| {
        if !seen.insert(key.clone()) {
            return Err(format!("user `{key}` stands here a second time; merge the two lists"));
        }
        let bought = bought.unwrap_or_default();
        counts.users_read += 1;
        counts.interactions_read += bought.len() as u64;
        let mut items = Vec::with_capacity(bought.len());
        for ItemKey(item) in bought {
            let Some(item) = item else {
                counts.interactions_without_item += 1;
                continue;
            };
            let slot = match index.get(&item) {
                Some(slot) => *slot,
                None if missing == MissingText::Error => {
                    let file = item_path.file_name().unwrap_or_default().to_string_lossy();
                    return Err(format!(
                        "user `{key}`: item `{item}` is not in {file} (data.missing_text = \"error\")"
                    ));
                }
                None => {
                    slots.push(Slot::Missing);
                    index.insert(item, slots.len() as u32 - 1);
                    slots.len() as u32 - 1
                }
            };
            items.push(slot);
        }
        if items.is_empty() {
            counts.users_without_items += 1;
        } else {
            users.push(User { key, items });
        }
        Ok(())
    })?;
    Ok(users)
}

/// An item as a user's list names it: a number or a text; null, as which NaN is read, names none.
struct ItemKey(Option<String>);

impl<'de> Deserialize<'de> for ItemKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<ItemKey, D::Error> {
        struct Key;
        impl Visitor<'_> for Key {
            type Value = ItemKey;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an item number or key")
            }
            fn visit_u64<E>(self, number: u64) -> std::result::Result<ItemKey, E> {
                Ok(ItemKey(Some(number.to_string())))
            }
            fn visit_f64<E: de::Error>(self, number: f64) -> std::result::Result<ItemKey, E> {
                // pandas makes 7.0 of a 7 that stood in a column with gaps
                match number.fract() == 0.0 && (0.0..9e15).contains(&number) {
                    true => Ok(ItemKey(Some((number as u64).to_string()))),
                    false => Err(E::invalid_type(de::Unexpected::Float(number), &self)),
                }
            }
            fn visit_str<E>(self, key: &str) -> std::result::Result<ItemKey, E> {
                Ok(ItemKey(Some(key.to_owned())))
            }
            fn visit_unit<E>(self) -> std::result::Result<ItemKey, E> {
                Ok(ItemKey(None))
            }
        }
        deserializer.deserialize_any(Key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::config::Source;

    const ITEMS: &str = r#"{
        "7": {"title": "Pen", "description": "Writes.", "brand": "Acme", "categories": "Office, Pens"},
        "1": {"title": "Ink", "description": ["Black", "ink"], "categories": [["Office", "Ink"]], "price": "$3.50"},
        "4": {"title": " ", "description": "", "brand": "Acme"}
    }"#;

    fn import_files(inter: &str, item: &str, edit: impl FnOnce(&mut DataConfig)) -> Result<Dataset> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("Toys.inter.json"), inter).unwrap();
        std::fs::write(dir.path().join("Toys.item.json"), item).unwrap();
        let mut config =
            DataConfig { source: Source::LcRec, dir: Some(dir.path().to_owned()), ..DataConfig::default() };
        edit(&mut config);
        crate::data::import(&config)
    }

    fn message(inter: &str, item: &str, edit: impl FnOnce(&mut DataConfig)) -> String {
        import_files(inter, item, edit).unwrap_err().to_string()
    }

    #[test]
    fn keeps_the_data_as_published() {
        let data = import_files(r#"{"A": [1, 7, 7], "B": ["7"]}"#, ITEMS, |_| ()).unwrap();
        assert_eq!(data.name, "Toys");
        assert_eq!(data.catalogue.len(), 2);
        let ink = data.catalogue.get(1).unwrap();
        assert_eq!((ink.key.as_str(), ink.price), ("1", Some(3.5)));
        assert_eq!(ink.text(), "Ink. Categories: Office, Ink. Black ink.");
        assert_eq!(data.catalogue.get(0).unwrap().categories, ["Office", "Pens"]);
        assert_eq!(data.users[0], User { key: "A".into(), items: vec![1, 0, 0] });
        assert_eq!(data.users[1].items, [0]);
        assert_eq!((data.counts.items_without_text, data.counts.items_read), (1, 3));
        assert_eq!(data.counts.unaccounted(), [0; 3]);
        assert!(data.counts.repeats_kept);
    }

    #[test]
    fn missing_items_are_dropped_and_counted_or_refused() {
        let inter = r#"{"A": [1, 4, 99, 99], "B": [99], "C": [7]}"#;
        let data = import_files(inter, ITEMS, |_| ()).unwrap();
        let counts = &data.counts;
        assert_eq!(counts.unaccounted(), [0; 3]);
        assert_eq!((counts.items_without_metadata, counts.interactions_without_metadata), (1, 3));
        assert_eq!((counts.interactions_without_text, counts.users_emptied), (1, 1));
        assert_eq!(data.users.iter().map(|user| user.key.as_str()).collect::<Vec<_>>(), ["A", "C"]);

        let strict = |config: &mut DataConfig| config.missing_text = MissingText::Error;
        let error = message(inter, ITEMS, strict);
        assert!(error.contains("Toys.item.json:5: item `4` has neither title nor description"), "{error}");
        let error = message(r#"{"A": [99]}"#, r#"{"1": {"title": "Ink"}}"#, strict);
        assert!(error.contains("Toys.inter.json:1: user `A`: item `99` is not in Toys.item.json"), "{error}");
    }

    #[test]
    fn bad_records_name_line_and_key() {
        let cases = [
            ("{\"A\": [1],\n \"A\": [7]}", "Toys.inter.json:2: user `A` stands here a second time; merge"),
            (
                "{\"A\": [1],\n \"B\": [1.5]}",
                "Toys.inter.json:2: `B`: invalid type: floating point `1.5`, expected an item",
            ),
            ("{\"A\": [1],\n \"B\": 1}", "Toys.inter.json:2: `B`: invalid type: integer `1`, expected a sequence"),
            ("[[1]]", "Toys.inter.json:1: invalid type: sequence, expected an object of users"),
            ("{\"A\": [1", "hint: the file is cut off"),
            ("{\"A\": [1]} x", "Toys.inter.json:1: trailing characters"),
            ("{}", "nothing to train on"),
            ("{\"A\": [], \"B\": null}", "hint: every list of items in the file is empty"),
        ];
        for (inter, expected) in cases {
            let error = message(inter, ITEMS, |_| ());
            assert!(error.contains(expected), "{inter}: {error}");
        }
        let error = message(r#"{"A": [1]}"#, "{\"1\":\n {\"title\": {}}}", |_| ());
        assert!(
            error.contains("item.json:2: item `1`: field `title`: expected text or a list of texts, found an"),
            "{error}"
        );
        let error = message(r#"{"A": [1]}"#, "{}", |_| ());
        assert!(error.contains("same category?"), "{error}");
    }

    #[test]
    fn what_pandas_leaves_is_understood() {
        let inter = "{\"A\": [1, NaN, 7.0], \"B\": [], \"C\": null, \"D\": [NaN]}";
        let item =
            r#"{"1": {"title": "Ink", "brand": NaN, "price": Infinity}, "7": {"title": "Pen \ud83d", "brand": "nan"}}"#;
        let data = import_files(inter, item, |_| ()).unwrap();
        assert_eq!(data.users, [User { key: "A".into(), items: vec![0, 1] }]);
        let items = &data.catalogue.items;
        assert_eq!((items[0].brand.as_str(), items[0].price, items[1].brand.as_str()), ("", None, ""));
        assert_eq!(items[1].title, "Pen \u{fffd}");
        let counts = &data.counts;
        assert_eq!(counts.unaccounted(), [0; 3], "{counts}");
        assert_eq!((counts.users_without_items, counts.interactions_without_item, counts.users_read), (3, 2, 4));
    }

    #[test]
    fn byte_order_marks_and_gzip() {
        use std::io::Write;
        let inter = "\u{feff}{\"A\": [1, 7]}";
        let item = format!("\u{feff}{ITEMS}");
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let mut file = std::fs::File::create(dir.path().join(name)).unwrap();
            match name.ends_with(".gz") {
                false => file.write_all(text.as_bytes()).unwrap(),
                true => {
                    let mut gzip = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
                    gzip.write_all(text.as_bytes()).unwrap();
                    gzip.finish().unwrap();
                }
            }
        };
        let config = DataConfig { source: Source::LcRec, dir: Some(dir.path().to_owned()), ..DataConfig::default() };
        write("Toys.inter.json.gz", inter);
        write("Toys.item.json.gz", &item);
        let zipped = crate::data::import(&config).unwrap();
        assert_eq!((zipped.name.as_str(), &zipped.users[0].items[..]), ("Toys", &[1, 0][..]));
        write("Toys.item.json", &item);
        assert_eq!(config.inputs().unwrap()[1], dir.path().join("Toys.item.json"), "the plain one of two");
        assert_eq!(crate::data::import(&config).unwrap(), zipped);
        std::fs::remove_file(dir.path().join("Toys.item.json")).unwrap();
        std::fs::write(dir.path().join("Toys.item.json.gz"), [0x1f, 0x8b, 8, 0, 1]).unwrap();
        let error = crate::data::import(&config).unwrap_err().to_string();
        assert!(error.contains("item.json.gz: the compressed file ends early"), "{error}");
    }

    #[test]
    fn repeats_and_core_on_request() {
        let inter = r#"{"A": [1, 7, 7], "B": [7, 1], "C": [7]}"#;
        let data = import_files(inter, ITEMS, |config| {
            config.k_core = Some(2);
            config.repeats = Some(Repeats::First);
        })
        .unwrap();
        assert_eq!(data.counts.unaccounted(), [0; 3]);
        assert_eq!((data.counts.interactions_repeated, data.counts.users_below_k_core), (1, 1));
        assert_eq!(data.users.len(), 2);
    }

    #[test]
    fn files_are_found_or_the_reason_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let config = |prefix: Option<&str>| DataConfig {
            source: Source::LcRec,
            dir: Some(dir.path().to_owned()),
            prefix: prefix.map(str::to_owned),
            ..DataConfig::default()
        };
        let error = |prefix| config(prefix).inputs().unwrap_err().to_string();
        assert!(error(None).contains("found an empty directory"));
        std::fs::write(dir.path().join("Beauty.txt"), "1 1 2\n").unwrap();
        let said = error(None);
        assert!(
            said.contains("no *.inter.json here, found Beauty.txt") && said.contains("without item texts"),
            "{said}"
        );
        std::fs::write(dir.path().join("A.inter.json"), "{}").unwrap();
        assert!(error(None).contains("A.inter.json has no A.item.json beside it"));
        std::fs::write(dir.path().join("A.item.json"), "{}").unwrap();
        assert_eq!(config(None).inputs().unwrap()[1], dir.path().join("A.item.json"));
        std::fs::write(dir.path().join("B.inter.json"), "{}").unwrap();
        assert!(error(None).contains("several data sets: A, B\n  hint: choose one with data.prefix"));
        assert_eq!(config(Some("A")).inputs().unwrap()[0], dir.path().join("A.inter.json"));
        assert!(error(Some("C")).contains("no C.inter.json"));
    }
}
