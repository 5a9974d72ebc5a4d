//! A Markov recommender: what followed an item within three purchases, recent purchases counting more.

use std::collections::HashMap;

/// How many purchases ahead a transition is counted, with weight 1/distance.
const SKIP: usize = 3;
/// Recent purchases that vote, each `DECAY` times the one after it.
const RECENT: usize = 5;
const DECAY: f64 = 0.6;
/// Weight of popularity, which only orders what no transition reaches.
const POPULARITY: f64 = 1e-6;

/// Transition counts between items.
pub struct Markov {
    next: Vec<Vec<(u32, f64)>>,
    /// Items by popularity, most bought first.
    popular: Vec<(u32, f64)>,
}

impl Markov {
    /// Counts the transitions of training sequences over a catalogue of `items`.
    pub fn fit<S: AsRef<[u32]>>(sequences: impl IntoIterator<Item = S>, items: usize) -> Markov {
        let mut counts: Vec<HashMap<u32, f64>> = vec![HashMap::new(); items];
        let mut popularity = vec![0.0; items];
        for sequence in sequences {
            let sequence = sequence.as_ref();
            for (i, &from) in sequence.iter().enumerate() {
                popularity[from as usize] += 1.0;
                for distance in 1..=SKIP {
                    if let Some(&to) = sequence.get(i + distance) {
                        *counts[from as usize].entry(to).or_default() += 1.0 / distance as f64;
                    }
                }
            }
        }
        let sorted = |row: HashMap<u32, f64>| {
            let mut row: Vec<(u32, f64)> = row.into_iter().collect();
            row.sort_by_key(|&(item, _)| item);
            row
        };
        let mut popular: Vec<(u32, f64)> = (0..).zip(popularity).collect();
        popular.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        Markov { next: counts.into_iter().map(sorted).collect(), popular }
    }

    /// The `top` best items after a history, best first.
    pub fn recommend(&self, history: &[u32], top: usize) -> Vec<u32> {
        let mut scores: HashMap<u32, f64> = HashMap::new();
        let mut weight = 1.0;
        for &item in history.iter().rev().take(RECENT) {
            for &(to, count) in &self.next[item as usize] {
                *scores.entry(to).or_default() += weight * count;
            }
            weight *= DECAY;
        }
        // enough popular items to fill the list, whatever the transitions reach
        for &(item, count) in self.popular.iter().take(top + scores.len()) {
            *scores.entry(item).or_default() += POPULARITY * count;
        }
        let mut ranked: Vec<(u32, f64)> = scores.into_iter().collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        ranked.into_iter().take(top).map(|(item, _)| item).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_successors_come_first_and_popular_items_fill_up() {
        let markov = Markov::fit([vec![0, 1, 2], vec![0, 1, 3], vec![4, 4, 4, 4]], 6);
        assert_eq!(markov.recommend(&[0], 3), [1, 2, 3]);
        assert_eq!(markov.recommend(&[5], 1), [4]);
        assert_eq!(markov.recommend(&[0], 6).len(), 6);
    }
}
