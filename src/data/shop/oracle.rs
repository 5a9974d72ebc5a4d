//! The best possible recommender of the shop: Bayes' rule over the customer's taste, without approximation.

use std::path::PathBuf;

use crate::data::shop::Shop;
use crate::data::shop::words::BANDS;
use crate::error::{Error, Result};

impl Shop {
    /// P(next purchase = i | history) for every item i, exact: the customer's taste is summed out under its posterior.
    ///
    /// `history` is the whole history from the first purchase, oldest first; empty is a customer who comes in. Ranking
    /// candidates by these probabilities gives the best expected recall and NDCG that any ranker can have.
    ///
    /// Errors: `Data` for an item that the shop does not have, and for a history that cannot happen in it.
    pub fn next_probabilities(&self, history: &[u32]) -> Result<Vec<f64>> {
        let posterior = self.taste_posterior(history)?;
        let last = history.last().copied();
        let (n_brands, n_bands) = (self.config.brands as usize, BANDS.len());
        // Brand and band are independent given the taste only, so their joint probability has to be summed.
        let mut wanted = vec![0.0; n_brands * n_bands];
        for (taste, weight) in posterior.iter().enumerate().filter(|(_, weight)| **weight > 0.0) {
            for (brand, of_brand) in self.tastes.brands(taste).iter().enumerate() {
                for (band, of_band) in self.tastes.bands(taste).iter().enumerate() {
                    wanted[brand * n_bands + band] += weight * of_brand * of_band;
                }
            }
        }
        let mut next = vec![0.0; self.items.len()];
        for (category, of_category) in self.category_probabilities(last).into_iter().enumerate() {
            for (index, of_wish) in wanted.iter().enumerate() {
                let (brand, band) = (index / n_bands, index % n_bands);
                let shelf = self.shelves.nearest(category as u32, brand as u32, band as u32, last);
                let share = of_category * of_wish / self.shelves.items_but(shelf, last).count() as f64;
                self.shelves.items_but(shelf, last).for_each(|item| next[item as usize] += share);
            }
        }
        Ok(next)
    }

    /// Probability of each taste after a history. Categories say nothing of a taste, so only brand and band count.
    fn taste_posterior(&self, history: &[u32]) -> Result<Vec<f64>> {
        let mut posterior = self.tastes.prior().to_vec();
        let mut last = None;
        for &item in history {
            let Some(place) = self.shelves.places().get(item as usize) else {
                return Err(impossible(format!("item {item}, but the shop has items 0 to {}", self.items.len() - 1)));
            };
            // The wishes that lead to this shelf: its own, and those whose shelf has nothing to buy.
            let shelf = self.shelves.of(item);
            let wishes: Vec<(usize, usize)> = (0..self.config.brands)
                .flat_map(|brand| (0..BANDS.len() as u32).map(move |band| (brand, band)))
                .filter(|(brand, band)| self.shelves.nearest(place.category, *brand, *band, last) == shelf)
                .map(|(brand, band)| (brand as usize, band as usize))
                .collect();
            for (taste, weight) in posterior.iter_mut().enumerate() {
                let (brands, bands) = (self.tastes.brands(taste), self.tastes.bands(taste));
                *weight *= wishes.iter().map(|(brand, band)| brands[*brand] * bands[*band]).sum::<f64>();
            }
            let total: f64 = posterior.iter().sum();
            if last == Some(item) || total <= 0.0 {
                return Err(impossible(format!("a purchase of item {item} that no customer of this shop can make")));
            }
            posterior.iter_mut().for_each(|weight| *weight /= total);
            last = Some(item);
        }
        Ok(posterior)
    }
}

fn impossible(problem: String) -> Error {
    Error::Data {
        path: PathBuf::from("shop"),
        line: None,
        problem: format!("history with {problem}"),
        hint: Some("the history was made by another shop; compare data.shop".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::data::shop::ShopConfig;
    use crate::data::{Dataset, Part};

    #[test]
    fn probabilities_sum_to_one_and_never_repeat_the_last() {
        let shop = Shop::build(&ShopConfig { users: 30, items: 40, ..ShopConfig::default() }).unwrap();
        let data = shop.dataset();
        for user in &data.users {
            for end in 0..user.items.len() {
                let next = shop.next_probabilities(&user.items[..end]).unwrap();
                assert!((next.iter().sum::<f64>() - 1.0).abs() < 1e-9);
                assert!(next[user.items[end] as usize] > 0.0, "what happened was possible");
                if end > 0 {
                    assert_eq!(next[user.items[end - 1] as usize], 0.0);
                }
            }
        }
        assert!(shop.next_probabilities(&[40]).unwrap_err().to_string().contains("the shop has items 0 to 39"));
        assert!(shop.next_probabilities(&[1, 1]).unwrap_err().to_string().contains("no customer"));
    }

    /// Few items, so that many customers share a history: what they buy next must be what the oracle says.
    #[test]
    fn agrees_with_what_customers_do() {
        let config = ShopConfig {
            users: 120_000,
            items: 12,
            categories: 2,
            brands: 3,
            min_purchases: 3,
            max_purchases: 3,
            ..ShopConfig::default()
        };
        let shop = Shop::build(&config).unwrap();
        let mut next: BTreeMap<[u32; 2], Vec<u32>> = BTreeMap::new();
        for user in 0..config.users {
            let items = shop.purchases(user);
            next.entry([items[0], items[1]]).or_insert_with(|| vec![0; 12])[items[2] as usize] += 1;
        }
        let mut checked = 0;
        for (history, counts) in next {
            let n = f64::from(counts.iter().sum::<u32>());
            if n < 500.0 {
                continue;
            }
            let expected = shop.next_probabilities(&history).unwrap();
            for (item, count) in counts.iter().enumerate() {
                // Five standard errors of a share; 1/n where the share is nearly 0 or 1.
                let bound = 5.0 * (expected[item] * (1.0 - expected[item]) / n).sqrt() + 1.0 / n;
                let share = f64::from(*count) / n;
                assert!(
                    (share - expected[item]).abs() < bound,
                    "{history:?} item {item}: {share} of {n}, {expected:?}"
                );
            }
            checked += 1;
        }
        assert!(checked > 30, "{checked}");
    }

    /// Recall@k at the test targets of a scorer.
    fn recall(data: &Dataset, k: usize, score: impl Fn(&[u32]) -> Vec<f64>) -> f64 {
        let users: Vec<u32> = data.split().users(Part::Test).collect();
        let hits = users.iter().filter(|&&user| {
            let (history, target) = data.split().history_for(user, Part::Test).unwrap();
            let score = score(history);
            score.iter().filter(|other| **other > score[target as usize]).count() < k
        });
        hits.count() as f64 / users.len() as f64
    }

    #[test]
    fn beats_popularity_by_far() {
        let config = ShopConfig { users: 1000, ..ShopConfig::default() };
        let shop = Shop::build(&config).unwrap();
        let data = shop.dataset();
        let mut popularity = vec![0.0; 600];
        for user in 0..1000 {
            data.split().train(user).iter().for_each(|item| popularity[*item as usize] += 1.0);
        }
        let popular = recall(&data, 10, |_| popularity.clone());
        let oracle = |history: &[u32]| shop.next_probabilities(history).unwrap();
        let best = recall(&data, 10, oracle);
        assert!(popular < 0.08, "popularity is only mildly skewed, recall@10 {popular}");
        assert!(best > 0.55, "recall@10 {best}");
        assert!(recall(&data, 1, oracle) > 0.18, "recall@1 {}", recall(&data, 1, oracle));
    }
}
