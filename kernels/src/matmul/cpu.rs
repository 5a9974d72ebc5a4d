//! The CPU twin: the `gemm` crate over blocks of c that threads share, or dot products where one operand has few rows.

use super::{Layout, Matmul, thin};
use crate::real::Real;
use gemm::Parallelism;
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
        if !accumulate {
            c.fill(T::zero());
        }
        return;
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

fn product<T: Real>(c: &mut [T], a: &[T], b: &[T], spec: &Matmul, accumulate: bool, parallel: bool) {
    let Matmul { m, n, k, layout, .. } = *spec;
    if layout == Layout::Nt && thin::pays(m, n, k) {
        return thin::product(c, a, b, [m, n, k], accumulate);
    }
    let product = Product::new(c, a, b, spec, accumulate);
    let blocks = if parallel { blocks(m, n, k) } else { vec![(0..m, 0..n)] };
    blocks.into_par_iter().with_max_len(1).for_each(|(rows, cols)| product.block(rows, cols));
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
    let pieces = |n: usize, step: usize| (0..n).step_by(step).map(move |start| start..(start + step).min(n));
    pieces(m, rows).flat_map(|r| pieces(n, cols).map(move |c| (r.clone(), c))).collect()
}

/// A product whose blocks threads compute side by side.
struct Product<'a, T> {
    c: *mut T,
    a: &'a [T],
    b: &'a [T],
    spec: &'a Matmul,
    accumulate: bool,
    /// Holds c borrowed as long as blocks are written.
    _c: std::marker::PhantomData<&'a mut [T]>,
}

// SAFETY: `block` writes the elements of c in its range only, and `product` gives every thread another range.
unsafe impl<T: Real> Sync for Product<'_, T> {}

impl<'a, T: Real> Product<'a, T> {
    fn new(c: &'a mut [T], a: &'a [T], b: &'a [T], spec: &'a Matmul, accumulate: bool) -> Product<'a, T> {
        let Matmul { m, n, k, .. } = *spec;
        assert!(c.len() == m * n && a.len() == m * k && b.len() == k * n, "invariant: operands have their sizes");
        Product { c: c.as_mut_ptr(), a, b, spec, accumulate, _c: std::marker::PhantomData }
    }

    /// Computes rows `rows` and columns `cols` of c, which are in range.
    fn block(&self, rows: Range<usize>, cols: Range<usize>) {
        let Matmul { m, n, k, layout, .. } = *self.spec;
        // elements between columns and between rows
        let (a_cols, a_rows) = if layout == Layout::Tn { (m, 1) } else { (1, k) };
        let (b_cols, b_rows) = if layout == Layout::Nt { (k, 1) } else { (1, n) };
        let step = if layout == Layout::Tn { TRANSPOSED_ROWS } else { k };
        for start in (0..k).step_by(step) {
            let accumulate = self.accumulate || start > 0;
            let a = &self.a[rows.start * a_rows + start * a_cols..];
            let b = &self.b[start * b_rows + cols.start * b_cols..];
            // SAFETY: `new` checked that operands of these strides have all elements up to (m, n, k), the ranges lie
            // within those, and no other block has an element of c in common with this one.
            unsafe {
                gemm::gemm(
                    rows.len(),
                    cols.len(),
                    step.min(k - start),
                    self.c.add(rows.start * n + cols.start),
                    1,
                    n as isize,
                    accumulate,
                    a.as_ptr(),
                    a_cols as isize,
                    a_rows as isize,
                    b.as_ptr(),
                    b_cols as isize,
                    b_rows as isize,
                    T::one(),
                    T::one(),
                    false,
                    false,
                    false,
                    Parallelism::None,
                );
            }
        }
    }
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
