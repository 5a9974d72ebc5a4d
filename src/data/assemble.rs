//! The steps every importer ends with: leave out items without text, k-core, cap, renumber, check.

use std::path::PathBuf;

use crate::data::fields::Slot;
use crate::data::prices::Prices;
use crate::data::{Catalogue, Dataset, ImportCounts, User, k_core};
use crate::error::{Error, Result};

/// What an importer has read: users whose purchases are indices of `slots`, in order of time.
pub(super) struct Collected {
    pub(super) name: String,
    /// The file of the interactions, for messages.
    pub(super) path: PathBuf,
    pub(super) slots: Vec<Slot>,
    pub(super) users: Vec<User>,
    pub(super) counts: ImportCounts,
    pub(super) prices: Prices,
}

impl Collected {
    /// Leaves out a user's purchases of an item bought before; the first stays.
    pub(super) fn keep_first_purchases(&mut self) {
        let mut buyer_before = vec![u32::MAX; self.slots.len()];
        for (index, user) in self.users.iter_mut().enumerate() {
            let before = user.items.len();
            user.items
                .retain(|&item| std::mem::replace(&mut buyer_before[item as usize], index as u32) != index as u32);
            self.counts.interactions_repeated += (before - user.items.len()) as u64;
        }
    }

    /// Leaves out users and items below the k-core; a `Missing` slot may be one whose metadata are still to be read.
    pub(super) fn keep_k_core(&mut self) {
        let core = k_core(&self.users, self.slots.len(), self.counts.k_core);
        for (slot, stays) in self.slots.iter_mut().zip(&core.items) {
            if !stays && *slot != Slot::Removed {
                *slot = Slot::Removed;
                self.counts.items_below_k_core += 1;
            }
        }
        let mut index = 0;
        self.users.retain_mut(|user| {
            let stays = core.users[index];
            index += 1;
            let before = user.items.len();
            user.items.retain(|&item| stays && core.items[item as usize]);
            self.counts.interactions_below_k_core += (before - user.items.len()) as u64;
            self.counts.users_below_k_core += u64::from(!stays);
            stays
        });
    }

    /// Leaves out what has no usable text, applies the k-core and the cap, and numbers the items that stay from 0.
    ///
    /// Errors: `Data` if no item or no user is left.
    pub(super) fn finish(mut self, max_history: Option<u32>) -> Result<Dataset> {
        self.prices.correct(&mut self.slots);
        self.drop_items_without_text();
        self.keep_k_core();
        self.cap(max_history);
        let users = self.users.len();
        let items = self.slots.iter().filter(|slot| matches!(slot, Slot::Usable(_))).count();
        if users == 0 || items == 0 {
            return Err(self.nothing_left(users, items));
        }

        let mut catalogue = Catalogue { items: Vec::with_capacity(items) };
        let mut number = vec![u32::MAX; self.slots.len()];
        for (slot, number) in self.slots.into_iter().zip(&mut number) {
            if let Slot::Usable(item) = slot {
                *number = catalogue.items.len() as u32;
                catalogue.items.push(*item);
            }
        }
        let mut bought = vec![false; items];
        for item in self.users.iter_mut().flat_map(|user| &mut user.items) {
            *item = number[*item as usize];
            bought[*item as usize] = true;
        }
        let mut dataset = Dataset { name: self.name, catalogue, users: self.users, counts: self.counts };
        dataset.counts.items = items as u64;
        dataset.counts.users = users as u64;
        dataset.counts.interactions = dataset.interactions();
        dataset.counts.items_without_interactions = bought.iter().filter(|bought| !**bought).count() as u64;
        Ok(dataset)
    }

    fn drop_items_without_text(&mut self) {
        let counts = &mut self.counts;
        for slot in &self.slots {
            match slot {
                Slot::Missing => counts.items_without_metadata += 1,
                Slot::MarkupTitle => counts.items_with_markup_title += 1,
                Slot::NoText => counts.items_without_text += 1,
                Slot::Removed | Slot::Usable(_) => {}
            }
        }
        let slots = &self.slots;
        self.users.retain_mut(|user| {
            user.items.retain(|&item| {
                match slots[item as usize] {
                    Slot::Usable(_) => return true,
                    Slot::Missing => counts.interactions_without_metadata += 1,
                    Slot::MarkupTitle => counts.interactions_with_markup_title += 1,
                    Slot::NoText => counts.interactions_without_text += 1,
                    Slot::Removed => counts.interactions_below_k_core += 1,
                }
                false
            });
            counts.users_emptied += u64::from(user.items.is_empty());
            !user.items.is_empty()
        });
        for slot in &mut self.slots {
            if !matches!(slot, Slot::Usable(_)) {
                *slot = Slot::Removed;
            }
        }
    }

    fn cap(&mut self, max_history: Option<u32>) {
        let Some(most) = max_history.map(|most| most as usize) else { return };
        for user in &mut self.users {
            if user.items.len() > most {
                let over = user.items.len() - most;
                user.items.drain(..over);
                self.counts.users_over_max_history += 1;
                self.counts.interactions_over_max_history += over as u64;
            }
        }
    }

    fn nothing_left(self, users: usize, items: usize) -> Error {
        let counts = &self.counts;
        let mut problem = format!(
            "nothing to train on: {users} users and {items} items are left of {} users, {} items and {} interactions read",
            counts.users_read, counts.items_read, counts.interactions_read
        );
        for (reason, count) in counts.left_out() {
            problem.push_str(&format!("\n  {count} {reason}"));
        }
        Error::Data { path: self.path, line: None, problem, hint: Some(remedy(counts).to_owned()) }
    }
}

