//! Packing: examples put one after the other into batches of a fixed number of tokens, without padding.

use crate::error::{Error, Result};
use gr2_kernels::Segments;

/// One training sequence.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Example {
    /// Token ids.
    pub tokens: Vec<u32>,
    /// Loss weight of predicting each token from those before it; the first token is never predicted.
    pub weights: Vec<f32>,
}

/// Where training sequences come from: made when they are needed, so that augmentation can differ by epoch.
pub trait Examples: Sync {
    /// Sequences in one epoch.
    fn len(&self) -> usize;

    /// True if there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sequence `index` of epoch `epoch`; the same two give the same sequence.
    fn get(&self, epoch: u64, index: usize) -> Result<Example>;
}

/// Fixed sequences.
impl Examples for Vec<Example> {
    fn len(&self) -> usize {
        <[Example]>::len(self)
    }

    fn get(&self, _epoch: u64, index: usize) -> Result<Example> {
        Ok(self[index].clone())
    }
}

/// A packed batch: inputs, and the predictions that count.
#[derive(Debug)]
pub struct Batch {
    /// Token ids (T).
    pub ids: Vec<u32>,
    /// Which tokens form a sequence.
    pub segments: Segments,
    /// Rows of (T) whose next token is predicted with a weight.
    pub rows: Vec<u32>,
    /// The next token of each of those rows.
    pub targets: Vec<u32>,
    /// Its loss weight.
    pub weights: Vec<f32>,
}

impl Batch {
    /// Packs examples in order. Each loses its last token as input: nothing is predicted from it.
    ///
    /// Errors: `Shape` if an example has not one weight per token.
    pub fn pack<'a>(examples: impl IntoIterator<Item = &'a Example>) -> Result<Batch> {
        let (mut ids, mut lengths) = (vec![], vec![]);
        let (mut rows, mut targets, mut weights) = (vec![], vec![], vec![]);
        for example in examples {
            if example.tokens.len() != example.weights.len() {
                let problem = format!("{} tokens, {} weights", example.tokens.len(), example.weights.len());
                return Err(Error::Shape { op: "pack", problem });
            }
            let Some((_, inputs)) = example.tokens.split_last().filter(|(_, inputs)| !inputs.is_empty()) else {
                continue;
            };
            for (i, (&target, &weight)) in example.tokens.iter().zip(&example.weights).enumerate().skip(1) {
                if weight != 0.0 {
                    rows.push((ids.len() + i - 1) as u32);
                    targets.push(target);
                    weights.push(weight);
                }
            }
            ids.extend_from_slice(inputs);
            lengths.push(inputs.len());
        }
        Ok(Batch { segments: Segments::packed(&lengths)?, ids, rows, targets, weights })
    }
}

/// Splits an order of examples into batches of at most `budget` tokens, each at least one example: the ranges of
/// `lengths`.
pub fn batches(lengths: &[usize], budget: usize) -> Vec<std::ops::Range<usize>> {
    let mut ranges = vec![];
    let (mut start, mut filled) = (0, 0);
    for (i, &length) in lengths.iter().enumerate() {
        if i > start && filled + length > budget {
            ranges.push(start..i);
            (start, filled) = (i, 0);
        }
        filled += length;
    }
    if start < lengths.len() {
        ranges.push(start..lengths.len());
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_weighted_token_is_predicted_from_the_one_before_it() {
        let a = Example { tokens: vec![5, 6, 7], weights: vec![1.0, 0.0, 2.0] };
        let b = Example { tokens: vec![8, 9], weights: vec![0.0, 1.0] };
        let batch = Batch::pack([&a, &b]).unwrap();
        assert_eq!(batch.ids, [5, 6, 8]);
        assert_eq!((batch.rows, batch.targets, batch.weights), (vec![1, 2], vec![7, 9], vec![2.0, 1.0]));
    }

    #[test]
    fn batches_keep_the_budget_and_every_example() {
        assert_eq!(batches(&[4, 4, 4, 9, 1], 8), vec![0..2, 2..3, 3..4, 4..5]);
        assert!(batches(&[], 8).is_empty());
    }
}
