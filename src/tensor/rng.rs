//! Random streams keyed by purpose, so that no result depends on how work was scheduled.

use rand::SeedableRng;
use sha2::{Digest, Sha256};

/// The generator behind every random choice: its output is fixed across versions and machines.
pub type Rng = rand_chacha::ChaCha8Rng;

/// The stream of `(seed, purpose, step, sample)`: the same four give the same numbers, any other four unrelated ones.
pub fn stream(seed: u64, purpose: &str, step: u64, sample: u64) -> Rng {
    let mut hash = Sha256::new();
    for number in [seed, step, sample] {
        hash.update(number.to_le_bytes());
    }
    hash.update(purpose.as_bytes());
    Rng::from_seed(hash.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng as _;

    #[test]
    fn streams_repeat_and_differ_in_every_key() {
        let first = |s: u64, p: &str, t: u64, i: u64| stream(s, p, t, i).next_u64();
        let base = first(1, "a", 2, 3);
        assert_eq!(base, first(1, "a", 2, 3));
        for other in [first(2, "a", 2, 3), first(1, "b", 2, 3), first(1, "a", 3, 3), first(1, "a", 2, 4)] {
            assert_ne!(base, other);
        }
    }
}