/// What to do about the reason that took most of the interactions; of equal reasons the first in the order of the steps.
fn remedy(counts: &ImportCounts) -> &'static str {
    let reasons = [
        (counts.interactions_without_item, "the lists name no items (null or NaN): check how the file was exported"),
        (counts.interactions_without_time, "purchases need a time, which their order is made from"),
        (counts.interactions_without_metadata, "do the interactions and the metadata belong to the same category?"),
        (
            counts.interactions_with_markup_title,
            "the titles are page markup: the metadata were scraped from broken pages",
        ),
        (counts.interactions_without_text, "items need a title or a description"),
        (counts.interactions_below_k_core, "lower data.k_core"),
    ];
    let most = reasons.iter().map(|(count, _)| *count).max().unwrap_or(0);
    match reasons.iter().find(|(count, _)| *count == most && most > 0) {
        Some((_, remedy)) => remedy,
        None if counts.users_without_items > 0 => "every list of items in the file is empty",
        None => "the file has no interactions",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Item;

    fn collected(slots: Vec<Slot>, users: &[&[u32]], k_core: u32) -> Collected {
        let users: Vec<User> =
            users.iter().enumerate().map(|(u, items)| User { key: format!("u{u}"), items: items.to_vec() }).collect();
        let counts = ImportCounts {
            k_core,
            interactions_read: users.iter().map(|user| user.items.len() as u64).sum(),
            users_read: users.len() as u64,
            items_read: slots.len() as u64,
            ..ImportCounts::default()
        };
        Collected { name: "test".into(), path: "inter.json".into(), slots, users, counts, prices: Prices::default() }
    }

    fn usable(key: &str) -> Slot {
        Slot::Usable(Box::new(Item { key: key.into(), title: key.into(), ..Item::default() }))
    }

    #[test]
    fn everything_read_is_kept_or_counted() {
        let slots =
            vec![usable("a"), Slot::Missing, usable("b"), Slot::NoText, usable("c"), Slot::MarkupTitle, usable("d")];
        let users: &[&[u32]] = &[&[0, 1, 2, 0, 2], &[2, 3, 0, 0, 5], &[1, 5], &[0, 4], &[2, 0, 2]];
        let mut collected = collected(slots, users, 2);
        collected.keep_first_purchases();
        assert_eq!(collected.counts.interactions_repeated, 4);
        let dataset = collected.finish(None).unwrap();
        let keys: Vec<&str> = dataset.catalogue.items.iter().map(|item| item.key.as_str()).collect();
        assert_eq!(keys, ["a", "b"]);
        let items: Vec<(&str, &[u32])> =
            dataset.users.iter().map(|user| (user.key.as_str(), &user.items[..])).collect();
        assert_eq!(items, [("u0", &[0, 1][..]), ("u1", &[1, 0]), ("u4", &[1, 0])]);
        let counts = &dataset.counts;
        assert_eq!(counts.unaccounted(), [0; 3], "{counts}");
        assert_eq!(
            (counts.items_without_metadata, counts.items_without_text, counts.items_with_markup_title),
            (1, 1, 1)
        );
        assert_eq!((counts.users_emptied, counts.users_below_k_core, counts.items_below_k_core), (1, 1, 2));
    }

    #[test]
    fn no_core_keeps_items_nobody_bought_and_the_cap_the_latest() {
        let dataset = collected(vec![usable("a"), usable("b")], &[&[0, 0, 0, 0]], 0).finish(Some(3)).unwrap();
        assert_eq!(dataset.users[0].items, [0, 0, 0]);
        assert_eq!(dataset.counts.unaccounted(), [0; 3]);
        assert_eq!(dataset.counts.items_without_interactions, 1);
        assert_eq!((dataset.counts.users_over_max_history, dataset.counts.interactions_over_max_history), (1, 1));
    }

    #[test]
    fn nothing_left_is_an_error_that_says_why() {
        let error = collected(vec![usable("a")], &[&[0]], 5).finish(None).unwrap_err().to_string();
        assert!(error.contains("0 users and 0 items are left of 1 users, 1 items"), "{error}");
        assert!(error.contains("1 users below the k-core") && error.ends_with("hint: lower data.k_core"), "{error}");
        let error = collected(vec![Slot::Missing], &[&[0]], 5).finish(None).unwrap_err().to_string();
        assert!(error.contains("1 items without metadata") && error.contains("same category?"), "{error}");
    }

    #[test]
    fn the_hint_follows_the_largest_reason() {
        let hint = |slots: Vec<Slot>, users: &[&[u32]], k_core| {
            let error = collected(slots, users, k_core).finish(None).unwrap_err().to_string();
            error.split_once("hint: ").unwrap().1.to_owned()
        };
        for k_core in [0, 1, 5] {
            assert_eq!(hint(vec![Slot::NoText; 4], &[&[0, 1, 2, 3]], k_core), "items need a title or a description");
        }
        // Two items without text that somebody bought, ten that nobody did, and a core that takes the other three.
        let mut slots = vec![usable("a"), Slot::NoText, Slot::NoText];
        slots.extend(vec![Slot::NoText; 10]);
        assert_eq!(hint(slots, &[&[0, 0, 0, 1, 2]], 5), "lower data.k_core");
        assert!(
            hint(vec![Slot::MarkupTitle, Slot::Missing], &[&[0, 0, 1]], 1).starts_with("the titles are page markup")
        );
        assert_eq!(hint(vec![usable("a")], &[], 0), "the file has no interactions");
    }
}
