//! Products that read both operands where they lie: a general product copies them into its own layout first, which
//! for a few rows costs as much as the product itself.

use super::{DOT_ROWS, Target, View, collide};
use crate::real::Real;
use crate::vector::{ARCH, LINE, prefetch, rows_ahead};
use pulp::{Simd, WithSimd};

/// `y = scale a b` or `y += scale a b`, where the rows of `b` are consecutive elements: a tile of sums takes some rows
/// of `a` by some vectors of `b`, and every step multiplies one number of each row with those vectors.
///
/// Safety: the operands hold their shapes and have as many terms as each other; `y` has a place of its own for every
/// element of the result, and nothing else touches those meanwhile.
pub(super) unsafe fn broadcast<T: Real>(y: Target<T>, keep: bool, scale: T, a: View<T>, b: View<T>) {
    ARCH.dispatch(Broadcast(Product { y, keep, scale, a, b, ahead: rows_ahead::<T>(a.cols) }));
}

/// `y = scale a bᵀ` or `y += scale a bᵀ`, where the rows of both operands are consecutive elements: lanes along the sums.
///
/// Safety: as of [`broadcast`].
pub(super) unsafe fn dots<T: Real>(y: Target<T>, keep: bool, scale: T, a: View<T>, b: View<T>) {
    ARCH.dispatch(Dots(Product { y, keep, scale, a, b, ahead: rows_ahead::<T>(b.cols) }));
}

struct Product<'a, T> {
    y: Target<'a, T>,
    keep: bool,
    scale: T,
    a: View<'a, T>,
    b: View<'a, T>,
    /// Rows of the operand that may come from memory between those that are multiplied and those that are prefetched, if that is
    /// more than a tile's.
    ahead: usize,
}

impl<T: Real> Product<'_, T> {
    /// Scales sums and writes them to row i from column j on.
    #[inline(always)]
    fn put(&self, i: usize, j: usize, sums: &mut [T]) {
        debug_assert!(i < self.a.rows && j + sums.len() <= self.b.cols.max(self.b.rows));
        sums.iter_mut().for_each(|sum| *sum *= self.scale);
        // SAFETY: tiles lie inside the result, for whose places the callers of this module vouch
        unsafe { self.y.put(i, j, sums, self.keep) }
    }
}

struct Broadcast<'a, T>(Product<'a, T>);

impl<T: Real> WithSimd for Broadcast<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (rows, cols, lanes) = (self.0.a.rows, self.0.b.cols, T::lanes::<S>());
        // whole vectors, also past the last column where there is memory: what they give is not written
        let padded = View { cols: cols.next_multiple_of(lanes), ..self.0.b };
        let vectors = if padded.fits() { padded.cols / lanes } else { cols / lanes };
        // twice as many rows of one vector, unless more of them meet in a set of the first cache than it holds
        let many = vectors == 1 && !collide::<T>(self.0.a.row_stride);
        let mut i = 0;
        while i < rows {
            // sums enough to hide the latency of the multiply-adds, and few enough for sixteen registers
            let (taken, wide) = match rows - i {
                1 => (1, 4),
                2 => (2, 4),
                3 => (3, 2),
                4 => (4, 2),
                5 => (5, 2),
                12.. if many => (12, 1),
                _ => (6, 2),
            };
            for j in (0..vectors).step_by(wide) {
                let (j, vectors) = (j * lanes, wide.min(vectors - j));
                match (taken, vectors) {
                    (1, 4) => self.tile::<S, 1, 4>(simd, i, j),
                    (1, 3) => self.tile::<S, 1, 3>(simd, i, j),
                    (1, 2) => self.tile::<S, 1, 2>(simd, i, j),
                    (1, _) => self.tile::<S, 1, 1>(simd, i, j),
                    (2, 4) => self.tile::<S, 2, 4>(simd, i, j),
                    (2, 3) => self.tile::<S, 2, 3>(simd, i, j),
                    (2, 2) => self.tile::<S, 2, 2>(simd, i, j),
                    (2, _) => self.tile::<S, 2, 1>(simd, i, j),
                    (3, 2) => self.tile::<S, 3, 2>(simd, i, j),
                    (3, _) => self.tile::<S, 3, 1>(simd, i, j),
                    (4, 2) => self.tile::<S, 4, 2>(simd, i, j),
                    (4, _) => self.tile::<S, 4, 1>(simd, i, j),
                    (5, 2) => self.tile::<S, 5, 2>(simd, i, j),
                    (5, _) => self.tile::<S, 5, 1>(simd, i, j),
                    (6, 2) => self.tile::<S, 6, 2>(simd, i, j),
                    (12, _) => self.tile::<S, 12, 1>(simd, i, j),
                    (_, _) => self.tile::<S, 6, 1>(simd, i, j),
                }
            }
            for i in i..i + taken {
                for j in vectors * lanes..cols {
                    let sum = (0..self.0.a.cols).fold(T::zero(), |sum, l| sum + self.0.a.at(i, l) * self.0.b.at(l, j));
                    self.0.put(i, j, &mut [sum]);
                }
            }
            i += taken;
        }
    }
}

