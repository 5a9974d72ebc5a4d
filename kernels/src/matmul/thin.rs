//! Products `a bᵀ` where one operand has few rows, as in decoding: every row of the other is read once and multiplied
//! with all of them. A general product would copy that operand into its own layout first, which costs as much as the
//! product itself.

use super::cpu::SERIAL;
use crate::real::Real;
use crate::vector::ARCH;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

/// True where this way is the faster one: from 33 against 10 GFLOP/s for two rows to even for about thirty. One row
/// is left to `gemm`, which has a loop of its own for it.
pub fn pays(m: usize, n: usize, k: usize) -> bool {
    (2..=16).contains(&m.min(n)) && m.max(n) >= 64 && k >= 64
}

/// Rows of the longer and of the shorter operand one tile of running sums takes: eight sums hide the latency of the
/// multiply-adds, and fit sixteen registers with their operands.
const TILE: [usize; 2] = [2, 4];

/// `c = a bᵀ`, or `c += a bᵀ`.
pub fn product<T: Real>(c: &mut [T], a: &[T], b: &[T], [m, n, k]: [usize; 3], accumulate: bool, parallel: bool) {
    if n < m {
        return spread(c, a, b, [n, k], accumulate, parallel);
    }
    let mut transposed = vec![T::zero(); m * n];
    spread(&mut transposed, b, a, [m, k], false, parallel);
    for (i, c) in c.chunks_exact_mut(n).enumerate() {
        for (c, sums) in c.iter_mut().zip(transposed.chunks_exact(m)) {
            *c = if accumulate { *c + sums[i] } else { sums[i] };
        }
    }
}

/// `y = many fewᵀ` or `y += many fewᵀ`, on all threads; `few` has `rows` rows.
fn spread<T: Real>(y: &mut [T], many: &[T], few: &[T], [rows, k]: [usize; 2], accumulate: bool, parallel: bool) {
    let part = if parallel { (SERIAL / 4).div_ceil(rows * k).next_multiple_of(TILE[0]) } else { y.len() };
    let parts = y.par_chunks_mut(part * rows).zip(many.par_chunks(part * k));
    parts.for_each(|(y, many)| ARCH.dispatch(Part { y, many, few, rows, k, accumulate }));
}

struct Part<'a, T> {
    y: &'a mut [T],
    many: &'a [T],
    few: &'a [T],
    rows: usize,
    k: usize,
    accumulate: bool,
}

impl<T: Real> WithSimd for Part<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Part { y, many, few, rows, k, accumulate } = self;
        for (y, many) in y.chunks_mut(TILE[0] * rows).zip(many.chunks(TILE[0] * k)) {
            let pair = many.len() == TILE[0] * k;
            for (first, few) in (0..rows).step_by(TILE[1]).zip(few.chunks(TILE[1] * k)) {
                let count = few.len() / k;
                let sums = match (pair, count) {
                    (true, 4) => tile::<T, S, 2, 4>(simd, many, few, k),
                    (true, 3) => tile::<T, S, 2, 3>(simd, many, few, k),
                    (true, 2) => tile::<T, S, 2, 2>(simd, many, few, k),
                    (true, _) => tile::<T, S, 2, 1>(simd, many, few, k),
                    (false, 4) => tile::<T, S, 1, 4>(simd, many, few, k),
                    (false, 3) => tile::<T, S, 1, 3>(simd, many, few, k),
                    (false, 2) => tile::<T, S, 1, 2>(simd, many, few, k),
                    (false, _) => tile::<T, S, 1, 1>(simd, many, few, k),
                };
                for (y, sums) in y.chunks_exact_mut(rows).zip(&sums) {
                    for (y, &sum) in y[first..first + count].iter_mut().zip(sums) {
                        *y = if accumulate { *y + sum } else { sum };
                    }
                }
            }
        }
    }
}

/// Dot products of I rows of `many` with J rows of `few`.
#[inline(always)]
fn tile<T: Real, S: Simd, const I: usize, const J: usize>(
    simd: S,
    many: &[T],
    few: &[T],
    k: usize,
) -> [[T; TILE[1]]; TILE[0]] {
    let many: [_; I] = std::array::from_fn(|i| T::split::<S>(&many[i * k..(i + 1) * k]));
    let few: [_; J] = std::array::from_fn(|j| T::split::<S>(&few[j * k..(j + 1) * k]));
    let mut lanes = [[T::zeros(simd); J]; I];
    for l in 0..many[0].0.len() {
        for i in 0..I {
            for j in 0..J {
                lanes[i][j] = T::multiply_add(simd, many[i].0[l], few[j].0[l], lanes[i][j]);
            }
        }
    }
    let mut sums = [[T::zero(); TILE[1]]; TILE[0]];
    for i in 0..I {
        for j in 0..J {
            let tail = many[i].1.iter().zip(few[j].1).fold(T::zero(), |sum, (&x, &z)| sum + x * z);
            sums[i][j] = T::total(simd, lanes[i][j]) + tail;
        }
    }
    sums
}
