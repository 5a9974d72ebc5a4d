//! Size and probabilities of the synthetic shop.

use serde::{Deserialize, Serialize};

use crate::bounds::{SHARE, Section};
use crate::data::shop::words::{BANDS, BRANDS, CATEGORIES, VARIANTS};
use crate::error::Result;

/// Users at most.
const MOST_USERS: u64 = 20_000_000;
/// Purchases of one user at most.
const MOST_EACH: u64 = 1000;
/// Purchases of all users at most.
const MOST_PURCHASES: u64 = 1 << 28;

/// Configuration of the synthetic shop. The defaults are choices of this project, made so that a slate of ten holds the
/// next purchase often but its place in it depends on complement, brand and price band together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ShopConfig {
    /// Seed of catalogue and customers.
    pub seed: u64,
    /// Customers.
    pub users: u32,
    /// Items; with the defaults one to three on a shelf (category, brand, band).
    pub items: u32,
    /// Categories in the ring of complements, at most 14.
    pub categories: u32,
    /// Brands, at most 12.
    pub brands: u32,
    /// Probability that the next purchase is of the complementary category; else any category.
    pub p_complement: f64,
    /// Probability that it is of a preferred brand; else any brand.
    pub p_brand: f64,
    /// Probability that it is in the preferred price band; else any band.
    pub p_band: f64,
    /// Probability that a customer has two preferred brands instead of one.
    pub p_two_brands: f64,
    /// Popularity of brand number r as a favourite falls with r to the power of minus this; 0 = all alike.
    pub brand_skew: f64,
    /// Fewest purchases of a customer.
    pub min_purchases: u32,
    /// Most purchases of a customer.
    pub max_purchases: u32,
}

impl Default for ShopConfig {
    fn default() -> ShopConfig {
        ShopConfig {
            seed: 17,
            users: 3000,
            items: 600,
            categories: 12,
            brands: 10,
            p_complement: 0.8,
            p_brand: 0.85,
            p_band: 0.8,
            p_two_brands: 0.3,
            brand_skew: 0.5,
            min_purchases: 6,
            max_purchases: 12,
        }
    }
}

impl ShopConfig {
    /// Checks every value.
    ///
    /// Errors: `Config` naming the field.
    pub fn validate(&self) -> Result<()> {
        let at = Section::new("data.shop");
        at.whole("categories", self.categories, 2..=CATEGORIES.len() as u64)?;
        at.whole("brands", self.brands, 2..=BRANDS.len() as u64)?;
        let shelves = self.categories * self.brands * BANDS.len() as u32;
        // Two items a category: the one bought last cannot be bought again at once.
        at.whole("items", self.items, u64::from(2 * self.categories)..=u64::from(shelves * VARIANTS))?;
        at.whole("min_purchases", self.min_purchases, 1..=MOST_EACH)?;
        at.whole("max_purchases", self.max_purchases, u64::from(self.min_purchases)..=MOST_EACH)?;
        at.whole("users", self.users, 1..=MOST_USERS.min(MOST_PURCHASES / u64::from(self.max_purchases)))?;
        at.number("p_complement", self.p_complement, SHARE)?;
        at.number("p_brand", self.p_brand, SHARE)?;
        at.number("p_band", self.p_band, SHARE)?;
        at.number("p_two_brands", self.p_two_brands, SHARE)?;
        at.number("brand_skew", self.brand_skew, 0.0..=4.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_values_name_their_field() {
        let message = |edit: fn(&mut ShopConfig)| {
            let mut config = ShopConfig::default();
            edit(&mut config);
            config.validate().unwrap_err().to_string()
        };
        assert_eq!(message(|c| c.brands = 13), "config: data.shop.brands: 13: expected 2 to 12");
        assert_eq!(message(|c| c.items = 23), "config: data.shop.items: 23: expected 24 to 11520");
        assert_eq!(message(|c| c.max_purchases = 5), "config: data.shop.max_purchases: 5: expected 6 to 1000");
        assert!(message(|c| c.p_band = f64::NAN).starts_with("config: data.shop.p_band: NaN: expected at least 0"));
        assert!(message(|c| c.brand_skew = -1.0).starts_with("config: data.shop.brand_skew"));
        assert!(toml::from_str::<ShopConfig>("noise = 1").is_err());
    }
}
