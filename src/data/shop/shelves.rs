//! The shelves of the shop: which items stand at which category, brand and price band.

use rand::RngExt;
use rand::seq::SliceRandom;

use crate::data::shop::ShopConfig;
use crate::data::shop::words::{BANDS, VARIANTS};
use crate::tensor::Rng;

const N_BANDS: u32 = BANDS.len() as u32;

/// Bands from the nearest to the farthest, for each band.
const NEAREST_BANDS: [[u32; 3]; 3] = [[0, 1, 2], [1, 0, 2], [2, 1, 0]];

/// Share of the shelves that are passed over when each gets its first item.
const PASSED_OVER: f64 = 0.05;

/// Where an item stands, and which of the variants there it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) category: u32,
    pub(super) brand: u32,
    pub(super) band: u32,
    pub(super) variant: u32,
}

/// All shelves; a shelf is numbered `(category * brands + brand) * 3 + band`.
#[derive(Debug, Clone)]
pub(super) struct Shelves {
    brands: u32,
    /// Per item.
    places: Vec<Place>,
    /// Per shelf.
    items: Vec<Vec<u32>>,
}

impl Shelves {
    /// Deals the items out: two to every category, then one to nearly every shelf, then the rest at random.
    pub(super) fn stock(config: &ShopConfig, rng: &mut Rng) -> Shelves {
        let in_category = config.brands * N_BANDS;
        let shelves = config.categories * in_category;
        let most = VARIANTS.min(3.max(config.items * 3 / (shelves * 2) + 1));
        let mut stock = vec![0u32; shelves as usize];
        let mut left = config.items;
        let mut put = |shelf: u32, stock: &mut Vec<u32>, most: u32| {
            let fits = left > 0 && stock[shelf as usize] < most;
            stock[shelf as usize] += u32::from(fits);
            left -= u32::from(fits);
            left
        };
        for category in 0..config.categories {
            for shelf in [rng.random_range(0..in_category), rng.random_range(0..in_category)] {
                put(category * in_category + shelf, &mut stock, 2);
            }
        }
        let mut open: Vec<u32> = (0..shelves).collect();
        open.shuffle(rng);
        for &shelf in &open {
            if rng.random::<f64>() >= PASSED_OVER {
                put(shelf, &mut stock, 1);
            }
        }
        while !open.is_empty() {
            let at = rng.random_range(0..open.len() as u32) as usize;
            if put(open[at], &mut stock, most) == 0 {
                break;
            }
            if stock[open[at] as usize] == most {
                open.swap_remove(at);
            }
        }

        let mut places = Vec::with_capacity(config.items as usize);
        for (shelf, &stock) in stock.iter().enumerate() {
            let shelf = shelf as u32;
            let first = rng.random_range(0..VARIANTS);
            // Colours before sizes: as long as there are colours enough, titles stay short.
            let variant = |n: u32| (first % 8 + n) % 8 + n / 8 * 8;
            places.extend((0..stock).map(|n| Place {
                category: shelf / in_category,
                brand: shelf / N_BANDS % config.brands,
                band: shelf % N_BANDS,
                variant: variant(n),
            }));
        }
        // The number of an item tells nothing of its place.
        places.shuffle(rng);
        let mut items = vec![Vec::new(); shelves as usize];
        for (item, place) in places.iter().enumerate() {
            let shelf = (place.category * config.brands + place.brand) * N_BANDS + place.band;
            items[shelf as usize].push(item as u32);
        }
        Shelves { brands: config.brands, places, items }
    }

    /// Where each item stands.
    pub(super) fn places(&self) -> &[Place] {
        &self.places
    }

    /// The shelf an item stands on.
    pub(super) fn of(&self, item: u32) -> usize {
        let place = &self.places[item as usize];
        self.number(place.category, place.brand, place.band)
    }

    fn number(&self, category: u32, brand: u32, band: u32) -> usize {
        ((category * self.brands + brand) * N_BANDS + band) as usize
    }

    /// The items of a shelf without `last`.
    pub(super) fn items_but(&self, shelf: usize, last: Option<u32>) -> impl Iterator<Item = u32> {
        self.items[shelf].iter().copied().filter(move |item| Some(*item) != last)
    }

    /// The wanted shelf, or the nearest of the category with an item other than `last`: first other bands of the brand,
    /// then the brands after it in turn.
    pub(super) fn nearest(&self, category: u32, brand: u32, band: u32, last: Option<u32>) -> usize {
        let brands = (0..self.brands).map(|offset| (brand + offset) % self.brands);
        brands
            .flat_map(|brand| NEAREST_BANDS[band as usize].map(|band| self.number(category, brand, band)))
            .find(|&shelf| self.items_but(shelf, last).next().is_some())
            .expect("invariant: every category holds at least two items")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stocked(items: u32) -> Shelves {
        let config = ShopConfig { items, ..ShopConfig::default() };
        config.validate().unwrap();
        Shelves::stock(&config, &mut crate::tensor::stream(3, "test", 0, 0))
    }

    #[test]
    fn every_size_deals_out_every_item() {
        for items in [24, 25, 100, 360, 600, 1080, 3000, 11520] {
            let shelves = stocked(items);
            assert_eq!(shelves.places.len(), items as usize);
            let mut in_category = [0; 12];
            for (item, place) in shelves.places.iter().enumerate() {
                in_category[place.category as usize] += 1;
                assert!(shelves.items[shelves.of(item as u32)].contains(&(item as u32)));
            }
            assert!(in_category.iter().all(|items| *items >= 2), "{items}: {in_category:?}");
            let mut places: Vec<_> = shelves.places.iter().map(|p| (p.category, p.brand, p.band, p.variant)).collect();
            places.sort_unstable();
            places.dedup();
            assert_eq!(places.len(), items as usize, "two items with one text");
        }
        let mut sizes = [0; 4];
        stocked(600).items.iter().for_each(|items| sizes[items.len()] += 1);
        assert!(sizes[0] > 0 && sizes[0] < 30 && sizes[1] > 100 && sizes[2] > 80 && sizes[3] > 10, "{sizes:?}");
    }

    #[test]
    fn the_nearest_shelf_keeps_the_brand_and_leaves_out_the_last_item() {
        let place = |brand, band| Place { category: 0, brand, band, variant: 0 };
        let places = vec![place(0, 0), place(0, 2), place(1, 1)];
        // Shelves by brand, then band.
        let items = vec![vec![0], vec![], vec![1], vec![], vec![2], vec![]];
        let shelves = Shelves { brands: 2, places, items };
        assert_eq!(shelves.nearest(0, 0, 0, None), 0);
        assert_eq!(shelves.nearest(0, 0, 1, None), 0);
        assert_eq!(shelves.nearest(0, 0, 2, None), 2);
        assert_eq!(shelves.nearest(0, 0, 0, Some(0)), 2);
        assert_eq!(shelves.nearest(0, 1, 0, None), 4);
        assert_eq!(shelves.nearest(0, 1, 1, Some(2)), 0);
    }
}
