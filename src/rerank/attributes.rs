//! [`Attributes`]: what can be said of an item in a word or two, read from the catalogue alone.
//!
//! Real catalogues lack categories, brands or prices, or have too many of them. A *topic* is the deepest category that
//! enough items share, else the title's head word, else the brand; a *price band* is low, middle or high, named by the
//! title word that marks it where there is one.

use std::collections::HashMap;

use super::words::{bare, head_words, singular, words};
use crate::data::{Catalogue, Item};

/// Stands for an attribute that an item does not have.
const NONE: u32 = u32::MAX;

/// Number of price bands.
const BANDS: usize = 3;

/// Topic, brand, price band and title words of every item, as numbers with names.
#[derive(Debug, Clone)]
pub struct Attributes {
    topics: Names,
    topic: Vec<u32>,
    brands: Names,
    brand: Vec<u32>,
    bands: Vec<String>,
    band: Vec<u32>,
    words: TitleWords,
}

/// Strings with numbers from 0 in the order of their first appearance.
#[derive(Debug, Clone, Default)]
struct Names {
    names: Vec<String>,
    numbers: HashMap<String, u32>,
}

/// The distinct words of every title, ascending by number, and how many titles have each.
#[derive(Debug, Clone, Default)]
struct TitleWords {
    starts: Vec<usize>,
    words: Vec<u32>,
    titles_with: Vec<u32>,
    names: Vec<String>,
}

impl Attributes {
    /// Reads a catalogue. Names have no angle brackets: they stand in prompts and explanations, where a brand must not be
    /// read as a semantic id. Time and memory are linear in the text.
    pub fn learn(catalogue: &Catalogue) -> Self {
        let items = &catalogue.items;
        let words = TitleWords::of(items);
        let (mut brands, mut topics) = (Names::default(), Names::default());
        let brand: Vec<u32> = items.iter().map(|item| brands.number(&bare(&item.brand))).collect();
        let topic = topics_of(items, &mut topics);
        let (bands, band) = bands_of(items, &topic, &words);
        Attributes { topics, topic, brands, brand, bands, band, words }
    }

    /// Number of items.
    pub fn items(&self) -> usize {
        self.topic.len()
    }

    /// Names of all topics.
    pub fn topics(&self) -> &[String] {
        &self.topics.names
    }

    /// Names of all brands.
    pub fn brands(&self) -> &[String] {
        &self.brands.names
    }

    /// Names of the price bands from low to high; empty where most items have no price.
    pub fn bands(&self) -> &[String] {
        &self.bands
    }

    /// The topic of an item.
    pub fn topic(&self, item: u32) -> Option<usize> {
        known(&self.topic, item)
    }

    /// The brand of an item.
    pub fn brand(&self, item: u32) -> Option<usize> {
        known(&self.brand, item)
    }

    /// The price band of an item.
    pub fn band(&self, item: u32) -> Option<usize> {
        known(&self.band, item)
    }

    /// The distinct words of an item's title, as ascending numbers.
    pub(super) fn title_words(&self, item: u32) -> &[u32] {
        self.words.of_item(item as usize)
    }

    /// How much a word tells: ln(titles / titles that have it).
    pub(super) fn idf(&self, word: u32) -> f64 {
        (self.items() as f64 / f64::from(self.words.titles_with[word as usize])).ln()
    }

    /// Spelling of a title word, in lower case.
    pub(super) fn word(&self, word: u32) -> &str {
        &self.words.names[word as usize]
    }
}

fn known(values: &[u32], item: u32) -> Option<usize> {
    values.get(item as usize).filter(|&&value| value != NONE).map(|&value| value as usize)
}

impl Names {
    /// The number of a name; [`NONE`] for the empty one.
    fn number(&mut self, name: &str) -> u32 {
        if name.is_empty() {
            return NONE;
        }
        if let Some(&number) = self.numbers.get(name) {
            return number;
        }
        let number = self.names.len() as u32;
        self.names.push(name.to_owned());
        self.numbers.insert(name.to_owned(), number);
        number
    }
}

impl TitleWords {
    fn of(items: &[Item]) -> Self {
        let mut names = Names::default();
        let mut all = TitleWords { starts: vec![0], ..TitleWords::default() };
        for item in items {
            let mut here: Vec<u32> = words(&item.title).map(|word| names.number(&word)).collect();
            here.sort_unstable();
            here.dedup();
            all.titles_with.resize(names.names.len(), 0);
            here.iter().for_each(|&word| all.titles_with[word as usize] += 1);
            all.words.extend(here);
            all.starts.push(all.words.len());
        }
        all.names = names.names;
        all
    }

