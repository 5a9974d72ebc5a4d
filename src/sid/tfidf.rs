//! Built-in item text vectors: hashed TF-IDF of words, word pairs and character n-grams.

use std::sync::atomic::{AtomicU32, Ordering};

use rayon::prelude::*;
use serde::{Deserialize, Deserializer, Serialize};

use super::csr::Csr;
use super::embeddings::{Embeddings, normalise};
use super::hash::Hash;
use super::svd::{SvdConfig, truncated_svd};
use super::tokens::words;
use crate::bounds::{MANY, Section, WEIGHT};
use crate::error::Result;

/// Items vectorised between two appends to the matrix.
const CHUNK: usize = 8192;

/// The texts of one item. Absent fields are empty.
#[derive(Debug, Clone, Copy, Default)]
pub struct ItemText<'a> {
    /// Product title.
    pub title: &'a str,
    /// Brand or shop.
    pub brand: &'a str,
    /// Category path or list, in any spelling.
    pub categories: &'a str,
    /// Long description.
    pub description: &'a str,
}

/// How much one field of an item counts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FieldConfig {
    /// Count of one occurrence of a feature in this field; 0 leaves the field out.
    pub weight: f32,
    /// Words read; the rest of the field is left out.
    pub words: usize,
    /// Whether character n-grams are taken too.
    pub characters: bool,
}

/// Settings of the hashed TF-IDF. The defaults are this project's own choice, looked at on Amazon Office Products.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TfidfConfig {
    /// Features are hashed to 2^bits columns. The SVD needs 4 · dims bytes for each column in use.
    pub bits: u32,
    /// Columns met in fewer items are left out: they connect nothing.
    pub min_items: u32,
    /// Signs taken from the hash, so that features sharing a column cancel out on average.
    /// Source: Weinberger et al. 2009, "Feature hashing for large scale multitask learning".
    pub signed: bool,
    /// Factor of single words.
    pub word: f32,
    /// Factor of pairs of neighbouring words.
    pub pair: f32,
    /// Factor of character n-grams (3 to 5) inside words.
    pub character: f32,
    /// The title.
    #[serde(deserialize_with = "title")]
    pub title: FieldConfig,
    /// The brand.
    #[serde(deserialize_with = "brand")]
    pub brand: FieldConfig,
    /// The categories.
    #[serde(deserialize_with = "categories")]
    pub categories: FieldConfig,
    /// The description.
    #[serde(deserialize_with = "description")]
    pub description: FieldConfig,
}

/// What is said of a field; what is not said is as [`TfidfConfig::default`] has it for that field.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    weight: Option<f32>,
    words: Option<usize>,
    characters: Option<bool>,
}

macro_rules! over_defaults {
    ($($field:ident)*) => {$(
        fn $field<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<FieldConfig, D::Error> {
            let Said { weight, words, characters } = Said::deserialize(deserializer)?;
            let own = TfidfConfig::default().$field;
            Ok(FieldConfig {
                weight: weight.unwrap_or(own.weight),
                words: words.unwrap_or(own.words),
                characters: characters.unwrap_or(own.characters),
            })
        }
    )*};
}

over_defaults!(title brand categories description);

impl Default for TfidfConfig {
    fn default() -> Self {
        let field = |weight, words, characters| FieldConfig { weight, words, characters };
        TfidfConfig {
            bits: 18,
            min_items: 2,
            signed: true,
            word: 1.0,
            pair: 0.7,
            character: 0.3,
            title: field(3.0, 48, true),
            brand: field(2.0, 8, true),
            categories: field(2.0, 32, true),
            description: field(1.0, 64, false),
        }
    }
}

impl TfidfConfig {
    /// Errors: `Config` naming the field that is out of range.
    pub fn validate(&self) -> Result<()> {
        let at = Section::new("sid.tfidf");
        at.whole("bits", self.bits, 8..=28)?;
        let features = [("word", self.word), ("pair", self.pair), ("character", self.character)];
        for (field, factor) in features {
            at.number(field, factor, WEIGHT)?;
        }
        let fields = [
            ("title", &self.title),
            ("brand", &self.brand),
            ("categories", &self.categories),
            ("description", &self.description),
        ];
        for (field, FieldConfig { weight, words, .. }) in fields {
            at.number(&format!("{field}.weight"), *weight, WEIGHT)?;
            at.whole(&format!("{field}.words"), *words, 0..=MANY)?;
        }
        if features.iter().all(|(_, factor)| *factor == 0.0) {
            return at.refuse("word", "0: so are pair and character, no feature would count");
        }
        if fields.iter().all(|(_, field)| field.weight == 0.0 || field.words == 0) {
            return at.refuse("title.weight", "nothing is read: every field has a weight of 0 or no words");
        }
        Ok(())
    }

    fn column_and_sign(&self, feature: u64) -> (u32, f32) {
        let sign = if self.signed && feature & 1 == 1 { -1.0 } else { 1.0 };
        ((feature >> (64 - self.bits)) as u32, sign)
    }
}

