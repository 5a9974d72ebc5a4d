//! The fixed hash behind text features and the keys of random streams: stored seeds and embeddings depend on it.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fixed_and_spreads() {
        assert_eq!(Hash::new().word(0x61).0, fnv(&[0x61, 0, 0, 0, 0, 0, 0, 0]));
        let mut seen = [0usize; 16];
        (0..1600u64).for_each(|i| seen[(Hash::new().word(i).finish() >> 60) as usize] += 1);
        assert!(seen.iter().all(|&n| (60..140).contains(&n)), "{seen:?}");
    }

    /// FNV-1a of bytes in wide arithmetic, as the reference describes it.
    fn fnv(bytes: &[u8]) -> u64 {
        bytes.iter().fold(14_695_981_039_346_656_037u128, |h, &b| ((h ^ u128::from(b)) * 1_099_511_628_211) % (1 << 64))
            as u64
    }
}
