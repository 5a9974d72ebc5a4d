//! [`Markov`]: what was bought soon after what. A ranker of its own, and evidence for the scripted teacher.

use crate::error::{Error, Result};

/// A pair of purchases d apart counts 1/d, up to this d.
const SKIP: usize = 3;
/// Purchases of a history that count, the most recent ones.
const RECENT: usize = 5;
/// Weight of each of them relative to the one after it.
const DECAY: f64 = 0.6;

/// Weighted successors of every item.
///
/// Memory: 8 bytes per item and 8 per pair of purchases at most 3 apart.
#[derive(Debug, Clone)]
pub struct Markov {
    starts: Vec<usize>,
    successors: Vec<(u32, f32)>,
    bought: Vec<u32>,
    /// Items by how often they were bought, most often first.
    popular: Vec<u32>,
}

impl Markov {
    /// Counts the purchases of training sequences, oldest first; targets that are to be predicted must not be in them.
    ///
    /// Errors: `Shape` if a sequence names an item that the catalogue does not have.
    pub fn learn<S: AsRef<[u32]>>(sequences: &[S], items: usize) -> Result<Self> {
        let mut bought = vec![0u32; items];
        let mut starts = vec![0usize; items + 1];
        for sequence in sequences {
            let sequence = sequence.as_ref();
            for (at, &item) in sequence.iter().enumerate() {
                let Some(count) = bought.get_mut(item as usize) else {
                    let problem = format!("item {item}, the catalogue has {items} items");
                    return Err(Error::Shape { op: "markov", problem });
                };
                *count += 1;
                starts[item as usize + 1] += SKIP.min(sequence.len() - 1 - at);
            }
        }
        (0..items).for_each(|item| starts[item + 1] += starts[item]);
        let mut pairs = vec![(0u32, 0f32); starts[items]];
        let mut next = starts.clone();
        for sequence in sequences {
            let sequence = sequence.as_ref();
            for (at, &item) in sequence.iter().enumerate() {
                for (distance, &after) in (1..=SKIP).zip(&sequence[at + 1..]) {
                    pairs[next[item as usize]] = (after, 1.0 / distance as f32);
                    next[item as usize] += 1;
                }
            }
        }
        let (mut successors, mut ends) = (Vec::new(), vec![0]);
        for item in 0..items {
            // Stable, so that weights are added in the order in which they were met.
            merge_into(&mut successors, &mut pairs[starts[item]..starts[item + 1]]);
            ends.push(successors.len());
        }
        let mut popular: Vec<u32> = (0..items as u32).collect();
        popular.sort_by_key(|&item| std::cmp::Reverse(bought[item as usize]));
        Ok(Markov { starts: ends, successors, bought, popular })
    }

    /// Times an item was bought.
    pub fn bought(&self, item: u32) -> u32 {
        self.bought.get(item as usize).copied().unwrap_or(0)
    }

    /// Items that followed one of the last five purchases, ascending, with the sum of their weights, those of older
    /// purchases counting 0.6 as much each.
    pub fn scores(&self, history: &[u32]) -> Vec<(u32, f64)> {
        self.scores_without(history, &[])
    }

    /// [`Markov::scores`] as if `sequence` had not been among the training sequences: what other customers bought.
    pub fn scores_without(&self, history: &[u32], sequence: &[u32]) -> Vec<(u32, f64)> {
        let mut met = Vec::new();
        let mut weight = 1.0;
        for &item in history.iter().rev().take(RECENT) {
            let row = self.row(item).iter().map(|&(after, count)| (after, weight * f64::from(count)));
            met.extend(row);
            let own = sequence.iter().enumerate().filter(|(_, bought)| **bought == item);
            let pairs = own.flat_map(|(at, _)| (1..=SKIP).zip(&sequence[at + 1..]));
            met.extend(pairs.map(|(distance, &after)| (after, -weight * f64::from(1.0 / distance as f32))));
            weight *= DECAY;
        }
        let mut scores = Vec::new();
        merge_into(&mut scores, &mut met);
        // the least weight of a pair is 0.6⁴/3 = 0.04; what is smaller is rounding of a difference
        scores.retain(|pair| pair.1 > 1e-3);
        scores
    }

    /// The `k` items of highest score, best first; equal ones, and those that fill up, by how often they were bought.
    pub fn top(&self, history: &[u32], k: usize) -> Vec<u32> {
        let mut scored = self.scores(history);
        let popularity = |item: u32| (std::cmp::Reverse(self.bought(item)), item);
        scored.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| popularity(a.0).cmp(&popularity(b.0))));
        let mut top: Vec<u32> = scored.into_iter().map(|(item, _)| item).take(k).collect();
        for &item in &self.popular {
            if top.len() >= k {
                break;
            }
            if !top.contains(&item) {
                top.push(item);
            }
        }
        top
    }

    fn row(&self, item: u32) -> &[(u32, f32)] {
        let item = item as usize;
        if item + 1 < self.starts.len() { &self.successors[self.starts[item]..self.starts[item + 1]] } else { &[] }
    }
}

/// Appends `pairs` by their first parts, the second parts of equal ones added up.
fn merge_into<W: Copy + std::ops::AddAssign>(merged: &mut Vec<(u32, W)>, pairs: &mut [(u32, W)]) {
    pairs.sort_by_key(|pair| pair.0);
    for same in pairs.chunk_by(|a, b| a.0 == b.0) {
        let (item, mut sum) = same[0];
        same[1..].iter().for_each(|pair| sum += pair.1);
        merged.push((item, sum));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_by_hand() {
        let markov = Markov::learn(&[vec![0, 1, 2, 3, 4], vec![0, 2], vec![]], 6).unwrap();
        // 0 → 1 (1), 2 (1/2 + 1), 3 (1/3); 1 → 2 (1), 3 (1/2), 4 (1/3).
        let scores = markov.scores(&[0, 1]);
        let expected = [(1, 0.6), (2, 1.0 + 0.6 * 1.5), (3, 0.5 + 0.6 / 3.0), (4, 1.0 / 3.0)];
        assert_eq!(scores.len(), 4);
        for (found, expected) in scores.iter().zip(expected) {
            assert!(found.0 == expected.0 && (found.1 - expected.1).abs() < 1e-6, "{found:?} {expected:?}");
        }
        assert_eq!(markov.top(&[0, 1], 3), [2, 3, 1]);
        // Nothing followed item 4: the most often bought, then the lowest number.
        assert_eq!(markov.top(&[4], 4), [0, 2, 1, 3]);
        assert_eq!(markov.top(&[4], 99), [0, 2, 1, 3, 4, 5]);
        assert_eq!((markov.bought(0), markov.bought(5), markov.bought(9)), (2, 0, 0));
        assert!(markov.scores(&[99]).is_empty());
        // without the first sequence only 0 → 2 (1) is left
        let left = markov.scores_without(&[0, 1], &[0, 1, 2, 3, 4]);
        assert!(left.len() == 1 && left[0].0 == 2 && (left[0].1 - 0.6).abs() < 1e-6, "{left:?}");
        let refused = Markov::learn(&[[6]], 6).unwrap_err().to_string();
        assert_eq!(refused, "markov: item 6, the catalogue has 6 items");
    }
}
