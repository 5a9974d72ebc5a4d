//! The synthetic shop: a catalogue and customers made from a few probabilities, whose best possible ranking is known.
//!
//! Categories form a ring of complements (printer → ink → paper → …). A customer has a taste: one or two preferred
//! brands and a preferred price band. Each purchase goes
//!
//! 1. to the complement of the last purchase's category with `p_complement`, else to any category;
//! 2. to a preferred brand with `p_brand`, else to any brand; to the preferred band with `p_band`, else to any band;
//! 3. to any item of that shelf (category, brand, band) other than the last purchase; if there is none, to the nearest
//!    shelf of the category that has one.
//!
//! Category, brand, band and complement stand in the item texts and nothing else about an item matters, so reading and
//! reasoning over the texts is what pays. [`Shop::next_probabilities`] inverts the recipe exactly.
//!
//! | file | what |
//! |---|---|
//! | `config` | `ShopConfig` |
//! | `words` | the closed vocabulary and the item texts |
//! | `shelves` | which items stand where; the nearest shelf |
//! | `taste` | what customers prefer, and how likely |
//! | `oracle` | posterior over tastes, probability of the next purchase |

mod config;
mod oracle;
mod shelves;
mod taste;
mod words;

use rand::RngExt;

pub use config::ShopConfig;

use crate::data::{Catalogue, Dataset, ImportCounts, Item, User};
use crate::error::Result;
use crate::tensor::{Rng, stream};
use shelves::Shelves;
use taste::Tastes;

/// A shop with its catalogue and the probabilities that its customers follow.
#[derive(Debug, Clone)]
pub struct Shop {
    config: ShopConfig,
    items: Vec<Item>,
    shelves: Shelves,
    tastes: Tastes,
}

impl Shop {
    /// Stocks the shop; the same configuration gives the same shop.
    ///
    /// Errors: `Config`.
    pub fn build(config: &ShopConfig) -> Result<Shop> {
        config.validate()?;
        let shelves = Shelves::stock(config, &mut stream(config.seed, "shop catalogue", 0, 0));
        let items =
            shelves.places().iter().enumerate().map(|(index, place)| words::item(index, place, config.categories));
        Ok(Shop { config: config.clone(), items: items.collect(), tastes: Tastes::of(config), shelves })
    }

    /// The catalogue and all customers' purchases.
    pub fn dataset(&self) -> Dataset {
        let users =
            (0..self.config.users).map(|user| User { key: format!("user-{user}"), items: self.purchases(user) });
        let catalogue = Catalogue { items: self.items.clone() };
        let mut data =
            Dataset { name: "shop".to_owned(), catalogue, users: users.collect(), counts: ImportCounts::default() };
        let mut bought = vec![false; self.items.len()];
        for item in data.users.iter().flat_map(|user| &user.items) {
            bought[*item as usize] = true;
        }
        let (users, items, interactions) = (data.users.len() as u64, self.items.len() as u64, data.interactions());
        data.counts = ImportCounts {
            source: "shop".to_owned(),
            repeats_kept: true,
            interactions_read: interactions,
            users_read: users,
            items_read: items,
            interactions,
            users,
            items,
            items_without_interactions: bought.iter().filter(|bought| !**bought).count() as u64,
            ..ImportCounts::default()
        };
        data
    }

    /// Every category with its complement, in the order of the ring: the domain knowledge behind the purchases.
    pub fn complements(&self) -> Vec<(&'static str, &'static str)> {
        let names = &words::CATEGORIES[..self.config.categories as usize];
        names.iter().enumerate().map(|(at, name)| (*name, names[(at + 1) % names.len()])).collect()
    }