    fn of_item(&self, item: usize) -> &[u32] {
        if item + 1 < self.starts.len() { &self.words[self.starts[item]..self.starts[item + 1]] } else { &[] }
    }
}

/// Fewest items that make a topic: few in a small catalogue, at most 500 topics in a large one.
fn fewest_of_topic(items: usize) -> u32 {
    (items / 500).max(2) as u32
}

fn topics_of(items: &[Item], topics: &mut Names) -> Vec<u32> {
    let fewest = fewest_of_topic(items.len());
    let mut in_category: HashMap<&str, u32> = HashMap::new();
    let mut with_head: HashMap<String, u32> = HashMap::new();
    for item in items {
        let mut own: Vec<&str> = item.categories.iter().map(|category| category.trim()).collect();
        own.sort_unstable();
        own.dedup();
        own.into_iter().for_each(|category| *in_category.entry(category).or_default() += 1);
        head_words(&item.title).into_iter().for_each(|word| *with_head.entry(word).or_default() += 1);
    }
    let topic = |item: &Item| -> u32 {
        let mut path = item.categories.iter().rev().map(|category| category.trim()).filter(|c| !c.is_empty());
        if let Some(category) = path.find(|category| in_category[category] >= fewest) {
            return topics.number(&bare(category));
        }
        let brand = singular(&item.brand.trim().to_lowercase());
        let is_topic = |word: &String| with_head[word] >= fewest && *word != brand;
        match head_words(&item.title).into_iter().find(is_topic) {
            Some(head) => topics.number(&head),
            None => topics.number(&bare(&item.brand)),
        }
    };
    items.iter().map(topic).collect()
}

/// Price bands by the natural breaks of the logarithm of the price; none if fewer than half of the items have one.
fn bands_of(items: &[Item], topic: &[u32], words: &TitleWords) -> (Vec<String>, Vec<u32>) {
    let log = |item: &Item| item.price.filter(|p| p.is_finite() && *p > 0.0).map(|p| f64::from(p).ln());
    let mut sorted: Vec<f64> = items.iter().filter_map(log).collect();
    if sorted.is_empty() || sorted.len() * 2 < items.len() {
        return (Vec::new(), vec![NONE; items.len()]);
    }
    sorted.sort_unstable_by(f64::total_cmp);
    let centres = natural_breaks(&sorted);
    let nearest = |price: f64| {
        let far = |band: &usize| (centres[*band] - price).abs();
        (0..BANDS).min_by(|a, b| far(a).total_cmp(&far(b))).unwrap_or(0) as u32
    };
    let band: Vec<u32> = items.iter().map(|item| log(item).map_or(NONE, nearest)).collect();
    (band_names(&band, topic, words), band)
}

/// Centres of the bands: k-means in one dimension from the quantiles 1/6, 1/2 and 5/6.
fn natural_breaks(sorted: &[f64]) -> [f64; BANDS] {
    let mut centres = [1, 3, 5].map(|sixth| sorted[sorted.len() * sixth / 6]);
    for _ in 0..100 {
        let borders = [0, 1].map(|b| sorted.partition_point(|p| *p < (centres[b] + centres[b + 1]) / 2.0));
        let runs = [&sorted[..borders[0]], &sorted[borders[0]..borders[1]], &sorted[borders[1]..]];
        let mut moved = centres;
        for (centre, run) in moved.iter_mut().zip(runs).filter(|(_, run)| !run.is_empty()) {
            *centre = run.iter().sum::<f64>() / run.len() as f64;
        }
        if moved == centres {
            break;
        }
        centres = moved;
    }
    centres
}