/// The TF-IDF matrix of a catalogue.
#[derive(Debug, Clone)]
pub struct Tfidf {
    /// One row of length 1 per item (zero for the items below), one column per feature in use.
    pub matrix: Csr,
    /// Items whose fields hold no word at all.
    pub without_text: Vec<u32>,
    /// Items with words, none of which occurs in `min_items` items: their row is zero too.
    pub without_shared_features: Vec<u32>,
}

/// ln(1 + tf) · (1 + ln((1 + n) / (1 + df))), rows scaled to length 1.
///
/// tf is the occurrences of a feature in an item, each counting its field's weight and its kind's factor; df the items
/// in which the column occurs. `item(i)` gives the texts of item i and is called twice for each item, from any thread.
///
/// Errors: `Config` if the settings are out of range.
pub fn tfidf<'a>(items: usize, item: impl Fn(usize) -> ItemText<'a> + Sync, config: &TfidfConfig) -> Result<Tfidf> {
    config.validate()?;
    let df: Vec<AtomicU32> = (0..1usize << config.bits).map(|_| AtomicU32::new(0)).collect();
    (0..items).into_par_iter().for_each_init(Scratch::default, |scratch, i| {
        for &(column, _) in scratch.row(item(i), config) {
            df[column as usize].fetch_add(1, Ordering::Relaxed);
        }
    });

    // Columns in use are numbered in order; each keeps its inverse document frequency.
    let mut column_of = vec![u32::MAX; df.len()];
    let mut idf = Vec::new();
    for (column, df) in df.iter().enumerate() {
        let df = df.load(Ordering::Relaxed);
        if df >= config.min_items.max(1) {
            column_of[column] = idf.len() as u32;
            idf.push((1.0 + ((1.0 + items as f64) / (1.0 + f64::from(df))).ln()) as f32);
        }
    }
    drop(df);

    let mut matrix = Csr::with_width(idf.len());
    let (mut without_text, mut without_shared_features) = (Vec::new(), Vec::new());
    for start in (0..items).step_by(CHUNK) {
        let rows: Vec<(bool, Vec<(u32, f32)>)> = (start..items.min(start + CHUNK))
            .into_par_iter()
            .map_init(Scratch::default, |scratch, i| {
                let all = scratch.row(item(i), config);
                let kept = all.iter().filter(|(column, _)| column_of[*column as usize] != u32::MAX);
                let mut row: Vec<(u32, f32)> = kept
                    .map(|&(column, tf)| (column_of[column as usize], tf))
                    .map(|(column, tf)| (column, tf * idf[column as usize]))
                    .collect();
                let mut values: Vec<f32> = row.iter().map(|&(_, v)| v).collect();
                normalise(&mut values);
                row.iter_mut().zip(values).for_each(|(entry, v)| entry.1 = v);
                (all.is_empty(), row)
            })
            .collect();
        for (i, (no_text, row)) in (start as u32..).zip(rows) {
            match (no_text, row.is_empty()) {
                (true, _) => without_text.push(i),
                (false, true) => without_shared_features.push(i),
                _ => {}
            }
            matrix.push_row(&row);
        }
    }
    Ok(Tfidf { matrix, without_text, without_shared_features })
}

/// Buffers for the features of one item.
#[derive(Default)]
struct Scratch {
    features: Vec<(u64, f32)>,
    columns: Vec<(u32, f32)>,
    padded: Vec<char>,
}

impl Scratch {
    /// Columns of an item with their signed ln(1 + tf), ascending, columns whose features cancel out included.
    fn row(&mut self, item: ItemText, config: &TfidfConfig) -> &[(u32, f32)] {
        self.features.clear();
        self.field(item.title, &config.title, config);
        self.field(item.brand, &config.brand, config);
        self.field(item.categories, &config.categories, config);
        self.field(item.description, &config.description, config);
        // Stable, so that equal features are added in the order of the text.
        self.features.sort_by_key(|&(feature, _)| feature);
        self.columns.clear();
        for same in self.features.chunk_by(|a, b| a.0 == b.0) {
            let (column, sign) = config.column_and_sign(same[0].0);
            let tf: f32 = same.iter().map(|&(_, weight)| weight).sum();
            let value = sign * tf.ln_1p();
            match self.columns.last_mut() {
                Some(last) if last.0 == column => last.1 += value,
                _ => self.columns.push((column, value)),
            }
        }
        &self.columns
    }

