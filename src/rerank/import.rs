//! Slates of a user's own ranker.

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;

use super::Slate;
use crate::data::lines::{Line, Lines};
use crate::data::{Dataset, Part};
use crate::error::Result;

/// One line of the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    user: String,
    candidates: Vec<Name>,
    scores: Option<Vec<f64>>,
    history: Option<Vec<Name>>,
    target: Option<Name>,
}

/// An item by its key in the data, or by its number in the catalogue.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Name {
    Number(u32),
    Key(String),
}

/// Slates that were read, and what was left out of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedSlates {
    /// In the order of the file.
    pub slates: Vec<Slate>,
    /// The line of each.
    pub lines: Vec<u64>,
    /// Candidates beyond the size of a slate, left out.
    pub cut: u64,
}

/// Reads slates of a user's own ranker: one JSON object a line (plain or gzip),
/// `{"user": key, "candidates": [item, …], "scores": […], "history": [item, …], "target": item}`.
///
/// An item is its key in the data (a string) or its number in the catalogue. With `scores`, one per candidate, the
/// highest comes first, equal ones in the order of the file; without, candidates are in order already. The first `size`
/// are kept. History and target are those of the split for `part` unless the line has its own; only the latter may
/// name a user whom the split does not evaluate.
///
/// Errors: `Io`; `Data` with the line for an unknown user or item, a user who is there twice, a repeated candidate,
/// an empty list, scores that do not fit, or a user without a target in `part`.
pub fn import_slates(path: &Path, dataset: &Dataset, part: Part, size: usize) -> Result<ImportedSlates> {
    let catalogue = &dataset.catalogue;
    let users: HashMap<&str, u32> = dataset.users.iter().map(|user| user.key.as_str()).zip(0..).collect();
    let items: HashMap<&str, u32> = catalogue.items.iter().map(|item| item.key.as_str()).zip(0..).collect();
    let mut first_line: HashMap<u32, u64> = HashMap::new();
    let mut imported = ImportedSlates { slates: Vec::new(), lines: Vec::new(), cut: 0 };
    let mut lines = Lines::open(path)?;
    while let Some(line) = lines.next_line()? {
        let record: Record = line.json("{\"user\", \"candidates\"} and perhaps \"scores\", \"history\", \"target\"")?;
        let Some(&user) = users.get(record.user.as_str()) else {
            return Err(line.error(format!("user {:?}: the data have no such user", record.user)));
        };
        if let Some(first) = first_line.insert(user, line.number) {
            return Err(line.error(format!("user {:?}: has a slate already, on line {first}", record.user)));
        }
        let find = |name: &Name| find_item(name, &items, catalogue.len(), &line);
        let mut candidates: Vec<u32> = record.candidates.iter().map(find).collect::<Result<_>>()?;
        if let Some(scores) = &record.scores {
            candidates = by_score(&candidates, scores, &line)?;
        }
        imported.cut += candidates.len().saturating_sub(size) as u64;
        let of_split = dataset.split().history_for(user, part);
        let history = match (&record.history, of_split) {
            (Some(names), _) => names.iter().map(find).collect::<Result<_>>()?,
            (None, Some((history, _))) => history.to_vec(),
            (None, None) => {
                let problem = format!("user {:?}: has no history and target in this part of the data", record.user);
                return Err(line.error_with_hint(problem, "remove the line, or give it a history and a target"));
            }
        };
        let target = match &record.target {
            Some(name) => Some(find(name)?),
            // A target of the split does not belong to another history.
            None if record.history.is_some() => None,
            None => of_split.map(|(_, target)| target),
        };
        let mut slate = Slate { user, history, candidates, target };
        if let Some(problem) = slate.problem(catalogue.len()) {
            return Err(line.error(problem));
        }
        slate.candidates.truncate(size);
        imported.slates.push(slate);
        imported.lines.push(line.number);
    }
    match imported.slates.is_empty() {
        true => Err(super::bad_file(path, None, "no slate in the file", None)),
        false => Ok(imported),
    }
}

