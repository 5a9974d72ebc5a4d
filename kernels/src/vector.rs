//! Vectors of this machine's width, for the inner loops that the compiler does not vectorise by itself: sums.

use pulp::{Arch, Simd, WithSimd, as_arrays};
use std::sync::LazyLock;

/// The widest vector instructions of this machine.
pub(crate) static ARCH: LazyLock<Arch> = LazyLock::new(Arch::new);

/// Bytes of a cache line.
pub(crate) const LINE: usize = 64;

/// Bytes of an operand that is read once between what is multiplied and what the memory is asked for: by then it has answered.
const AHEAD: usize = 16 << 10;

/// Rows of so many elements between what is multiplied and what is prefetched, unless more of them are multiplied at a time.
#[inline(always)]
pub(crate) fn rows_ahead<T>(row: usize) -> usize {
    AHEAD / (row * size_of::<T>()).max(1)
}

/// Asks for the cache line at `at`, which need not be memory of this process, where the processor can be asked. It comes to the
/// second cache: the first is too small for what is read until it is wanted, and waits for fewer lines at a time.
#[inline(always)]
pub(crate) fn prefetch<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch changes nothing and does not fault
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// A number with vectors.
pub trait Vector: Copy {
    /// As many as one register holds.
    type Of<S: Simd>: Copy;
    /// Whole vectors and the rest.
    fn split<S: Simd>(x: &[Self]) -> (&[Self::Of<S>], &[Self]);
    /// The numbers of some vectors.
    fn join<S: Simd>(x: &mut [Self::Of<S>]) -> &mut [Self];
    /// Lanes of a vector.
    #[inline(always)]
    fn lanes<S: Simd>() -> usize {
        size_of::<Self::Of<S>>() / size_of::<Self>()
    }
    /// All lanes zero.
    fn zeros<S: Simd>(simd: S) -> Self::Of<S>;
    /// All lanes `x`.
    fn splat<S: Simd>(simd: S, x: Self) -> Self::Of<S>;
    /// Lane by lane.
    fn plus<S: Simd>(simd: S, a: Self::Of<S>, b: Self::Of<S>) -> Self::Of<S>;
    /// `a b + c`, in one rounding where that is one instruction.
    fn multiply_add<S: Simd>(simd: S, a: Self::Of<S>, b: Self::Of<S>, c: Self::Of<S>) -> Self::Of<S>;
    /// Sum of the lanes.
    fn total<S: Simd>(simd: S, x: Self::Of<S>) -> Self;
}

impl Vector for f32 {
    type Of<S: Simd> = S::f32s;
    #[inline(always)]
    fn split<S: Simd>(x: &[f32]) -> (&[S::f32s], &[f32]) {
        S::as_simd_f32s(x)
    }
    #[inline(always)]
    fn join<S: Simd>(x: &mut [S::f32s]) -> &mut [f32] {
        pulp::bytemuck::cast_slice_mut(x)
    }
    #[inline(always)]
    fn zeros<S: Simd>(simd: S) -> S::f32s {
        simd.splat_f32s(0.0)
    }
    #[inline(always)]
    fn splat<S: Simd>(simd: S, x: f32) -> S::f32s {
        simd.splat_f32s(x)
    }
    #[inline(always)]
    fn plus<S: Simd>(simd: S, a: S::f32s, b: S::f32s) -> S::f32s {
        simd.add_f32s(a, b)
    }
    #[inline(always)]
    fn multiply_add<S: Simd>(simd: S, a: S::f32s, b: S::f32s, c: S::f32s) -> S::f32s {
        simd.mul_add_e_f32s(a, b, c)
    }
    #[inline(always)]
    fn total<S: Simd>(simd: S, x: S::f32s) -> f32 {
        simd.reduce_sum_f32s(x)
    }
}

impl Vector for f64 {
    type Of<S: Simd> = S::f64s;
    #[inline(always)]
    fn split<S: Simd>(x: &[f64]) -> (&[S::f64s], &[f64]) {
        S::as_simd_f64s(x)
    }
    #[inline(always)]
    fn join<S: Simd>(x: &mut [S::f64s]) -> &mut [f64] {
        pulp::bytemuck::cast_slice_mut(x)
    }
    #[inline(always)]
    fn zeros<S: Simd>(simd: S) -> S::f64s {
        simd.splat_f64s(0.0)
    }
    #[inline(always)]
    fn splat<S: Simd>(simd: S, x: f64) -> S::f64s {
        simd.splat_f64s(x)
    }
    #[inline(always)]
    fn plus<S: Simd>(simd: S, a: S::f64s, b: S::f64s) -> S::f64s {
        simd.add_f64s(a, b)
    }
    #[inline(always)]
    fn multiply_add<S: Simd>(simd: S, a: S::f64s, b: S::f64s, c: S::f64s) -> S::f64s {
        simd.mul_add_e_f64s(a, b, c)
    }
    #[inline(always)]
    fn total<S: Simd>(simd: S, x: S::f64s) -> f64 {
        simd.reduce_sum_f64s(x)
    }
}

/// `Σ x_i y_i` over the common length.
#[inline]
pub(crate) fn dot<T: Vector + num_traits::Float>(x: &[T], y: &[T]) -> T {
    let n = x.len().min(y.len());
    ARCH.dispatch(Dot(&x[..n], &y[..n]))
}

/// `Σ x_i`.
#[inline]
pub(crate) fn sum<T: Vector + num_traits::Float>(x: &[T]) -> T {
    ARCH.dispatch(Sum(x))
}

struct Dot<'a, T>(&'a [T], &'a [T]);

impl<T: Vector + num_traits::Float> WithSimd for Dot<'_, T> {
    type Output = T;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> T {
        let ((x, x_tail), (y, y_tail)) = (T::split::<S>(self.0), T::split::<S>(self.1));
        let ((x4, x1), (y4, y1)) = (as_arrays::<4, _>(x), as_arrays::<4, _>(y));
        // four running sums, so that no addition waits for the one before
        let [mut a, mut b, mut c, mut d] = [T::zeros(simd); 4];
        for (x, y) in x4.iter().zip(y4) {
            a = T::multiply_add(simd, x[0], y[0], a);
            b = T::multiply_add(simd, x[1], y[1], b);
            c = T::multiply_add(simd, x[2], y[2], c);
            d = T::multiply_add(simd, x[3], y[3], d);
        }
        for (&x, &y) in x1.iter().zip(y1) {
            a = T::multiply_add(simd, x, y, a);
        }
        let lanes = T::plus(simd, T::plus(simd, a, b), T::plus(simd, c, d));
        x_tail.iter().zip(y_tail).fold(T::total(simd, lanes), |sum, (&x, &y)| sum + x * y)
    }
}

struct Sum<'a, T>(&'a [T]);

impl<T: Vector + num_traits::Float> WithSimd for Sum<'_, T> {
    type Output = T;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> T {
        let (x, tail) = T::split::<S>(self.0);
        let (x4, x1) = as_arrays::<4, _>(x);
        let [mut a, mut b, mut c, mut d] = [T::zeros(simd); 4];
        for x in x4 {
            a = T::plus(simd, a, x[0]);
            b = T::plus(simd, b, x[1]);
            c = T::plus(simd, c, x[2]);
            d = T::plus(simd, d, x[3]);
        }
        for &x in x1 {
            a = T::plus(simd, a, x);
        }
        let lanes = T::plus(simd, T::plus(simd, a, b), T::plus(simd, c, d));
        tail.iter().fold(T::total(simd, lanes), |sum, &x| sum + x)
    }
}