    fn field(&mut self, text: &str, field: &FieldConfig, config: &TfidfConfig) {
        if field.weight == 0.0 {
            return;
        }
        let Scratch { features, padded, .. } = self;
        let mut add = |feature: u64, factor: f32| {
            if factor > 0.0 {
                features.push((feature, field.weight * factor));
            }
        };
        let mut previous = None;
        words(text, field.words, |word| {
            let this = feature(0, word);
            add(this, config.word);
            if let Some(previous) = previous.replace(this) {
                add(Hash::new().word(previous).word(this).finish(), config.pair);
            }
            if field.characters && config.character > 0.0 {
                padded.clear();
                padded.push('<');
                padded.extend_from_slice(word);
                padded.push('>');
                for n in 3..=5 {
                    padded.windows(n).for_each(|gram| add(feature(n as u64, gram), config.character));
                }
            }
        });
    }
}

fn feature(kind: u64, chars: &[char]) -> u64 {
    chars.iter().fold(Hash::new().word(kind), |h, &c| h.word(u64::from(c))).finish()
}

/// What [`embed_texts`] did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TextReport {
    /// Items in the catalogue.
    pub items: usize,
    /// Items without any word; their vector is zero.
    pub without_text: usize,
    /// Items with words of their own only; their vector is zero.
    pub without_shared_features: usize,
    /// Columns of the TF-IDF matrix in use.
    pub features: usize,
    /// Values stored in it.
    pub stored: usize,
    /// Width of the embedding.
    pub dims: usize,
    /// Share of the matrix' sum of squares that the embedding keeps.
    pub explained: f64,
}

/// Item texts to dense vectors: [`tfidf`], then [`truncated_svd`].
///
/// Errors: `Config` as both; `Run` if no item has a feature shared with another.
pub fn embed_texts<'a>(
    items: usize,
    item: impl Fn(usize) -> ItemText<'a> + Sync,
    tfidf_config: &TfidfConfig,
    svd_config: &SvdConfig,
) -> Result<(Embeddings, TextReport)> {
    let Tfidf { matrix, without_text, without_shared_features } = tfidf(items, item, tfidf_config)?;
    let svd = truncated_svd(&matrix, svd_config)?;
    let report = TextReport {
        items,
        without_text: without_text.len(),
        without_shared_features: without_shared_features.len(),
        features: matrix.width(),
        stored: matrix.stored(),
        dims: svd.embeddings.dims(),
        explained: svd.explained.iter().sum(),
    };
    Ok((svd.embeddings, report))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TITLES: [&str; 6] = [
        "Black ink cartridge for HP printers",
        "Black ink cartridge for HP printer",
        "Leather travel journal, ruled",
        "Ruled travel journal in leather",
        "zzyzx",
        " - ",
    ];

    fn item(i: usize) -> ItemText<'static> {
        ItemText { title: TITLES[i], ..ItemText::default() }
    }

    fn dot(m: &Csr, i: usize, j: usize) -> f32 {
        let (columns, values) = m.row(i);
        let (other_columns, other_values) = m.row(j);
        let value_at = |c: u32| other_columns.binary_search(&c).map_or(0.0, |at| other_values[at]);
        columns.iter().zip(values).map(|(&c, v)| v * value_at(c)).sum()
    }

    #[test]
    fn similar_texts_have_similar_rows_and_odd_items_are_named() {
        let t = tfidf(6, item, &TfidfConfig::default()).unwrap();
        assert!(dot(&t.matrix, 0, 1) > 0.8);
        assert!(dot(&t.matrix, 2, 3) > 0.6);
        assert!(dot(&t.matrix, 0, 2).abs() < 0.2);
        assert!((dot(&t.matrix, 0, 0) - 1.0).abs() < 1e-5);
        assert_eq!((t.without_text, t.without_shared_features), (vec![5], vec![4]));
    }

    #[test]
    fn a_weight_of_zero_leaves_a_field_out_and_weights_move_the_rows() {
        let items = [("pen", "steel"), ("pen", "wood"), ("pot", "steel"), ("pot", "wood")];
        let text = |i: usize| ItemText { title: items[i].0, brand: items[i].1, ..ItemText::default() };
        let cosines = |title: f32, brand: f32| {
            let mut c = TfidfConfig { character: 0.0, ..TfidfConfig::default() };
            (c.title.weight, c.brand.weight) = (title, brand);
            let t = tfidf(4, text, &c).unwrap();
            (dot(&t.matrix, 0, 1), dot(&t.matrix, 0, 2))
        };
        let (same_title, same_brand) = cosines(3.0, 1.0);
        assert!(same_title > same_brand + 0.2, "{same_title} {same_brand}");
        let (same_title, same_brand) = cosines(0.0, 1.0);
        assert!(same_title == 0.0 && (same_brand - 1.0).abs() < 1e-6);
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let c = TfidfConfig { bits: 40, ..TfidfConfig::default() };
        assert_eq!(c.validate().unwrap_err().to_string(), "config: sid.tfidf.bits: 40: expected 8 to 28");
        let c = TfidfConfig { pair: f32::NAN, ..TfidfConfig::default() };
        assert!(c.validate().unwrap_err().to_string().starts_with("config: sid.tfidf.pair: NaN"));
    }
}
