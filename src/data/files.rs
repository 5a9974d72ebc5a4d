//! The plain files of the stage: `items.jsonl`, `users.jsonl`, `counts.json`.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::data::lines::Lines;
use crate::data::{Catalogue, Dataset, ImportCounts, Item, User};
use crate::error::{Error, Result};
use crate::files::{write_atomic_with, write_jsonl};

const ITEMS: &str = "items.jsonl";
const USERS: &str = "users.jsonl";
const COUNTS: &str = "counts.json";

/// Contents of `counts.json`, which is written last: where it is, the other two are whole.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Summary {
    name: String,
    counts: ImportCounts,
}

impl Dataset {
    /// Writes the data set into a directory, which is made if needed. Every file is replaced whole or not at all.
    ///
    /// Errors: `Io`.
    pub fn write(&self, dir: &Path) -> Result<()> {
        fs::create_dir_all(dir).map_err(Error::io(dir))?;
        let summary = dir.join(COUNTS);
        if summary.exists() {
            fs::remove_file(&summary).map_err(Error::io(&summary))?;
        }
        write_jsonl(dir.join(ITEMS), &self.catalogue.items)?;
        write_jsonl(dir.join(USERS), &self.users)?;
        let counts = Summary { name: self.name.clone(), counts: self.counts.clone() };
        write_atomic_with(&summary, |out| {
            serde_json::to_writer_pretty(&mut *out, &counts)?;
            out.write_all(b"\n")
        })
    }

    /// Reads what [`Dataset::write`] wrote.
    ///
    /// Errors: `Data` with file and line for a record that is wrong, an item that does not exist, a user without items or
    /// twice, and for a number of records other than `counts.json` says; `Run` if the stage has not finished; `Io`.
    pub fn read(dir: &Path) -> Result<Dataset> {
        let path = dir.join(COUNTS);
        if !path.exists() {
            return Err(Error::Run {
                stage: "data".to_owned(),
                problem: format!("{} is not there", path.display()),
                hint: Some("run `gr2 data` first".to_owned()),
            });
        }
        let text = fs::read_to_string(&path).map_err(Error::io(&path))?;
        let Summary { name, counts } = serde_json::from_str(&text).map_err(|source| Error::Data {
            path: path.clone(),
            line: Some(source.line() as u64),
            problem: source.to_string(),
            hint: hint(),
        })?;
        let items = read_items(&dir.join(ITEMS), counts.items)?;
        let users = read_users(&dir.join(USERS), counts.users, items.len())?;
        Ok(Dataset { name, catalogue: Catalogue { items }, users, counts })
    }
}

fn hint() -> Option<String> {
    Some("the file was altered or cut off; rerun `gr2 data`".to_owned())
}

fn read_items(path: &Path, expected: u64) -> Result<Vec<Item>> {
    let mut items: Vec<Item> = Vec::new();
    let mut keys = HashSet::new();
    let mut lines = Lines::open(path)?;
    while let Some(line) = lines.next_line()? {
        let item: Item = line.json("an item with key, title, description, brand, categories and price")?;
        if !keys.insert(item.key.clone()) {
            return Err(line.error(format!("item `{}` stands here a second time", item.key)));
        }
        items.push(item);
    }
    check_length(path, items.len(), expected, "items")?;
    Ok(items)
}

fn read_users(path: &Path, expected: u64, items: usize) -> Result<Vec<User>> {
    let mut users: Vec<User> = Vec::new();
    let mut keys = HashSet::new();
    let mut lines = Lines::open(path)?;
    while let Some(line) = lines.next_line()? {
        let user: User = line.json("a user with key and items")?;
        if let Some(item) = user.items.iter().find(|item| **item as usize >= items) {
            return Err(line.error(format!(
                "user `{}`: item {item}, but {ITEMS} has items 0 to {}",
                user.key,
                items - 1
            )));
        }
        if user.items.is_empty() {
            return Err(line.error(format!("user `{}` has no items", user.key)));
        }
        if !keys.insert(user.key.clone()) {
            return Err(line.error(format!("user `{}` stands here a second time", user.key)));
        }
        users.push(user);
    }
    check_length(path, users.len(), expected, "users")?;
    Ok(users)
}

fn check_length(path: &Path, found: usize, expected: u64, what: &str) -> Result<()> {
    if found as u64 == expected && found > 0 {
        return Ok(());
    }
    let problem = format!("found {found} {what}, {COUNTS} says {expected}");
    Err(Error::Data { path: path.to_owned(), line: None, problem, hint: hint() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dataset() -> Dataset {
        let items = vec![
            Item { key: "a".into(), title: "Tea \"x\"\nñ".into(), price: Some(1.1), ..Item::default() },
            Item { key: "b".into(), categories: vec!["c".into()], description: "d".into(), ..Item::default() },
        ];
        let users = vec![User { key: "u".into(), items: vec![0, 1, 0] }, User { key: "v".into(), items: vec![1] }];
        let counts =
            ImportCounts { source: "shop".into(), items: 2, users: 2, interactions: 4, ..ImportCounts::default() };
        Dataset { name: "tiny".into(), catalogue: Catalogue { items }, users, counts }
    }

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/data");
        for _ in 0..2 {
            dataset().write(&path).unwrap();
            assert_eq!(Dataset::read(&path).unwrap(), dataset());
        }
        let mut names: Vec<_> = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, [COUNTS, ITEMS, USERS], "no temporary file stays");
    }

    #[test]
    fn damage_is_found_and_named() {
        let cases: [(&str, &str, &str, &str); 7] = [
            (USERS, "[1]", "[2]", "users.jsonl:2: user `v`: item 2, but items.jsonl has items 0 to 1"),
            (USERS, "[1]", "[]", "users.jsonl:2: user `v` has no items"),
            (USERS, "[1]", "[-1]", "users.jsonl:2: expected a user with key and items: invalid value: integer `-1`"),
            (USERS, "\"v\"", "\"u\"", "users.jsonl:2: user `u` stands here a second time"),
            (ITEMS, "\"b\"", "\"a\"", "items.jsonl:2: item `a` stands here a second time"),
            (ITEMS, "\"brand\"", "\"brnd\"", "items.jsonl:1: expected an item with key, title"),
            (COUNTS, "\"users\": 2", "\"users\": 3", "users.jsonl: found 2 users, counts.json says 3"),
        ];
        for (file, from, to, expected) in cases {
            let dir = tempfile::tempdir().unwrap();
            dataset().write(dir.path()).unwrap();
            let path = dir.path().join(file);
            let text = fs::read_to_string(&path).unwrap();
            assert!(text.contains(from), "{file} has no {from}");
            fs::write(&path, text.replace(from, to)).unwrap();
            let error = Dataset::read(dir.path()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let error = Dataset::read(Path::new("/nowhere")).unwrap_err().to_string();
        assert!(error.starts_with("run: data: ") && error.contains("hint: run `gr2 data` first"), "{error}");
    }
}
