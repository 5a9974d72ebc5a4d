//! Dot products of a few rows of f32 with rows of bf16, of which two are read as one word: a shift makes an f32 of the lower, a
//! mask of the upper. What is read is half of what f32 would be, and nothing is written on the way.

use super::tile::{DotTiles, tiles};
use super::{Target, View};
use crate::vector::{ARCH, Vector, prefetch, rows_ahead};
use half::bf16;
use pulp::{Simd, WithSimd};
use std::ops::Range;

/// A few rows apart: of each the elements at even places, then those at odd ones.
pub(crate) struct Pairs {
    data: Vec<f32>,
    rows: usize,
    words: usize,
}

impl Pairs {
    /// Of rows of whole pairs.
    pub(crate) fn new(few: View<f32>) -> Pairs {
        let (rows, words) = (few.height(), few.width() / 2);
        let halves = (0..rows).flat_map(|r| [(r, 0), (r, 1)]);
        let data = halves.flat_map(|(r, first)| few.row(r)[first..].iter().step_by(2).copied()).collect();
        Pairs { data, rows, words }
    }

    fn half(&self, row: usize, odd: usize, words: &Range<usize>) -> &[f32] {
        &self.data[(2 * row + odd) * self.words..][words.clone()]
    }
}

/// True if all rows are whole words.
pub(crate) fn are_words(many: View<bf16>) -> bool {
    let first_is = || bytemuck::try_cast_slice::<bf16, u32>(many.row(0)).is_ok();
    many.height() == 0 || many.stride().is_multiple_of(2) && first_is()
}

/// `y = few manyᵀ`, or `y += few manyᵀ`, over some of the words of all rows.
///
/// Safety: `y` has a place of its own for every element of the result, and nothing else touches those meanwhile.
pub(crate) unsafe fn dots(y: Target<f32>, keep: bool, few: &Pairs, words: Range<usize>, many: View<bf16>) {
    assert!(many.fits() && words.end <= few.words && many.width() == 2 * words.len(), "invariant: operands agree");
    ARCH.dispatch(Dots { y, keep, few, words, many, ahead: rows_ahead::<bf16>(many.width()) });
}

struct Dots<'a> {
    y: Target<'a, f32>,
    keep: bool,
    few: &'a Pairs,
    words: Range<usize>,
    many: View<'a, bf16>,
    /// Rows of `many` between those that are multiplied and those that are prefetched, if that is more than a tile's.
    ahead: usize,
}

impl WithSimd for Dots<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        tiles(&self, simd, [self.few.rows, self.many.height()]);
    }
}

impl DotTiles for Dots<'_> {
    #[inline(always)]
    fn tile<S: Simd, const I: usize, const J: usize>(&self, simd: S, i: usize, j: usize) {
        let words: [&[u32]; J] = std::array::from_fn(|c| bytemuck::cast_slice(self.many.row(j + c)));
        let next = words.map(|row| row.as_ptr().wrapping_add(self.ahead.max(J) * self.many.stride() / 2));
        let split = words.map(S::as_simd_u32s);
        let even: [_; I] = std::array::from_fn(|r| f32::split::<S>(self.few.half(i + r, 0, &self.words)));
        let odd: [_; I] = std::array::from_fn(|r| f32::split::<S>(self.few.half(i + r, 1, &self.words)));
        let (sixteen, upper) = (simd.splat_u32s(16), simd.splat_u32s(0xffff_0000));
        let mut sums = [[f32::zeros(simd); J]; I];
        for l in 0..split[0].0.len() {
            next.iter().for_each(|row| prefetch(row.wrapping_add(l * f32::lanes::<S>())));
            for c in 0..J {
                let word = split[c].0[l];
                let first = simd.transmute_f32s_u32s(simd.wrapping_dyn_shl_u32s(word, sixteen));
                let second = simd.transmute_f32s_u32s(simd.and_u32s(word, upper));
                for r in 0..I {
                    let sum = f32::multiply_add(simd, even[r].0[l], first, sums[r][c]);
                    sums[r][c] = f32::multiply_add(simd, odd[r].0[l], second, sum);
                }
            }
        }
        for r in 0..I {
            for c in 0..J {
                let rest = split[c].1.iter().zip(even[r].1.iter().zip(odd[r].1));
                let tail = rest.fold(0.0, |sum, (&word, (&a, &b))| {
                    sum + a * f32::from_bits(word << 16) + b * f32::from_bits(word & 0xffff_0000)
                });
                let sum = f32::total(simd, sums[r][c]) + tail;
                // SAFETY: tiles lie inside the result, for whose places the caller of `dots` vouches
                unsafe { self.y.put(i + r, j + c, &[sum], self.keep) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every tile, with whole vectors and rests, in parts, and rows that start between words.
    #[test]
    fn pairs_give_the_plain_product() {
        let numbers = |n: usize| (0..n).map(|i| ((i * i + 3 * i) % 17) as f32 - 8.0).collect::<Vec<f32>>();
        for (few, many, width) in [(1, 1, 2), (1, 9, 34), (2, 6, 64), (3, 7, 130), (4, 4, 96)] {
            let a = numbers(few * width);
            for (stride, first) in [(width, 0), (width + 2, 0), (width, 1), (width + 1, 0)] {
                let b: Vec<bf16> = numbers(first + many * stride).into_iter().map(bf16::from_f32).collect();
                let view = View::new(&b[first..], many, width, stride);
                // a row of bf16 that lies at an odd place, or all of them in turn
                let words = first == 0 && stride % 2 == 0;
                assert_eq!(are_words(view), words, "{few} {many} {width} {stride} {first}");
                if !words {
                    continue;
                }
                let pairs = Pairs::new(View::new(&a, few, width, width));
                let mut y = vec![1.0f32; few * many];
                let middle = width / 4;
                for words in [0..middle, middle..width / 2] {
                    let target = Target::new(&mut y, [few, many], [many, 1]);
                    // SAFETY: y is used here alone
                    unsafe { dots(target, true, &pairs, words.clone(), view.cols(2 * words.start..2 * words.end)) };
                }
                for (i, j) in (0..few).flat_map(|i| (0..many).map(move |j| (i, j))) {
                    let sum: f32 = (0..width).map(|l| a[i * width + l] * view.at(j, l).to_f32()).sum();
                    assert_eq!(y[i * many + j], 1.0 + sum, "({few}, {many}, {width}) [{i}, {j}]");
                }
            }
        }
    }
}
