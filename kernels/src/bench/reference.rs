//! Inputs without pattern, and comparison with f64.

use crate::buffer::Buffer;
use crate::device::Device;
use crate::error::Result;
use rayon::prelude::*;

/// How far results were from f64.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Agreement {
    /// Worst error, relative to the largest magnitude compared.
    pub error: f64,
    /// What the case allows.
    pub tolerance: f64,
}

impl Agreement {
    /// Compares values found with those expected; a NaN is an infinite error.
    pub(super) fn of(pairs: impl IntoIterator<Item = (f64, f64)>, tolerance: f64) -> Agreement {
        let (mut worst, mut largest) = (0.0f64, f64::MIN_POSITIVE);
        for (found, expected) in pairs {
            let error = (found - expected).abs();
            worst = if error.is_nan() { f64::INFINITY } else { worst.max(error) };
            largest = largest.max(expected.abs());
        }
        Agreement { error: worst / largest, tolerance }
    }

    /// True if the results are right.
    pub fn holds(&self) -> bool {
        self.error <= self.tolerance
    }
}

/// Error of a sum of `n` f32 products in any order, relative to the largest magnitude: the random-walk bound `√n ε` with
/// room for the functions around it.
pub fn sum_tolerance(n: usize) -> f64 {
    16.0 * (n.max(1) as f64).sqrt() * f32::EPSILON as f64
}

/// What a device that rounds the operands of products to f16 adds to [`sum_tolerance`]: two roundings of 2^-11 for each of the
/// terms, of either sign.
pub(super) fn rounding(device: &Device) -> f64 {
    if device.rounds_products() { 1.0 / 1024.0 } else { 0.0 }
}

/// `n` numbers in (-1, 1) without visible pattern, the same for the same seed.
pub(super) fn noise(seed: u64, n: usize) -> Vec<f32> {
    let number = |i: usize| {
        // splitmix64
        let mut z = (seed << 40).wrapping_add(i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..n).into_par_iter().with_min_len(1 << 16).map(number).collect()
}

/// [`noise`] on a device.
pub(super) fn noise_on(device: &Device, seed: u64, n: usize) -> Result<Buffer> {
    Buffer::from_slice(device, &noise(seed, n))
}

/// `count` of the numbers below `n`, spread over all of them, the first and the last among them.
pub(super) fn spread(n: usize, count: usize) -> impl Iterator<Item = usize> + Clone {
    let count = count.min(n);
    (0..count).map(move |i| if count < 2 { 0 } else { i * (n - 1) / (count - 1) })
}