fn find_item(name: &Name, items: &HashMap<&str, u32>, count: usize, line: &Line) -> Result<u32> {
    match name {
        Name::Number(item) if (*item as usize) < count => Ok(*item),
        Name::Number(item) => Err(line.error(format!("item {item}, the catalogue has {count} items"))),
        Name::Key(key) => items.get(key.as_str()).copied().ok_or_else(|| {
            let hint = "items without text or below the k-core were left out of the data; numbers are catalogue rows";
            line.error_with_hint(format!("item {key:?}: the catalogue has no such item"), hint)
        }),
    }
}

fn by_score(candidates: &[u32], scores: &[f64], line: &Line) -> Result<Vec<u32>> {
    if scores.len() != candidates.len() {
        return Err(line.error(format!("{} scores, {} candidates", scores.len(), candidates.len())));
    }
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    Ok(order.into_iter().map(|at| candidates[at]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Catalogue, ImportCounts, Item, User};

    fn dataset() -> Dataset {
        let item = |key: &str| Item { key: key.into(), title: key.into(), ..Item::default() };
        let user = |key: &str, items: &[u32]| User { key: key.into(), items: items.into() };
        Dataset {
            name: "Toys".into(),
            catalogue: Catalogue { items: ["A", "B", "C", "D", "E"].map(item).into() },
            users: vec![user("ann", &[0, 1, 2, 3]), user("bob", &[4, 0])],
            counts: ImportCounts::default(),
        }
    }

    fn import(text: &str) -> std::result::Result<ImportedSlates, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mine.jsonl");
        std::fs::write(&path, text).unwrap();
        import_slates(&path, &dataset(), Part::Test, 3)
            .map_err(|e| e.to_string().split_once("mine.jsonl").unwrap().1.to_owned())
    }

    #[test]
    fn keys_numbers_scores_and_the_split() {
        let text = "{\"user\": \"ann\", \"candidates\": [\"E\", 3, \"B\", \"A\"], \"scores\": [0.1, 2, 2, -1]}\n\
                    {\"user\": \"bob\", \"candidates\": [\"C\"], \"history\": [\"E\"], \"target\": \"A\"}";
        let imported = import(text).unwrap();
        assert_eq!(imported.cut, 1);
        let ann = Slate { user: 0, history: vec![0, 1, 2], candidates: vec![3, 1, 4], target: Some(3) };
        let bob = Slate { user: 1, history: vec![4], candidates: vec![2], target: Some(0) };
        assert_eq!(imported.slates, [ann, bob]);
        let own = import(r#"{"user": "ann", "candidates": ["D"], "history": ["A"]}"#).unwrap();
        assert_eq!(own.slates[0].target, None, "the target of another history is not this one's");
    }

    #[test]
    fn bad_lines_are_named() {
        let line = |rest: &str| import(&format!("{{\"user\": \"ann\", \"candidates\": {rest}}}")).unwrap_err();
        assert!(line("[\"Z\"]").starts_with(":1: item \"Z\": the catalogue has no such item\n  hint: "));
        assert_eq!(line("[5]"), ":1: item 5, the catalogue has 5 items");
        assert_eq!(line("[\"A\", 0]"), ":1: user 0: candidate 0 is there twice");
        assert_eq!(line("[]"), ":1: user 0: candidates is empty");
        assert_eq!(line("[1, 2], \"scores\": [1]"), ":1: 1 scores, 2 candidates");
        let other = import("{\"user\": \"eve\", \"candidates\": [1]}").unwrap_err();
        assert_eq!(other, ":1: user \"eve\": the data have no such user");
        let short = import("{\"user\": \"bob\", \"candidates\": [1]}").unwrap_err();
        assert!(short.starts_with(":1: user \"bob\": has no history and target in this part"), "{short}");
        let twice = "{\"user\": \"ann\", \"candidates\": [1]}\n".repeat(2);
        assert_eq!(import(&twice).unwrap_err(), ":2: user \"ann\": has a slate already, on line 1");
        assert_eq!(import("").unwrap_err(), ": no slate in the file");
    }
}
