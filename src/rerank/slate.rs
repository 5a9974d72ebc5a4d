//! [`Slate`]: ten candidates for one customer in the order in which an upstream ranker gave them.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::data::lines::Lines;
use crate::error::Result;
use crate::files::write_jsonl;

/// What is to be re-ranked, and what was bought in the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slate {
    /// Number of the customer.
    pub user: u32,
    /// Purchases before this moment, oldest first.
    pub history: Vec<u32>,
    /// Items in the incoming order, best first.
    pub candidates: Vec<u32>,
    /// What was bought next, where it is known; it need not be among the candidates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<u32>,
}

/// A slate without its answer: all that a re-ranker or a teacher gets to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question<'a> {
    /// Number of the customer.
    pub user: u32,
    /// The most recent purchases, oldest first.
    pub history: &'a [u32],
    /// Items in the incoming order, best first.
    pub candidates: &'a [u32],
}

impl Slate {
    /// Position of the target in the incoming order, from 1; `None` if it is not known or not among the candidates.
    pub fn rank_pre(&self) -> Option<usize> {
        let target = self.target?;
        self.candidates.iter().position(|&candidate| candidate == target).map(|at| at + 1)
    }

    /// The slate without its answer, the history cut to the last `history_items` purchases.
    pub fn question(&self, history_items: usize) -> Question<'_> {
        let start = self.history.len().saturating_sub(history_items);
        Question { user: self.user, history: &self.history[start..], candidates: &self.candidates }
    }

    /// What is wrong with this slate for a catalogue of `items` items, if anything.
    pub fn problem(&self, items: usize) -> Option<String> {
        let lists = [("history", &self.history), ("candidates", &self.candidates)];
        if let Some((name, _)) = lists.iter().find(|(_, list)| list.is_empty()) {
            return Some(format!("user {}: {name} is empty", self.user));
        }
        let named = lists.iter().flat_map(|(_, list)| list.iter()).chain(&self.target);
        if let Some(item) = named.copied().find(|&item| item as usize >= items) {
            return Some(format!("user {}: item {item}, the catalogue has {items} items", self.user));
        }
        let mut seen = BTreeSet::new();
        let repeated = self.candidates.iter().find(|&&item| !seen.insert(item))?;
        Some(format!("user {}: candidate {repeated} is there twice", self.user))
    }
}

/// How good the incoming order of some slates is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SlateCounts {
    /// All slates.
    pub slates: u64,
    /// Those whose target is known.
    pub with_target: u64,
    /// Those whose target is among the candidates.
    pub hits: u64,
    /// hits / with_target: what turns a metric inside the slate into one end to end.
    pub hit_rate: f64,
    /// Targets found at each position of the incoming order, first position first.
    pub hits_at: Vec<u64>,
}

impl SlateCounts {
    /// Counts `slates`.
    pub fn of<'a>(slates: impl IntoIterator<Item = &'a Slate>) -> Self {
        let mut counts = SlateCounts::default();
        for slate in slates {
            counts.slates += 1;
            counts.with_target += u64::from(slate.target.is_some());
            if let Some(rank) = slate.rank_pre() {
                counts.hits += 1;
                counts.hits_at.resize(counts.hits_at.len().max(rank), 0);
                counts.hits_at[rank - 1] += 1;
            }
        }
        counts.hit_rate = counts.hits as f64 / counts.with_target.max(1) as f64;
        counts
    }
}

/// Writes one slate per line, `{"user", "history", "candidates", "target"}`; the file appears whole or not at all.
///
/// Errors: `Io`.
pub fn write_slates(path: &Path, slates: &[Slate]) -> Result<()> {
    write_jsonl(path, slates)
}

/// Reads what [`write_slates`] wrote (or a gzip of it), for a catalogue of `items` items.
///
/// Errors: `Io`; `Data` with the line for a slate with an empty list, a repeated candidate, an item that the catalogue
/// does not have, or no target where `need_target`; `Data` if there is no slate at all.
pub fn read_slates(path: &Path, items: usize, need_target: bool) -> Result<Vec<Slate>> {
    let mut lines = Lines::open(path)?;
    let mut slates = Vec::new();
    while let Some(line) = lines.next_line()? {
        let slate: Slate = line.json("{\"user\", \"history\", \"candidates\", \"target\"}")?;
        if let Some(problem) = slate.problem(items) {
            return Err(line.error(problem));
        }
        if need_target && slate.target.is_none() {
            return Err(line.error(format!("user {}: no target, and this stage learns from it", slate.user)));
        }
        slates.push(slate);
    }
    match slates.is_empty() {
        true => Err(super::bad_file(path, None, "no slate in the file", None)),
        false => Ok(slates),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slate(history: &[u32], candidates: &[u32], target: Option<u32>) -> Slate {
        Slate { user: 7, history: history.into(), candidates: candidates.into(), target }
    }

    #[test]
    fn rank_and_question() {
        let slate = slate(&[1, 2, 3], &[9, 4, 5], Some(4));
        assert_eq!(slate.rank_pre(), Some(2));
        assert_eq!(slate.question(2), Question { user: 7, history: &[2, 3], candidates: &[9, 4, 5] });
        assert_eq!(slate.question(9).history, [1, 2, 3]);
        assert_eq!(Slate { target: Some(6), ..slate.clone() }.rank_pre(), None);
        assert_eq!(Slate { target: None, ..slate }.rank_pre(), None);
    }

    #[test]
    fn counts_know_the_hit_rate() {
        let slates = [slate(&[1], &[2, 3], Some(3)), slate(&[1], &[2, 3], Some(9)), slate(&[1], &[2], None)];
        let counts = SlateCounts::of(&slates);
        assert_eq!((counts.slates, counts.with_target, counts.hits), (3, 2, 1));
        assert_eq!((counts.hit_rate, counts.hits_at), (0.5, vec![0, 1]));
    }

    #[test]
    fn files_come_back_and_bad_lines_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("slates.jsonl");
        let slates = [slate(&[1], &[2, 3], Some(3)), slate(&[0, 1], &[3], None)];
        write_slates(&path, &slates).unwrap();
        assert_eq!(read_slates(&path, 4, false).unwrap(), slates);
        let message = |items, need_target| {
            let error = read_slates(&path, items, need_target).unwrap_err().to_string();
            error.split_once("slates.jsonl").unwrap().1.to_owned()
        };
        assert_eq!(message(4, true), ":2: user 7: no target, and this stage learns from it");
        assert_eq!(message(3, false), ":1: user 7: item 3, the catalogue has 3 items");
        for (line, expected) in [
            (r#"{"user":1,"history":[0],"candidates":[2,1,2]}"#, ":1: user 1: candidate 2 is there twice"),
            (r#"{"user":1,"history":[],"candidates":[2]}"#, ":1: user 1: history is empty"),
            (r#"{"user":1,"history":[0],"candidates":[]}"#, ":1: user 1: candidates is empty"),
            (
                r#"{"user":1,"history":[0],"candidates":[1],"target":4}"#,
                ":1: user 1: item 4, the catalogue has 4 items",
            ),
            ("", ": no slate in the file"),
        ] {
            std::fs::write(&path, line).unwrap();
            assert_eq!(message(4, false), expected);
        }
        std::fs::write(&path, r#"{"user":1,"history":[0],"items":[1]}"#).unwrap();
        assert!(
            message(4, false)
                .starts_with(":1: expected {\"user\", \"history\", \"candidates\", \"target\"}: unknown field")
        );
    }
}
