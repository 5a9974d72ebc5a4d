//! What customers prefer: every possible taste, how likely it is, and what it makes of brands and bands.

use crate::data::shop::ShopConfig;
use crate::data::shop::words::BANDS;

/// All tastes: one preferred brand or two, with one preferred band. Few enough to enumerate.
#[derive(Debug, Clone)]
pub(super) struct Tastes {
    prior: Vec<f64>,
    /// Per set of preferred brands, the probability of each brand.
    brands: Vec<Vec<f64>>,
    /// Per preferred band, the probability of each band.
    bands: Vec<Vec<f64>>,
}

impl Tastes {
    /// Enumerates the tastes of a shop; taste t is brand set t / 3 with band t mod 3.
    pub(super) fn of(config: &ShopConfig) -> Tastes {
        let n_brands = config.brands as usize;
        let favour: Vec<f64> = (0..n_brands).map(|rank| (rank as f64 + 1.0).powf(-config.brand_skew)).collect();
        let total: f64 = favour.iter().sum();
        let favour: Vec<f64> = favour.iter().map(|weight| weight / total).collect();

        // Two favourites are drawn one after the other without putting back; their order is forgotten.
        let pair = |a: usize, b: usize| favour[a] * favour[b] * (1.0 / (1.0 - favour[a]) + 1.0 / (1.0 - favour[b]));
        let mut sets: Vec<(f64, Vec<usize>)> =
            (0..n_brands).map(|a| ((1.0 - config.p_two_brands) * favour[a], vec![a])).collect();
        for a in 0..n_brands {
            sets.extend((a + 1..n_brands).map(|b| (config.p_two_brands * pair(a, b), vec![a, b])));
        }
        let bands: Vec<Vec<f64>> = (0..BANDS.len()).map(|band| mixed(&[band], BANDS.len(), config.p_band)).collect();
        let prior = sets.iter().flat_map(|(probability, _)| [probability / bands.len() as f64; BANDS.len()]).collect();
        let brands = sets.iter().map(|(_, set)| mixed(set, n_brands, config.p_brand)).collect();
        Tastes { prior, brands, bands }
    }

    /// Probability of each taste among customers.
    pub(super) fn prior(&self) -> &[f64] {
        &self.prior
    }

    /// Probability of each brand for a customer of this taste.
    pub(super) fn brands(&self, taste: usize) -> &[f64] {
        &self.brands[taste / self.bands.len()]
    }

    /// Probability of each band for a customer of this taste.
    pub(super) fn bands(&self, taste: usize) -> &[f64] {
        &self.bands[taste % self.bands.len()]
    }
}

/// With probability `p` one of the preferred, each alike; else any of all `n`.
fn mixed(preferred: &[usize], n: usize, p: f64) -> Vec<f64> {
    let mut probabilities = vec![(1.0 - p) / n as f64; n];
    for &choice in preferred {
        probabilities[choice] += p / preferred.len() as f64;
    }
    probabilities
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_probabilities_sum_to_one() {
        let config = ShopConfig { brands: 4, ..ShopConfig::default() };
        let tastes = Tastes::of(&config);
        assert_eq!(tastes.prior().len(), (4 + 6) * 3);
        let one = |probabilities: &[f64]| (probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-12;
        assert!(one(tastes.prior()));
        assert!((0..30).all(|taste| one(tastes.brands(taste)) && one(tastes.bands(taste))));
        let single: f64 = tastes.prior()[..12].iter().sum();
        assert!((single - 0.7).abs() < 1e-12);
        // Taste 1 is brand 0 alone with band 1; taste 12 is brands 0 and 1 with band 0.
        assert!((tastes.brands(1)[0] - (0.85 + 0.15 / 4.0)).abs() < 1e-12);
        assert!((tastes.bands(1)[1] - (0.8 + 0.2 / 3.0)).abs() < 1e-12);
        assert!((tastes.brands(12)[1] - (0.425 + 0.15 / 4.0)).abs() < 1e-12);
        assert!(tastes.prior()[0] > tastes.prior()[3], "the first brand is preferred most often");
    }
}
