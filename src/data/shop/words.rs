//! The closed vocabulary of the shop, and how a place on the shelves becomes a product.
//!
//! Small on purpose: a language model trained for minutes has to read it.

use crate::data::Item;
use crate::data::shop::shelves::Place;

/// Categories in the order of the ring: each goes well with the next, the last with the first.
pub(super) const CATEGORIES: [&str; 14] = [
    "printer", "ink", "paper", "folder", "cabinet", "desk", "chair", "lamp", "laptop", "mouse", "keyboard", "monitor",
    "webcam", "headset",
];

/// Brands, from the most to the least often preferred.
pub(super) const BRANDS: [&str; 12] =
    ["Acme", "Borea", "Cedar", "Delta", "Ember", "Flint", "Gala", "Haven", "Iris", "Juno", "Kite", "Lumen"];

/// Price bands, from low to high.
pub(super) const BANDS: [&str; 3] = ["budget", "midrange", "premium"];

/// Prices of a band in dollars; which one an item has says nothing more.
const PRICES: [[u32; 3]; 3] = [[9, 12, 15], [35, 40, 45], [90, 95, 99]];

const COLOURS: [&str; 8] = ["black", "white", "red", "blue", "green", "grey", "gold", "pink"];
const SIZES: [&str; 4] = ["", "small ", "large ", "mini "];

/// Items that one shelf can hold: colours, then colours in sizes.
pub(super) const VARIANTS: u32 = (COLOURS.len() * SIZES.len()) as u32;

/// The product at a place of a shop with the given number of categories.
pub(super) fn item(index: usize, place: &Place, categories: u32) -> Item {
    let category = CATEGORIES[place.category as usize];
    let complement = CATEGORIES[((place.category + 1) % categories) as usize];
    let brand = BRANDS[place.brand as usize];
    let band = BANDS[place.band as usize];
    let variant = place.variant as usize;
    let size = SIZES[variant / COLOURS.len() % SIZES.len()];
    let colour = COLOURS[variant % COLOURS.len()];
    let price = PRICES[place.band as usize][variant % 3];
    Item {
        key: format!("item-{index}"),
        title: format!("{brand} {band} {size}{colour} {category}"),
        description: format!("Costs {price} dollars, goes well with {complement}."),
        brand: brand.to_owned(),
        categories: vec![category.to_owned()],
        price: Some(price as f32),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_in_words() {
        let place = Place { category: 13, brand: 0, band: 2, variant: 9 };
        let text = item(0, &place, 14).text();
        assert_eq!(
            text,
            "Acme premium small white headset. Brand: Acme. Categories: headset. Costs 90 dollars, goes well with printer."
        );
    }
}
