//! Whether slates to learn from give away what the test slates ask for.

use std::collections::HashMap;
use std::path::Path;

use super::{ImportedSlates, Slate};
use crate::data::{Dataset, Part};
use crate::error::{Error, Result};

/// Refuses slates to train on that give an answer of the test away: whose target or history holds the purchase that the
/// split keeps for the test, or that ask what a test slate asks.
///
/// A customer may have bought the item of the test before: that purchase may be learnt, from what came before it.
///
/// Errors: `Data` with the number of such lines, the first of them and what is wrong with it.
pub fn refuse_leaks(
    dataset: &Dataset,
    (train_path, train): (&Path, &ImportedSlates),
    (test_path, test): (&Path, &ImportedSlates),
) -> Result<()> {
    let asked: HashMap<u32, (&Slate, u64)> =
        test.slates.iter().zip(&test.lines).map(|(slate, line)| (slate.user, (slate, *line))).collect();
    let leak = |slate: &Slate| -> Option<String> {
        let purchases = dataset.users.get(slate.user as usize).map_or(&[][..], |user| &user.items);
        // What the split asks for, then what the file does.
        let of_split = dataset.split().history_for(slate.user, Part::Test).and_then(|_| problem(slate, purchases));
        of_split.or_else(|| {
            let (other, line) = asked.get(&slate.user)?;
            same_question(slate, other, purchases)
                .then(|| format!("asks for the target of line {line} of {}", test_path.display()))
        })
    };
    let found: Vec<(u64, u32, String)> = train
        .slates
        .iter()
        .zip(&train.lines)
        .filter_map(|(slate, line)| leak(slate).map(|problem| (*line, slate.user, problem)))
        .collect();
    let Some((line, user, first)) = found.first() else { return Ok(()) };
    let key = dataset.users.get(*user as usize).map_or("", |user| &user.key);
    Err(Error::Data {
        path: train_path.into(),
        line: Some(*line),
        problem: format!(
            "{} of {} slates to train on give test answers away; the first, of user {key:?}, {first}",
            found.len(),
            train.slates.len()
        ),
        hint: Some(
            "a user's last purchase is the test, the one before it the target to train on: remove the lines, or leave \
             `target` and `history` out of them"
                .into(),
        ),
    })
}

/// What a slate says of the last of a user's `purchases`.
fn problem(slate: &Slate, purchases: &[u32]) -> Option<String> {
    let (last, before) = purchases.split_last()?;
    let count = |items: &[u32]| items.iter().filter(|item| *item == last).count();
    if count(&slate.history) > count(before) {
        return Some("has the user's test purchase in its history".to_owned());
    }
    // A purchase of the same item before the test, after everything that the slate shows as bought.
    let earlier = |at: usize| before[at] == *last && slate.history.iter().all(|item| before[..at].contains(item));
    let is_leak = slate.target == Some(*last) && !(0..before.len()).any(earlier);
    is_leak.then(|| "has the user's test purchase as its target".to_owned())
}

/// Whether two slates of a user have one answer: the same target after the same history, or after any where the user
/// bought it once.
fn same_question(slate: &Slate, other: &Slate, purchases: &[u32]) -> bool {
    let Some(target) = slate.target.filter(|_| slate.target == other.target) else { return false };
    slate.history == other.history || purchases.iter().filter(|item| **item == target).count() < 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Catalogue, ImportCounts, Item, User};

    fn dataset() -> Dataset {
        let user = |key: &str, items: &[u32]| User { key: key.into(), items: items.into() };
        Dataset {
            name: "Toys".into(),
            catalogue: Catalogue { items: vec![Item::default(); 6] },
            // ann's test purchase is 3, bob's is 1, which he had before; eve has none
            users: vec![user("ann", &[0, 1, 2, 3]), user("bob", &[0, 1, 2, 4, 1]), user("eve", &[0, 1])],
            counts: ImportCounts::default(),
        }
    }

    fn imported(slates: &[Slate]) -> ImportedSlates {
        ImportedSlates { slates: slates.to_vec(), lines: (3..3 + slates.len() as u64).collect(), cut: 0 }
    }

    fn slate(user: u32, history: &[u32], target: u32) -> Slate {
        Slate { user, history: history.into(), candidates: vec![target, 5], target: Some(target) }
    }

    fn check(train: &[Slate], test: &[Slate]) -> std::result::Result<(), String> {
        let (train, test) = (imported(train), imported(test));
        refuse_leaks(&dataset(), (Path::new("train"), &train), (Path::new("test"), &test)).map_err(|e| e.to_string())
    }

    #[test]
    fn what_the_split_keeps_for_the_test_is_not_learnt() {
        let test = [slate(0, &[0, 1, 2], 3), slate(1, &[0, 1, 2, 4], 1)];
        let leaks = [
            slate(0, &[0, 1, 2], 3),
            slate(0, &[2], 3),
            slate(0, &[0, 1, 3], 2),
            slate(1, &[0, 1, 2, 4], 1),
            slate(1, &[4], 1),
            slate(1, &[0, 1, 1], 2),
        ];
        for leak in leaks {
            let error = check(&[slate(2, &[0], 1), leak.clone()], &test).unwrap_err();
            assert!(error.starts_with("data: train:4: 1 of 2 slates to train on give test answers away"), "{error}");
            assert!(error.contains("the user's test purchase") && error.contains("hint: "), "{error}");
        }
        for fine in [slate(0, &[0, 1], 2), slate(1, &[0], 1), slate(1, &[0, 1, 2], 4), slate(2, &[0], 1)] {
            check(&[fine], &test).unwrap();
        }
    }

    #[test]
    fn what_the_file_asks_in_its_test_is_not_learnt() {
        // A test of validation purchases, which the split gives to training.
        let test = [slate(0, &[0, 1], 2), slate(1, &[0, 1, 2], 4), slate(2, &[0], 1)];
        for same in [slate(0, &[0, 1], 2), slate(0, &[1], 2), slate(2, &[0], 1)] {
            let error = check(&[same], &test).unwrap_err();
            assert!(error.contains("asks for the target of line") && error.contains("of test"), "{error}");
        }
        let error = check(&test, &test).unwrap_err();
        assert!(error.starts_with("data: train:3: 3 of 3 slates"), "{error}");
        check(&[slate(0, &[0], 1)], &test).unwrap();
        check(&[Slate { target: None, ..test[0].clone() }], &test).unwrap();
    }
}
