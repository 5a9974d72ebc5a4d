//! Numbers the CPU twins are generic over, and the reductions they share.

use crate::buffer::Element;
use crate::vector::{self, ARCH, Vector};
use std::ops::{AddAssign, DivAssign, MulAssign, SubAssign};

/// A floating-point type of the CPU twins: f32 for work, f64 for gradient checks.
pub trait Real:
    num_traits::Float + Element + Vector + AddAssign + SubAssign + MulAssign + DivAssign + Default + 'static
{
    /// Rounds an f64 to this type.
    fn of(x: f64) -> Self;
    /// Widens to f64.
    fn wide(self) -> f64;
    /// `e^x`, written so that the compiler can vectorise a loop of it.
    fn fast_exp(self) -> Self;
}

impl Real for f64 {
    fn of(x: f64) -> f64 {
        x
    }
    fn wide(self) -> f64 {
        self
    }
    #[inline(always)]
    fn fast_exp(self) -> f64 {
        self.exp()
    }
}

impl Real for f32 {
    fn of(x: f64) -> f32 {
        x as f32
    }
    fn wide(self) -> f64 {
        self as f64
    }

    /// Splits `x = k ln 2 + r` and takes a degree-6 polynomial of `r`; within 2 units in the last place of the exact
    /// value over the whole range, 0 below -87.3, infinite above 88.7, NaN kept.
    #[inline(always)]
    fn fast_exp(self) -> f32 {
        const LOG2_E: f32 = std::f32::consts::LOG2_E;
        const LN_2_HIGH: f32 = 0.693_359_4;
        const LN_2_LOW: f32 = -2.121_944_4e-4;
        // adding 1.5 * 2^23 rounds to the nearest integer, which then stands in the low bits: a conversion to an
        // integer type saturates, and that keeps loops from being vectorised
        const ROUND: f32 = 12_582_912.0;
        let x = self;
        let clamped = x.clamp(-87.3, 88.7);
        let shifted = clamped * LOG2_E + ROUND;
        let k = shifted - ROUND;
        let r = clamped - k * LN_2_HIGH - k * LN_2_LOW;
        // Taylor coefficients 1/n!, n = 7 … 0: |r| <= ln 2 / 2, the first dropped term is below 6e-9
        let mut p = 1.984_127e-4_f32;
        p = p * r + 1.388_888_9e-3;
        p = p * r + 8.333_334e-3;
        p = p * r + 4.166_666_7e-2;
        p = p * r + 0.166_666_67;
        p = p * r + 0.5;
        p = p * r + 1.0;
        p = p * r + 1.0;
        // the integer is in the low bits of the shifted sum: a cast would saturate, which compiles to scalar code
        // two factors, so that 2^128 does not overflow before the last product
        let exponent = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
        let half = exponent >> 1;
        let rest = exponent.wrapping_sub(half);
        let scale = |e: i32| f32::from_bits((e.wrapping_add(127) as u32) << 23);
        let y = p * scale(half) * scale(rest);
        let y = if x < -87.3 { 0.0 } else { y };
        let y = if x > 88.7 { f32::INFINITY } else { y };
        if x.is_nan() { x } else { y }
    }
}

/// Runs `f` compiled for the widest vector instructions of this machine; what `f` calls must inline into it.
#[inline(always)]
pub fn simd<R>(f: impl FnOnce() -> R) -> R {
    ARCH.dispatch(f)
}

const LANES: usize = 16;

/// `Σ x_i y_i`.
#[inline(always)]
pub fn dot<T: Real>(x: &[T], y: &[T]) -> T {
    vector::dot(x, y)
}

/// `Σ x_i`.
#[inline(always)]
pub fn sum<T: Real>(x: &[T]) -> T {
    vector::sum(x)
}

/// `Σ x_i²`.
#[inline(always)]
pub fn sum_squares<T: Real>(x: &[T]) -> T {
    vector::dot(x, x)
}

/// `max x_i`, NaN where any element is NaN, minus infinity for an empty slice.
#[inline(always)]
pub fn max<T: Real>(x: &[T]) -> T {
    let pick = |a: T, b: T| if b > a || b.is_nan() { b } else { a };
    let mut lanes = [T::neg_infinity(); LANES];
    let chunks = x.chunks_exact(LANES);
    let tail = chunks.remainder().iter().copied().fold(T::neg_infinity(), pick);
    for c in chunks {
        for i in 0..LANES {
            lanes[i] = pick(lanes[i], c[i]);
        }
    }
    lanes.iter().copied().fold(tail, pick)
}

/// `y_i += a x_i`.
#[inline(always)]
pub fn axpy<T: Real>(a: T, x: &[T], y: &mut [T]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y += a * x;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fast_exp_is_within_two_units_in_the_last_place() {
        let mut worst = 0.0f64;
        let mut x = -87.0f32;
        while x < 88.0 {
            let exact = (x as f64).exp();
            worst = worst.max(((x.fast_exp() as f64 - exact) / exact).abs());
            x += 0.003_7;
        }
        assert!(worst < 2.4e-7, "relative error {worst:e}");
        assert_eq!(0.0f32.fast_exp(), 1.0);
        assert_eq!((-200.0f32).fast_exp(), 0.0);
        assert_eq!(f32::NEG_INFINITY.fast_exp(), 0.0);
        assert_eq!(200.0f32.fast_exp(), f32::INFINITY);
        assert!(f32::NAN.fast_exp().is_nan());
    }

    #[test]
    fn reductions_agree_with_plain_loops_at_every_remainder() {
        for n in [0, 1, 15, 16, 17, 47, 64] {
            let x: Vec<f64> = (0..n).map(|i| (i as f64 * 0.7).sin()).collect();
            let y: Vec<f64> = (0..n).map(|i| (i as f64 * 0.3).cos()).collect();
            let plain: f64 = x.iter().zip(&y).map(|(a, b)| a * b).sum();
            assert!((dot(&x, &y) - plain).abs() < 1e-12);
            assert!((sum(&x) - x.iter().sum::<f64>()).abs() < 1e-12);
            assert!((sum_squares(&x) - x.iter().map(|a| a * a).sum::<f64>()).abs() < 1e-12);
            assert_eq!(max(&x), x.iter().copied().fold(f64::NEG_INFINITY, f64::max));
        }
        assert!(max(&[1.0, f32::NAN, 2.0]).is_nan());
    }
}
