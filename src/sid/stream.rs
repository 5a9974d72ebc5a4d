//! Random streams keyed by (seed, name, index), and the three draws this module needs.
//!
//! The draws are written out rather than taken from `rand`'s distributions so that a stored seed keeps its meaning when
//! that crate changes its algorithms.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// FNV-1a over 64-bit words, each taken byte by byte.
#[derive(Clone, Copy)]
pub(super) struct Hash(u64);

impl Hash {
    pub(super) const fn new() -> Self {
        Hash(0xcbf2_9ce4_8422_2325)
    }

    pub(super) fn word(mut self, word: u64) -> Self {
        for byte in word.to_le_bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        self
    }

    /// The hash with its bits mixed once more (FNV's own high bits are weak for short inputs).
    /// Source: the 64-bit finaliser of MurmurHash3 (Appleby, public domain).
    pub(super) fn finish(self) -> u64 {
        let mut h = self.0;
        h = (h ^ (h >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        h = (h ^ (h >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        h ^ (h >> 33)
    }
}

/// The random stream of `name` and `index` under `seed`.
pub(super) fn stream(seed: u64, name: &str, index: u64) -> ChaCha8Rng {
    let key = name.bytes().fold(Hash::new(), |h, b| h.word(u64::from(b))).word(index).finish();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(key);
    rng
}

/// Uniform in [0, 1), 53 bits.
pub(super) fn unit(rng: &mut ChaCha8Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// Uniform in 0..n (multiply-high; the bias of at most n / 2^64 is below anything measurable here). `n` is not 0.
pub(super) fn below(rng: &mut ChaCha8Rng, n: usize) -> usize {
    ((u128::from(rng.next_u64()) * n as u128) >> 64) as usize
}

/// `count` of 0..n, each subset equally likely, ascending; all of them if `count` is at least n.
/// Source: Knuth, The Art of Computer Programming 2, 3.4.2, algorithm S.
pub(super) fn subset(rng: &mut ChaCha8Rng, n: usize, count: usize) -> Vec<usize> {
    let mut chosen = Vec::with_capacity(count.min(n));
    for i in 0..n {
        if below(rng, n - i) < count.saturating_sub(chosen.len()) {
            chosen.push(i);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subsets_are_ascending_of_the_size_asked_for_and_even() {
        let mut rng = stream(7, "test", 1);
        let mut times = [0usize; 6];
        for _ in 0..600 {
            let chosen = subset(&mut rng, 6, 2);
            assert!(chosen.len() == 2 && chosen[0] < chosen[1]);
            chosen.iter().for_each(|&i| times[i] += 1);
        }
        assert!(times.iter().all(|&n| (150..250).contains(&n)), "{times:?}");
        assert_eq!(subset(&mut rng, 3, 9), [0, 1, 2]);
    }

    #[test]
    fn streams_are_repeatable_and_differ_by_every_part_of_the_key() {
        let first = |seed, name, index| stream(seed, name, index).next_u64();
        assert_eq!(first(1, "svd", 0), first(1, "svd", 0));
        let others = [first(1, "svd", 0), first(2, "svd", 0), first(1, "kmeans", 0), first(1, "svd", 1)];
        for (i, a) in others.iter().enumerate() {
            assert!(others[i + 1..].iter().all(|b| a != b), "{others:?}");
        }
    }

    #[test]
    fn draws_stay_inside_and_cover_their_range() {
        let mut rng = stream(7, "test", 0);
        let mut seen = [0usize; 5];
        for _ in 0..1000 {
            let u = unit(&mut rng);
            assert!((0.0..1.0).contains(&u));
            seen[below(&mut rng, 5)] += 1;
        }
        assert!(seen.iter().all(|&n| n > 140), "{seen:?}");
    }
}
