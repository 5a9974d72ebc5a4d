//! Items bought near each other, and vectors that say who is bought with whom.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::csr::Csr;
use super::embeddings::Embeddings;
use super::svd::{SvdConfig, truncated_svd};
use crate::bounds::{MANY, SHARE, Section, above};
use crate::error::{Error, Result};

/// Ends every sequence in the flat list of purchases.
const END: u32 = u32::MAX;

/// Settings of [`neighbours`]. The defaults are this project's own choice, in want of published ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CooccurrenceConfig {
    /// Purchases looked at before and after each.
    pub window: usize,
    /// A pair d purchases apart counts decay^(d − 1).
    pub decay: f32,
    /// Neighbours kept per item, K.
    pub neighbours: usize,
    /// Weights are divided by (n_i · n_j)^power, n the purchases of an item: 0 prefers popular neighbours, 0.5 is the cosine.
    pub popularity_power: f32,
}

impl Default for CooccurrenceConfig {
    fn default() -> Self {
        CooccurrenceConfig { window: 5, decay: 0.7, neighbours: 20, popularity_power: 0.5 }
    }
}

impl CooccurrenceConfig {
    /// Errors: `Config` naming the field that is out of range.
    pub fn validate(&self) -> Result<()> {
        let at = Section::new("sid.cooccurrence");
        at.because("no pair lies inside").whole("window", self.window, 1..=MANY)?;
        at.number("decay", self.decay, above(0.0, 1.0))?;
        at.because("sid.collaborative = 0 leaves purchases out").whole("neighbours", self.neighbours, 1..=MANY)?;
        at.number("popularity_power", self.popularity_power, SHARE)
    }
}

/// For each item its K neighbours of largest weight, heaviest first (equal weights by item number):
/// w_ij = Σ decay^(d − 1) / (n_i n_j)^power over all pairs of purchases of i and j at distance d ≤ window in one sequence.
///
/// Give training sequences only: the targets of validation and test must not shape the identifiers.
/// Memory: 8 bytes per purchase and 8 · K per item; the pairs are never held at once.
///
/// Shapes: the result is (items, items), K values per row at most.
/// Errors: `Config` if the settings are out of range; `Shape` if a sequence names an item the catalogue does not have.
pub fn neighbours<S: AsRef<[u32]>>(sequences: &[S], items: usize, config: &CooccurrenceConfig) -> Result<Csr> {
    config.validate()?;
    let purchases = flat(sequences, items)?;
    // For every item, where it was bought, in order.
    let mut starts = vec![0usize; items + 1];
    purchases.iter().filter(|&&i| i != END).for_each(|&i| starts[i as usize + 1] += 1);
    (0..items).for_each(|i| starts[i + 1] += starts[i]);
    let mut next = starts.clone();
    let mut places = vec![0u32; starts[items]];
    for (place, &item) in purchases.iter().enumerate().filter(|(_, item)| **item != END) {
        places[next[item as usize]] = place as u32;
        next[item as usize] += 1;
    }
    let count = |item: u32| (starts[item as usize + 1] - starts[item as usize]) as f32;

    let rows: Vec<Vec<(u32, f32)>> = (0..items as u32)
        .into_par_iter()
        .map_init(Vec::new, |met: &mut Vec<(u32, f32)>, item| {
            met.clear();
            for &place in &places[starts[item as usize]..starts[item as usize + 1]] {
                let (before, after) = purchases.split_at(place as usize);
                meet(before.iter().rev(), item, config, met);
                meet(after[1..].iter(), item, config, met);
            }
            // Stable, so that the weights of a neighbour are added in the order they were met.
            met.sort_by_key(|&(other, _)| other);
            let mut row: Vec<(u32, f32)> = met
                .chunk_by(|a, b| a.0 == b.0)
                .map(|same| {
                    let other = same[0].0;
                    let weight: f32 = same.iter().map(|&(_, w)| w).sum();
                    (other, weight / (count(item) * count(other)).powf(config.popularity_power))
                })
                .collect();
            row.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            row.truncate(config.neighbours);
            row
        })
        .collect();
    let mut matrix = Csr::with_width(items);
    rows.iter().for_each(|row| matrix.push_row(row));
    Ok(matrix)
}