impl<T: Real> Broadcast<'_, T> {
    /// Rows i.. and columns j.. of the result: I rows by J vectors.
    #[inline(always)]
    fn tile<S: Simd, const I: usize, const J: usize>(&self, simd: S, i: usize, j: usize) {
        let Product { a, b, ahead, .. } = self.0;
        let mut sums = [[T::zeros(simd); J]; I];
        let mut step = |l: usize| {
            // SAFETY: both views hold their shapes (the caller of `broadcast` checks), of which these are elements
            let (x, y) = unsafe {
                let y = b.data.get_unchecked(l * b.row_stride + j..);
                let x = a.data.get_unchecked(i * a.row_stride + l * a.col_stride..);
                (x, y.get_unchecked(..J * T::lanes::<S>()))
            };
            let (y, _) = T::split::<S>(y);
            for (r, sums) in sums.iter_mut().enumerate() {
                // SAFETY: as above, for row i + r
                let x = T::splat(simd, unsafe { *x.get_unchecked(r * a.row_stride) });
                for (sum, &y) in sums.iter_mut().zip(y) {
                    *sum = T::multiply_add(simd, x, y, *sum);
                }
            }
        };
        // the larger operand comes from memory: where it is `a`, later rows while these are multiplied for the first time
        let next = a.data.as_ptr().wrapping_add((i + ahead.max(I)) * a.row_stride);
        let pace = if a.row_stride == a.cols && j == 0 { I } else { 0 };
        let b_ahead = rows_ahead::<T::Of<S>>(J);
        for l in 0..a.cols {
            prefetch(next.wrapping_add(l * pace));
            if I <= DOT_ROWS {
                let later = b.data.as_ptr().wrapping_add((l + b_ahead) * b.row_stride + j);
                let vectors = (LINE / size_of::<T::Of<S>>()).max(1);
                (0..J).step_by(vectors).for_each(|c| prefetch(later.wrapping_add(c * T::lanes::<S>())));
            }
            step(l);
        }
        for (r, &sums) in sums.iter().enumerate() {
            // a copy to take the address of: sums that have one may be written to memory at every step
            let mut sums = sums;
            let sums = T::join::<S>(&mut sums);
            let taken = sums.len().min(b.cols - j);
            self.0.put(i + r, j, &mut sums[..taken]);
        }
    }
}

/// Rows of `a` and of `b` in one tile of dot products: eight sums hide the latency of the multiply-adds, and fit sixteen
/// registers with their operands.
const TILE: [usize; 2] = [2, 4];

struct Dots<'a, T>(Product<'a, T>);

impl<T: Real> WithSimd for Dots<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        tiles(&self, simd, [self.0.a.rows, self.0.b.rows]);
    }
}

/// Dot products of rows with rows, a tile at a time.
pub(super) trait DotTiles {
    /// Those of I rows from i on with J rows from j on.
    fn tile<S: Simd, const I: usize, const J: usize>(&self, simd: S, i: usize, j: usize);
}

/// Every tile of so many rows with so many rows.
#[inline(always)]
pub(super) fn tiles<S: Simd>(dots: &impl DotTiles, simd: S, [rows, cols]: [usize; 2]) {
    for i in (0..rows).step_by(TILE[0]) {
        for j in (0..cols).step_by(TILE[1]) {
            match (rows - i, cols - j) {
                (1, 1) => dots.tile::<S, 1, 1>(simd, i, j),
                (1, 2) => dots.tile::<S, 1, 2>(simd, i, j),
                (1, 3) => dots.tile::<S, 1, 3>(simd, i, j),
                (1, _) => dots.tile::<S, 1, 4>(simd, i, j),
                (_, 1) => dots.tile::<S, 2, 1>(simd, i, j),
                (_, 2) => dots.tile::<S, 2, 2>(simd, i, j),
                (_, 3) => dots.tile::<S, 2, 3>(simd, i, j),
                (_, _) => dots.tile::<S, 2, 4>(simd, i, j),
            }
        }
    }
}

impl<T: Real> DotTiles for Dots<'_, T> {
    #[inline(always)]
    fn tile<S: Simd, const I: usize, const J: usize>(&self, simd: S, i: usize, j: usize) {
        let Product { a, b, ahead, .. } = self.0;
        let later = j + ahead.max(J);
        let next: [_; J] = std::array::from_fn(|c| b.data.as_ptr().wrapping_add((later + c) * b.row_stride));
        let a: [_; I] = std::array::from_fn(|r| T::split::<S>(a.row(i + r)));
        let b: [_; J] = std::array::from_fn(|c| T::split::<S>(b.row(j + c)));
        let mut lanes = [[T::zeros(simd); J]; I];
        for l in 0..a[0].0.len() {
            next.iter().for_each(|row| prefetch(row.wrapping_add(l * T::lanes::<S>())));
            for r in 0..I {
                for c in 0..J {
                    lanes[r][c] = T::multiply_add(simd, a[r].0[l], b[c].0[l], lanes[r][c]);
                }
            }
        }
        for r in 0..I {
            for c in 0..J {
                let tail = a[r].1.iter().zip(b[c].1).fold(T::zero(), |sum, (&x, &z)| sum + x * z);
                self.0.put(i + r, j + c, &mut [T::total(simd, lanes[r][c]) + tail]);
            }
        }
    }
}
