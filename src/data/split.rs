//! Leave-one-out: the last purchase is the test target, the one before it the validation target.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::data::Dataset;

/// Fewest purchases of a user who is evaluated: one to train on, one to validate, one to test.
const FEWEST: usize = 3;

/// Which target is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// The last purchase of the training part, given those before it.
    Train,
    /// The second last purchase, given the training part.
    Validation,
    /// The last purchase, given all before it, the validation item included.
    Test,
}

/// A leave-one-out view of a data set; holds no copy of it.
#[derive(Debug, Clone, Copy)]
pub struct Split<'a> {
    dataset: &'a Dataset,
}

impl Dataset {
    /// The leave-one-out split.
    pub fn split(&self) -> Split<'_> {
        Split { dataset: self }
    }
}

impl<'a> Split<'a> {
    /// What may be trained on of a user: all but the last two purchases, or all of a user with fewer than three.
    ///
    /// Empty for a user number that does not exist.
    pub fn train(&self, user: u32) -> &'a [u32] {
        let items = self.items(user);
        if items.len() < FEWEST { items } else { &items[..items.len() - 2] }
    }

    /// History and target of a user, or `None` where the user has no such target.
    ///
    /// Users with fewer than three purchases have no validation and no test target. The training target needs a training
    /// part of at least two. The history is never empty and never reaches the target.
    pub fn history_for(&self, user: u32, part: Part) -> Option<(&'a [u32], u32)> {
        let items = self.items(user);
        let until_target = match part {
            Part::Train => self.train(user),
            Part::Validation if items.len() >= FEWEST => &items[..items.len() - 1],
            Part::Test if items.len() >= FEWEST => items,
            Part::Validation | Part::Test => return None,
        };
        match until_target.split_last() {
            Some((target, history)) if !history.is_empty() => Some((history, *target)),
            _ => None,
        }
    }

    /// The users who have a target in a part, ascending.
    pub fn users(&self, part: Part) -> impl Iterator<Item = u32> {
        let split = *self;
        (0..self.dataset.users.len() as u32).filter(move |&user| split.history_for(user, part).is_some())
    }

    /// What a metric on this split means, for printing beside it.
    pub fn protocol(&self) -> Protocol {
        let counts = &self.dataset.counts;
        let evaluated = self.dataset.users.iter().filter(|user| user.items.len() >= FEWEST).count();
        Protocol {
            dataset: self.dataset.name.clone(),
            users_evaluated: evaluated as u64,
            users_train_only: (self.dataset.users.len() - evaluated) as u64,
            items: self.dataset.catalogue.len() as u64,
            k_core: counts.k_core,
            repeats_kept: counts.repeats_kept,
        }
    }

    fn items(&self, user: u32) -> &'a [u32] {
        self.dataset.users.get(user as usize).map_or(&[], |user| &user.items)
    }
}

/// How users, items and targets were chosen; metrics of different protocols cannot be compared.
///
/// Displays as one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protocol {
    /// Name of the data set.
    pub dataset: String,
    /// Users with a validation and a test target.
    pub users_evaluated: u64,
    /// Users with fewer than three purchases.
    pub users_train_only: u64,
    /// Items of the catalogue.
    pub items: u64,
    /// The k-core that was applied; 0 = none.
    pub k_core: u32,
    /// Whether repeated purchases were kept.
    pub repeats_kept: bool,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: leave-one-out in time (last = test, second last = validation and part of the test history), {} users, {} items",
            self.dataset, self.users_evaluated, self.items
        )?;
        if self.users_train_only > 0 {
            write!(f, ", {} users with fewer than {FEWEST} purchases train only", self.users_train_only)?;
        }
        match self.k_core {
            0 => write!(f, ", no k-core of our own")?,
            k => write!(f, ", {k}-core")?,
        }
        f.write_str(if self.repeats_kept { ", repeats kept" } else { ", first purchase of an item only" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Catalogue, ImportCounts, Item, User};

    fn dataset(lists: &[&[u32]]) -> Dataset {
        Dataset {
            name: "Toys".into(),
            catalogue: Catalogue { items: vec![Item::default(); 10] },
            users: lists.iter().map(|items| User { key: String::new(), items: items.to_vec() }).collect(),
            counts: ImportCounts { k_core: 5, ..ImportCounts::default() },
        }
    }

    #[test]
    fn each_part_sees_only_what_came_before() {
        let data = dataset(&[&[5, 6, 7, 8], &[1, 2, 3], &[1, 2], &[1]]);
        let split = data.split();
        assert_eq!(split.train(0), [5, 6]);
        assert_eq!(split.history_for(0, Part::Train), Some((&[5][..], 6)));
        assert_eq!(split.history_for(0, Part::Validation), Some((&[5, 6][..], 7)));
        assert_eq!(split.history_for(0, Part::Test), Some((&[5, 6, 7][..], 8)));
        assert_eq!(split.train(1), [1]);
        assert_eq!(split.history_for(1, Part::Train), None);
        assert_eq!(split.history_for(1, Part::Validation), Some((&[1][..], 2)));
        assert_eq!(split.train(2), [1, 2]);
        assert_eq!(split.history_for(2, Part::Train), Some((&[1][..], 2)));
        assert_eq!(split.history_for(2, Part::Test), None);
        assert_eq!(split.train(3), [1]);
        assert_eq!(split.history_for(99, Part::Test), None);
        assert_eq!(split.users(Part::Train).collect::<Vec<_>>(), [0, 2]);
        assert_eq!(split.users(Part::Test).collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn the_protocol_is_one_line_with_every_choice() {
        let protocol = dataset(&[&[1, 2, 3], &[1]]).split().protocol();
        assert_eq!(
            protocol.to_string(),
            "Toys: leave-one-out in time (last = test, second last = validation and part of the test history), 1 users, \
             10 items, 1 users with fewer than 3 purchases train only, 5-core, first purchase of an item only"
        );
    }
}