    fn purchases(&self, user: u32) -> Vec<u32> {
        // A stream each: more customers leave the first ones as they are.
        let mut rng = stream(self.config.seed, "shop customer", 0, u64::from(user));
        let length = rng.random_range(self.config.min_purchases..=self.config.max_purchases);
        let taste = draw(&mut rng, self.tastes.prior());
        let mut purchases: Vec<u32> = Vec::with_capacity(length as usize);
        for _ in 0..length {
            let last = purchases.last().copied();
            let category = draw(&mut rng, &self.category_probabilities(last)) as u32;
            let brand = draw(&mut rng, self.tastes.brands(taste)) as u32;
            let band = draw(&mut rng, self.tastes.bands(taste)) as u32;
            let shelf = self.shelves.nearest(category, brand, band, last);
            let choice: Vec<u32> = self.shelves.items_but(shelf, last).collect();
            purchases.push(choice[rng.random_range(0..choice.len() as u32) as usize]);
        }
        purchases
    }

    /// Probability of each category for the purchase after `last`.
    fn category_probabilities(&self, last: Option<u32>) -> Vec<f64> {
        let categories = self.config.categories;
        let Some(last) = last else { return vec![1.0 / f64::from(categories); categories as usize] };
        let elsewhere = (1.0 - self.config.p_complement) / f64::from(categories);
        let mut probabilities = vec![elsewhere; categories as usize];
        let complement = (self.shelves.places()[last as usize].category + 1) % categories;
        probabilities[complement as usize] += self.config.p_complement;
        probabilities
    }
}

/// An index drawn with the given probabilities, which sum to one.
fn draw(rng: &mut Rng, probabilities: &[f64]) -> usize {
    let mut left: f64 = rng.random();
    for (index, probability) in probabilities.iter().enumerate() {
        left -= probability;
        if left < 0.0 {
            return index;
        }
    }
    // Rounding can leave a rest of some 1e-16 after the last one.
    probabilities.len() - 1
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_default_shop_is_as_described() {
        let shop = Shop::build(&ShopConfig::default()).unwrap();
        let data = shop.dataset();
        assert_eq!((data.users.len(), data.catalogue.len()), (3000, 600));
        assert_eq!(data.counts.unaccounted(), [0; 3]);
        let mut titles = BTreeSet::new();
        let mut words = BTreeSet::new();
        for item in &data.catalogue.items {
            assert!(titles.insert(&item.title), "{} twice", item.title);
            assert!(item.has_text() && item.price.is_some());
            words.extend(item.text().split_whitespace().map(|word| word.trim_matches(['.', ',', ':']).to_lowercase()));
        }
        assert!(words.len() < 100, "{} words: {words:?}", words.len());
        for user in &data.users {
            assert!((6..=12).contains(&user.items.len()));
            assert!(user.items.windows(2).all(|pair| pair[0] != pair[1]), "an immediate repeat");
        }
        assert!(data.counts.items_without_interactions < 6, "{}", data.counts.items_without_interactions);
    }

    #[test]
    fn seeds_and_sizes() {
        let config = ShopConfig { users: 50, ..ShopConfig::default() };
        let data = Shop::build(&config).unwrap().dataset();
        assert_eq!(Shop::build(&config).unwrap().dataset(), data);
        let more = Shop::build(&ShopConfig { users: 80, ..config.clone() }).unwrap().dataset();
        assert_eq!(more.users[..50], data.users[..]);
        let other = Shop::build(&ShopConfig { seed: 18, ..config }).unwrap().dataset();
        assert_ne!(other.users, data.users);
    }

    #[test]
    fn texts_name_the_complement_of_the_ring() {
        let shop = Shop::build(&ShopConfig { categories: 3, items: 60, ..ShopConfig::default() }).unwrap();
        assert_eq!(shop.complements(), [("printer", "ink"), ("ink", "paper"), ("paper", "printer")]);
        for item in &shop.items {
            let complement = shop.complements().into_iter().find(|pair| pair.0 == item.categories[0]).unwrap().1;
            assert!(item.description.ends_with(&format!("goes well with {complement}.")), "{}", item.description);
        }
    }
}