/// All sequences behind each other, each followed by END.
fn flat<S: AsRef<[u32]>>(sequences: &[S], items: usize) -> Result<Vec<u32>> {
    let total: usize = sequences.iter().map(|s| s.as_ref().len() + 1).sum();
    if total > END as usize || items > END as usize {
        let problem = format!("{total} purchases and ends of {items} items, room is for {END} of each");
        return Err(Error::Shape { op: "cooccurrence", problem });
    }
    let mut purchases = Vec::with_capacity(total);
    for (number, sequence) in sequences.iter().enumerate() {
        if let Some(item) = sequence.as_ref().iter().find(|&&item| item as usize >= items) {
            let problem = format!("sequence {number} has item {item}, the catalogue has {items} items");
            return Err(Error::Shape { op: "cooccurrence", problem });
        }
        purchases.extend_from_slice(sequence.as_ref());
        purchases.push(END);
    }
    Ok(purchases)
}

fn meet<'a>(side: impl Iterator<Item = &'a u32>, item: u32, config: &CooccurrenceConfig, met: &mut Vec<(u32, f32)>) {
    let mut weight = 1.0;
    for &other in side.take(config.window).take_while(|&&other| other != END) {
        if other != item {
            met.push((other, weight));
        }
        weight *= config.decay;
    }
}

/// Item vectors from co-purchases alone: the truncated SVD of the neighbour matrix with rows of unit length. Items
/// bought after or before the same others are near each other; an item without neighbours has the zero vector.
///
/// Shapes: neighbours (items, items); the result is (items, dims).
/// Errors: as [`truncated_svd`].
pub fn embed_neighbours(neighbours: &Csr, config: &SvdConfig) -> Result<Embeddings> {
    Ok(truncated_svd(neighbours, config)?.embeddings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(popularity_power: f32) -> CooccurrenceConfig {
        CooccurrenceConfig { window: 2, decay: 0.5, neighbours: 3, popularity_power }
    }

    #[test]
    fn weights_by_hand() {
        // 0-1 once at distance 1 and once at 2; 0-2 at 1; 1-2 at 1; 3 never meets anyone across the end of a sequence.
        let m = neighbours(&[vec![0u32, 1, 2], vec![1, 4, 0], vec![3]], 5, &config(0.0)).unwrap();
        assert_eq!(m.row(0), (&[1u32, 4, 2][..], &[1.5f32, 1.0, 0.5][..]));
        assert_eq!(m.row(1), (&[0u32, 2, 4][..], &[1.5f32, 1.0, 1.0][..]));
        assert_eq!(m.row(3).0.len(), 0);
        let m = neighbours(&[vec![0u32, 1, 2], vec![1, 4, 0], vec![3]], 5, &config(0.5)).unwrap();
        let (others, weights) = m.row(0);
        assert_eq!(others, [1, 4, 2]);
        let expected = [1.5 / 2.0, 1.0 / 2f32.sqrt(), 0.5 / 2f32.sqrt()];
        assert!(weights.iter().zip(expected).all(|(w, e)| (w - e).abs() < 1e-6), "{weights:?}");
    }

    #[test]
    fn keeps_only_the_heaviest_and_never_the_item_itself() {
        let m =
            neighbours(&[vec![0u32, 0, 1, 2, 3, 4]], 5, &CooccurrenceConfig { neighbours: 2, ..config(0.0) }).unwrap();
        assert_eq!(m.row(0).0, [1, 2]);
        assert!((0..5).all(|i| m.row(i).0.len() <= 2 && !m.row(i).0.contains(&(i as u32))));
    }

    #[test]
    fn unknown_items_and_bad_settings_are_named() {
        let message = neighbours(&[vec![0u32], vec![7]], 5, &config(0.0)).unwrap_err().to_string();
        assert_eq!(message, "cooccurrence: sequence 1 has item 7, the catalogue has 5 items");
        let message = neighbours(&[vec![0u32]], 1, &config(2.0)).unwrap_err().to_string();
        assert_eq!(message, "config: sid.cooccurrence.popularity_power: 2: expected at least 0, at most 1");
    }

    #[test]
    fn items_with_the_same_neighbours_are_near_and_a_loner_is_zero() {
        let sequences = [vec![0u32, 2], vec![1, 2], vec![0, 3], vec![1, 3], vec![4, 5], vec![6]];
        let m = neighbours(&sequences, 7, &config(0.5)).unwrap();
        let e = embed_neighbours(&m, &SvdConfig { dims: 4, ..SvdConfig::default() }).unwrap();
        let dot = |i: usize, j: usize| e.row(i).iter().zip(e.row(j)).map(|(a, b)| a * b).sum::<f32>();
        assert!(dot(0, 1) > 0.99 && dot(0, 4).abs() < 0.01, "{} {}", dot(0, 1), dot(0, 4));
        assert_eq!(dot(6, 6), 0.0);
    }
}
