//! [`Mutator`]: inputs made of seeds, by bytes (`bytes.rs`) and by the structure of text (`structure.rs`, on the values that
//! `values.rs` finds).
//!
//! An input depends on (seed, target, its number) and on the pool, which results of a new kind join: what is refused by a
//! check that nothing was refused by before is a step further into the reader.

mod bytes;
mod structure;
mod values;

use gr2::tensor::{Rng, stream};
use rand::RngExt;
use rand::seq::IndexedRandom;

use crate::Target;
use crate::watch::LARGEST_INPUT;

/// Inputs of new kinds that are kept, of those accepted and of those refused.
const MOST_KEPT: usize = 300;

/// Makes inputs.
pub struct Mutator {
    target: &'static str,
    seed: u64,
    words: &'static [&'static str],
    /// Inputs that come first, as they are.
    first: Vec<Vec<u8>>,
    /// Seeds first.
    accepted: Vec<Vec<u8>>,
    seeds: usize,
    refused: Vec<Vec<u8>>,
}

/// What an operation on an input may use.
struct Material<'a> {
    rng: Rng,
    words: &'static [&'static str],
    pool: &'a [Vec<u8>],
}

impl Mutator {
    /// Of a target. Its seeds come first, as they are, then its corpus.
    pub fn new(target: &Target, seed: u64) -> Mutator {
        let accepted = (target.seeds)();
        assert!(!accepted.is_empty(), "{}: no seeds", target.name);
        let mut mutator = Mutator {
            target: target.name,
            seed,
            words: target.words,
            seeds: accepted.len(),
            first: [&accepted[..], &crate::corpus(target.name)].concat(),
            accepted,
            refused: vec![],
        };
        for input in crate::corpus(target.name) {
            mutator.keep(input, false);
        }
        mutator
    }

    /// Input number `index`.
    pub fn input(&self, index: u64) -> Vec<u8> {
        if let Some(input) = self.first.get(index as usize) {
            return input.clone();
        }
        let mut rng = stream(self.seed, self.target, 0, index);
        let pool = match rng.random_range(0..10) {
            0..4 => &self.accepted[..self.seeds],
            4..8 => &self.accepted[..],
            _ if self.refused.is_empty() => &self.accepted[..],
            _ => &self.refused[..],
        };
        let mut input = pool.choose(&mut rng).expect("there are seeds").clone();
        let mut material = Material { rng, words: self.words, pool };
        let mut changes = 1;
        while changes < 8 && material.rng.random_bool(0.3) {
            changes += 1;
        }
        // a third of the inputs stay near what is accepted, so that what comes after the first checks is reached
        let gentle = material.rng.random_bool(0.35);
        for _ in 0..changes {
            match material.below(10) {
                _ if gentle => structure::change_gently(&mut input, &mut material),
                0..6 => structure::change(&mut input, &mut material),
                _ => bytes::change(&mut input, &mut material),
            }
        }
        input.truncate(LARGEST_INPUT);
        input
    }

    /// Keeps an input whose result was of a new kind.
    pub fn keep(&mut self, input: Vec<u8>, accepted: bool) {
        let (pool, seeds) = if accepted { (&mut self.accepted, self.seeds) } else { (&mut self.refused, 0) };
        if pool.len() < seeds + MOST_KEPT && input.len() <= 4096 {
            pool.push(input);
        }
    }
}

impl Material<'_> {
    fn below(&mut self, end: usize) -> usize {
        self.rng.random_range(0..end.max(1))
    }

    /// Two places in something of this length, the first not after the second, often near each other.
    fn range(&mut self, length: usize) -> (usize, usize) {
        let start = self.below(length + 1);
        let longest = if self.rng.random_bool(0.7) { 16 } else { length };
        (start, (start + self.below(longest + 1)).min(length))
    }

    fn word(&mut self) -> &'static str {
        self.words.choose(&mut self.rng).copied().unwrap_or("null")
    }
}
