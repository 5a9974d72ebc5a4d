//! The LC-Rec layout: `X.inter.json` (user → items, oldest first) and `X.item.json` (item → title, description, …).
//!
//! `X.index.json`, where present, holds the semantic ids of whoever published the data; it is not read, because the
//! `sid` stage makes its own.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::File;
use std::io::BufReader;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value};

use crate::data::assemble::Collected;
use crate::data::config::{MissingText, Repeats};
use crate::data::fields::{Fields, Slot};
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
    let mut prefixes: Vec<&str> = names.iter().filter_map(|name| name.strip_suffix(".inter.json")).collect();
    if let Some(prefix) = &config.prefix {
        prefixes.retain(|found| found == prefix);
    }
    let fail =
        |problem, hint: &str| Error::Data { path: dir.clone(), line: None, problem, hint: Some(hint.to_owned()) };
    let [prefix] = prefixes[..] else {
        return Err(match (&prefixes[..], &config.prefix) {
            ([], Some(prefix)) => fail(format!("no {prefix}.inter.json in this directory"), "see data.prefix"),
            ([], None) => fail(
                format!("no *.inter.json here, found {}", listed(&names)),
                "the LC-Rec layout is X.inter.json with X.item.json; purchases without item texts cannot be used, \
                 because semantic ids and prompts are made from the texts",
            ),
            (several, _) => fail(format!("several data sets: {}", several.join(", ")), "choose one with data.prefix"),
        });
    };
    let item = dir.join(format!("{prefix}.item.json"));
    if !item.is_file() {
        return Err(fail(
            format!("{prefix}.inter.json has no {prefix}.item.json beside it"),
            "the item file gives titles and descriptions; without texts there are no semantic ids",
        ));
    }
    Ok(Files { prefix: prefix.to_owned(), inter: dir.join(format!("{prefix}.inter.json")), item })
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
    let (mut index, mut slots) = read_items(&files.item, config.missing_text, &mut counts)?;
    let users = read_users(&files.inter, &files.item, config.missing_text, &mut index, &mut slots, &mut counts)?;
    counts.items_read = slots.len() as u64;
    let mut collected = Collected { name: files.prefix, path: files.inter, slots, users, counts };
    if config.repeats() == Repeats::First {
        collected.keep_first_purchases();
    }
    collected.finish(config.max_history)
}

fn read_items(
    path: &Path,
    missing: MissingText,
    counts: &mut ImportCounts,
) -> Result<(HashMap<String, u32>, Vec<Slot>)> {
    let mut index = HashMap::new();
    let mut slots: Vec<Slot> = Vec::new();
    each_entry(path, "an object of items, each with title and description", |key, record: Map<String, Value>| {
        counts.metadata_read += 1;
        if index.insert(key.clone(), slots.len() as u32).is_some() {
            return Err(format!("item `{key}` stands here a second time"));
        }
        let mut fields = Fields { record: &record, counts };
        let item = fields.item(key.clone()).map_err(|problem| format!("item `{key}`: {problem}"))?;
        let slot = Slot::of(item, record.get("title"));
        if slot == Slot::NoText && missing == MissingText::Error {
            return Err(format!("item `{key}` has neither title nor description (data.missing_text = \"error\")"));
        }
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
    each_entry(path, "an object of users, each with a list of items", |key, bought: Vec<ItemKey>| {
        if bought.is_empty() {
            return Err(format!("user `{key}` has no items"));
        }
        if !seen.insert(key.clone()) {
            return Err(format!("user `{key}` stands here a second time; merge the two lists"));
        }
        let mut items = Vec::with_capacity(bought.len());
        for ItemKey(item) in bought {
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
        counts.users_read += 1;
        counts.interactions_read += items.len() as u64;
        users.push(User { key, items });
        Ok(())
    })?;
    Ok(users)
}

/// An item as a user's list names it: a number or a text.
struct ItemKey(String);

impl<'de> Deserialize<'de> for ItemKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<ItemKey, D::Error> {
        struct Key;
        impl Visitor<'_> for Key {
            type Value = ItemKey;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an item number or key")
            }
            fn visit_u64<E>(self, number: u64) -> std::result::Result<ItemKey, E> {
                Ok(ItemKey(number.to_string()))
            }
            fn visit_str<E>(self, key: &str) -> std::result::Result<ItemKey, E> {
                Ok(ItemKey(key.to_owned()))
            }
        }
        deserializer.deserialize_any(Key)
    }
}

/// Calls `each` with every entry of the JSON object that a file consists of, without holding the whole.
fn each_entry<V, F>(path: &Path, expected: &str, mut each: F) -> Result<()>
where
    V: DeserializeOwned,
    F: FnMut(String, V) -> std::result::Result<(), String>,
{
    let file = File::open(path).map_err(Error::io(path))?;
    let mut json = serde_json::Deserializer::from_reader(BufReader::with_capacity(1 << 18, file));
    let entries = Entries { expected, each: &mut each, value: PhantomData };
    entries.deserialize(&mut json).and_then(|()| json.end()).map_err(|source| {
        if source.is_io() {
            return Error::Io { path: path.to_owned(), source: source.into() };
        }
        let said = source.to_string();
        let said = said.rsplit_once(" at line ").map_or(said.as_str(), |(said, _)| said);
        Error::Data {
            path: path.to_owned(),
            line: Some(source.line() as u64),
            problem: format!("{said} (column {})", source.column()),
            hint: said.contains("EOF while parsing").then(|| "the file is cut off; fetch it again".to_owned()),
        }
    })
}

struct Entries<'a, V, F> {
    expected: &'a str,
    each: &'a mut F,
    value: PhantomData<V>,
}

impl<'de, V, F> DeserializeSeed<'de> for Entries<'_, V, F>
where
    V: Deserialize<'de>,
    F: FnMut(String, V) -> std::result::Result<(), String>,
{
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, V, F> Visitor<'de> for Entries<'_, V, F>
where
    V: Deserialize<'de>,
    F: FnMut(String, V) -> std::result::Result<(), String>,
{
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            // serde_json finds the position again in the text of the error it is given.
            let value = map.next_value().map_err(|source| de::Error::custom(format!("`{key}`: {source}")))?;
            (self.each)(key, value).map_err(de::Error::custom)?;
        }
        Ok(())
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
            ("{\"A\": [1],\n \"B\": []}", "Toys.inter.json:2: user `B` has no items"),
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