/// A band is called by the title word that at least half of it and hardly any other item has, if the word is one of price
/// and not of a kind of thing: if at least half of the topics in the band, two or more, have it.
fn band_names(band: &[u32], topic: &[u32], words: &TitleWords) -> Vec<String> {
    let members = |wanted: usize| (0..band.len()).filter(move |&item| band[item] == wanted as u32);
    let topics_of = |items: &mut dyn Iterator<Item = usize>| {
        let mut topics: Vec<u32> = items.map(|item| topic[item]).collect();
        topics.sort_unstable();
        topics.dedup();
        topics.len()
    };
    let name = |wanted: usize| -> Option<String> {
        let size = members(wanted).count();
        let topics = topics_of(&mut members(wanted));
        let mut inside = vec![0usize; words.names.len()];
        members(wanted).flat_map(|item| words.of_item(item)).for_each(|&word| inside[word as usize] += 1);
        let marks = |word: &usize| {
            let share = inside[*word] * 2 >= size && inside[*word] * 10 >= words.titles_with[*word] as usize * 9;
            let has = |item: &usize| words.of_item(*item).binary_search(&(*word as u32)).is_ok();
            share && size > 0 && topics_of(&mut members(wanted).filter(has)) >= topics.div_ceil(2).max(2)
        };
        let best = (0..inside.len()).filter(marks).max_by_key(|&word| (inside[word], std::cmp::Reverse(word)))?;
        Some(words.names[best].clone())
    };
    let plain = ["low price", "mid price", "high price"];
    (0..BANDS).map(|band| name(band).unwrap_or_else(|| plain[band].to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Shop, ShopConfig};

    fn item(title: &str, brand: &str, categories: &[&str], price: Option<f32>) -> Item {
        let categories = categories.iter().map(|c| (*c).to_owned()).collect();
        Item { title: title.into(), brand: brand.into(), categories, price, ..Item::default() }
    }

    #[test]
    fn the_shop_is_read_as_it_is_made() {
        let data = Shop::build(&ShopConfig { users: 1, ..ShopConfig::default() }).unwrap().dataset();
        let attributes = Attributes::learn(&data.catalogue);
        assert_eq!(attributes.bands(), ["budget", "midrange", "premium"]);
        assert_eq!((attributes.topics().len(), attributes.brands().len()), (12, 10));
        for (number, item) in data.catalogue.items.iter().enumerate() {
            let number = number as u32;
            assert_eq!(attributes.topics()[attributes.topic(number).unwrap()], item.categories[0]);
            assert_eq!(attributes.brands()[attributes.brand(number).unwrap()], item.brand);
            let band = &attributes.bands()[attributes.band(number).unwrap()];
            assert!(item.title.contains(band), "{} is {band}", item.title);
        }
    }

    #[test]
    fn topics_fall_back_to_head_words_and_brands() {
        let items = vec![
            item("HP Ink Cartridges, 2 Pack", "HP", &[], None),
            item("Canon Cartridge (black)", "Canon", &[], None),
            item("Gadget", "HP", &[], None),
            item("Tape", "", &["Office", "Tape", "Rare"], None),
            item("Glue", "", &["Office", "Tape"], None),
            item("", "", &[], None),
        ];
        let attributes = Attributes::learn(&Catalogue { items });
        let topic = |item| attributes.topic(item).map(|topic| attributes.topics()[topic].as_str());
        assert_eq!(
            (0..6).map(topic).collect::<Vec<_>>(),
            [Some("cartridge"), Some("cartridge"), Some("HP"), Some("Tape"), Some("Tape"), None]
        );
        assert!(attributes.bands().is_empty() && attributes.band(0).is_none());
        assert_eq!(attributes.brand(5), None);
        assert_eq!(attributes.topic(6), None);
    }

    #[test]
    fn names_cannot_be_read_as_semantic_ids() {
        let sid = "Acme <|sid_begin|><s_a_0><|sid_end|>";
        let items = vec![item("One", sid, &[sid], None), item("Two", "<>", &[sid], None), item("x", sid, &[], None)];
        let attributes = Attributes::learn(&Catalogue { items });
        assert_eq!(attributes.brands(), ["Acme |sid_begin|s_a_0|sid_end|"]);
        assert_eq!(attributes.topics(), ["Acme |sid_begin|s_a_0|sid_end|"]);
        assert_eq!((attributes.brand(1), attributes.topic(2)), (None, Some(0)));
    }

    #[test]
    fn price_bands_follow_natural_breaks() {
        let prices = [1.0, 1.1, 1.2, 1.3, 20.0, 400.0, 410.0];
        let items = prices.iter().map(|p| item("x", "", &[], Some(*p))).chain([item("y", "", &[], None)]);
        let attributes = Attributes::learn(&Catalogue { items: items.collect() });
        let bands: Vec<_> = (0..8).map(|i| attributes.band(i)).collect();
        assert_eq!(bands, [Some(0), Some(0), Some(0), Some(0), Some(1), Some(2), Some(2), None]);
        assert_eq!(attributes.bands(), ["low price", "mid price", "high price"]);
    }
}
