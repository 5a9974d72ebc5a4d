//! The CPU twin: the `gemm` crate over blocks of c that threads share, or a way of its own where one operand has few rows.

use super::{Layout, Matmul, thin};
use crate::narrow::Stored;
use crate::pieces::pieces;
use crate::product::{Target, View, collide, packed_into};
use crate::real::Real;
use rayon::prelude::*;
use std::ops::Range;

/// Multiply-adds below which a product stays on one thread.
const SERIAL: usize = 1 << 20;
/// Multiply-adds of a block of c at least.
const BLOCK: usize = SERIAL / 4;
/// Blocks per thread: more than one, so that a thread that is held up does not hold up all.
const BLOCKS_PER_THREAD: usize = 2;
/// Sums over rows of a transposed operand are made in pieces of this many rows: those rows are far apart, and the
/// piece stays in the cache between its uses. 132 instead of 115 GFLOP/s for (4096, 256, 2048) on one core.
const TRANSPOSED_ROWS: usize = 256;

pub fn matmul<T: Real>(c: &mut [T], a: &[T], b: &[T], spec: &Matmul, accumulate: bool) {
    let Matmul { batch, m, n, k, .. } = *spec;
    if k == 0 {
        return empty(c, accumulate);
    }
    let work = m * n * k;
    let one = |i: usize, c: &mut [T], parallel: bool| {
        let (a, b) = (&a[i * m * k..(i + 1) * m * k], &b[i * k * n..(i + 1) * k * n]);
        product(c, a, b, spec, accumulate, parallel)
    };
    if batch > 1 && work < SERIAL {
        let grain = (SERIAL / work).max(1);
        c.par_chunks_mut(m * n).with_min_len(grain).enumerate().for_each(|(i, c)| one(i, c, false));
    } else {
        c.chunks_mut(m * n).enumerate().for_each(|(i, c)| one(i, c, work >= SERIAL));
    }
}

/// Sums of no terms.
fn empty<T: Real>(c: &mut [T], accumulate: bool) {
    if !accumulate {
        c.fill(T::zero());
    }
}

/// `c = a bᵀ`, or `c += a bᵀ`, where `b` is stored in two bytes an element.
pub fn narrow<W: Stored<f32> + Send>(c: &mut [f32], a: &[f32], b: &[W], sizes: [usize; 3], accumulate: bool) {
    let [m, n, k] = sizes;
    if k == 0 {
        return empty(c, accumulate);
    }
    if m == 1 || m <= n && thin::pays(m, n, k) {
        return thin::each(a, vec![(b, c)], [m, k], accumulate);
    }
    let (a, b, c) = (View::new(a, m, k, k), View::new(b, n, k, k), Target::new(c, [m, n], [n, 1]));
    blockwise(c, a, b.t(), COPIED, accumulate, m * n * k >= SERIAL)
}

fn product<T: Real>(c: &mut [T], a: &[T], b: &[T], spec: &Matmul, accumulate: bool, parallel: bool) {
    let Matmul { m, n, k, layout, .. } = *spec;
    if layout == Layout::Nt && thin::pays(m, n, k) {
        return thin::product(c, a, b, [m, n, k], accumulate);
    }
    let a = if layout == Layout::Tn { View::new(a, k, m, m).t() } else { View::new(a, m, k, k) };
    let b = if layout == Layout::Nt { View::new(b, n, k, k).t() } else { View::new(b, k, n, n) };
    let steps = match layout {
        Layout::Tn => Steps { terms: TRANSPOSED_ROWS, columns: n, copies: false },
        Layout::Nt if collide::<T>(k) => COPIED,
        _ => Steps { terms: k, columns: n, copies: false },
    };
    blockwise(Target::new(c, [m, n], [n, 1]), a, b, steps, accumulate, parallel);
}

/// How much of `b` is taken at a time.
struct Steps {
    terms: usize,
    columns: usize,
    /// True if its columns, which are consecutive elements, are copied before `gemm` packs them across: widened, or kept from
    /// colliding.
    copies: bool,
}

const COPIED: Steps = Steps { terms: 512, columns: 2048, copies: true };

/// `c = a b`, or `c += a b`, in blocks of c.
fn blockwise<T: Real, W: Stored<T>>(
    c: Target<T>,
    a: View<T>,
    b: View<W>,
    steps: Steps,
    accumulate: bool,
    parallel: bool,
) {
    let (m, n, k) = (a.height(), b.width(), a.width());
    let blocks = if parallel { blocks(m, n, k) } else { vec![(0..m, 0..n)] };
    blocks.into_par_iter().with_max_len(1).for_each_init(Vec::new, |room, (rows, cols)| {
        for cols in pieces(cols, steps.columns) {
            for terms in pieces(0..k, steps.terms) {
                let (c, keep) = (c.at(rows.start, cols.start), accumulate || terms.start > 0);
                let (a, b) = (a.rows(rows.clone()).cols(terms.clone()), b.rows(terms).cols(cols.clone()));
                let b = if steps.copies { W::copied(b.t(), room).t() } else { W::open(b, room) };
                // SAFETY: blocks have no element of c in common, and c is borrowed here alone
                unsafe { packed_into(c, keep, T::one(), a, b) };
            }
        }
    });
}

/// Splits c (m, n) into blocks, as square as they come, until every thread has its share.
fn blocks(m: usize, n: usize, k: usize) -> Vec<(Range<usize>, Range<usize>)> {
    const STEP: usize = 32;
    let wanted = BLOCKS_PER_THREAD * rayon::current_num_threads();
    let (mut rows, mut cols) = (m, n);
    while m.div_ceil(rows) * n.div_ceil(cols) < wanted && rows * cols * k >= 2 * BLOCK && rows.max(cols) > STEP {
        let longer = if rows >= cols { &mut rows } else { &mut cols };
        *longer = longer.div_ceil(2).next_multiple_of(STEP);
    }
    pieces(0..m, rows).flat_map(|r| pieces(0..n, cols).map(move |c| (r.clone(), c))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_every_element_once() {
        for (m, n, k) in [(1, 1, 1), (2048, 256, 256), (100, 3000, 64), (1, 100_000, 512), (333, 77, 4096)] {
            let mut seen = vec![0u8; m * n];
            for (rows, cols) in blocks(m, n, k) {
                for r in rows {
                    seen[r * n + cols.start..r * n + cols.end].iter_mut().for_each(|s| *s += 1);
                }
            }
            assert!(seen.iter().all(|&s| s == 1), "({m}, {n}, {k})");
        }
    }
}
