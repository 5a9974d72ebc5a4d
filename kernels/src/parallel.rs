//! How CPU twins spread rows over threads.

use crate::real::simd;
use rayon::prelude::*;

/// Elements below which splitting costs more than it saves.
const SERIAL: usize = 8 << 10;

/// Rows one task takes at least, where one row is `work` elements read or written.
fn grain(work: usize) -> usize {
    (SERIAL / work.max(1)).max(1)
}

/// Calls `f(row, y)` for every row of `y` (rows, cols), in parallel, compiled for the widest vectors. `work` is about how
/// many elements a row reads.
pub(crate) fn rows<T: Send>(work: usize, y: &mut [T], cols: usize, f: impl Fn(usize, &mut [T]) + Sync + Send) {
    if cols == 0 {
        return;
    }
    let grain = grain(work);
    y.par_chunks_mut(cols * grain).enumerate().for_each(|(block, ys)| {
        simd(
            #[inline(always)]
            || {
                for (i, y) in ys.chunks_exact_mut(cols).enumerate() {
                    f(block * grain + i, y);
                }
            },
        )
    });
}

/// As [`rows`] for two outputs with the same number of rows.
pub(crate) fn rows2<T: Send, U: Send>(
    work: usize,
    (y, y_cols): (&mut [T], usize),
    (z, z_cols): (&mut [U], usize),
    f: impl Fn(usize, &mut [T], &mut [U]) + Sync + Send,
) {
    if y_cols == 0 || z_cols == 0 {
        return;
    }
    let grain = grain(work);
    let blocks = y.par_chunks_mut(y_cols * grain).zip(z.par_chunks_mut(z_cols * grain));
    blocks.enumerate().for_each(|(block, (ys, zs))| {
        simd(
            #[inline(always)]
            || {
                for (i, (y, z)) in ys.chunks_exact_mut(y_cols).zip(zs.chunks_exact_mut(z_cols)).enumerate() {
                    f(block * grain + i, y, z);
                }
            },
        )
    });
}

/// As [`rows`] for three outputs with the same number of rows.
pub(crate) fn rows3<T: Send, U: Send, V: Send>(
    work: usize,
    (x, x_cols): (&mut [T], usize),
    (y, y_cols): (&mut [U], usize),
    (z, z_cols): (&mut [V], usize),
    f: impl Fn(usize, &mut [T], &mut [U], &mut [V]) + Sync + Send,
) {
    if x_cols == 0 || y_cols == 0 || z_cols == 0 {
        return;
    }
    let grain = grain(work);
    let blocks = x.par_chunks_mut(x_cols * grain).zip(y.par_chunks_mut(y_cols * grain));
    blocks.zip(z.par_chunks_mut(z_cols * grain)).enumerate().for_each(|(block, ((xs, ys), zs))| {
        simd(
            #[inline(always)]
            || {
                let rows = xs.chunks_exact_mut(x_cols).zip(ys.chunks_exact_mut(y_cols));
                for (i, ((x, y), z)) in rows.zip(zs.chunks_exact_mut(z_cols)).enumerate() {
                    f(block * grain + i, x, y, z);
                }
            },
        )
    });
}

/// Splits `y` into blocks of elements for element-wise work: `f(start, block)`.
pub(crate) fn blocks<T: Send>(y: &mut [T], f: impl Fn(usize, &mut [T]) + Sync + Send) {
    y.par_chunks_mut(SERIAL).enumerate().for_each(|(block, ys)| {
        simd(
            #[inline(always)]
            || f(block * SERIAL, ys),
        )
    });
}

/// As [`blocks`] for several outputs of one length.
pub(crate) fn blocks_of<T: Send, const N: usize>(
    mut ys: [&mut [T]; N],
    f: impl Fn(usize, [&mut [T]; N]) + Sync + Send,
) {
    let mut blocks = vec![];
    while !ys[0].is_empty() {
        blocks.push(ys.each_mut().map(|y| {
            let size = y.len().min(SERIAL);
            let (block, rest) = std::mem::take(y).split_at_mut(size);
            *y = rest;
            block
        }));
    }
    blocks.into_par_iter().enumerate().for_each(|(block, ys)| {
        simd(
            #[inline(always)]
            || f(block * SERIAL, ys),
        )
    });
}
