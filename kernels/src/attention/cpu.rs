//! The twin: blocks of rows by blocks of keys, products by the GEMM crate, rows of scores vectorised between them.
//!
//! A task owns the output rows of one block and all heads of them, so that nothing is shared between tasks.

use super::Heads;
use super::segments::{Block, Segments};
use crate::device::host::HostMemory;
use crate::product::{View, product};
use crate::real::{Real, dot, max, simd, sum};
use rayon::prelude::*;
use std::ops::Range;

/// Rows a task owns: queries for `out` and `dq`, keys for `dk` and `dv`.
const ROWS: usize = 64;
/// Rows of the other side taken at a time: with [`ROWS`] it makes scores that stay in the second-level cache.
const TILE: usize = 256;

/// What every pass reads.
pub(super) struct Inputs<'a, T> {
    pub q: &'a [T],
    pub k: &'a [T],
    pub v: &'a [T],
    pub segments: &'a Segments,
    pub heads: Heads,
    pub scale: T,
}

impl<T: Real> Inputs<'_, T> {
    /// Rows `rows` of head `head` of `x` (T, heads, D).
    fn head<'x>(&self, x: &'x [T], heads: usize, head: usize, rows: &Range<usize>) -> View<'x, T> {
        let stride = heads * self.heads.dim;
        View::new(&x[rows.start * stride + head * self.heads.dim..], rows.len(), self.heads.dim, stride)
    }

    fn query_head<'x>(&self, x: &'x [T], head: usize, rows: &Range<usize>) -> View<'x, T> {
        self.head(x, self.heads.query, head, rows)
    }

    fn kv_head<'x>(&self, x: &'x [T], head: usize, rows: &Range<usize>) -> View<'x, T> {
        self.head(x, self.heads.kv, head, rows)
    }

    /// The keys that some query of `block` sees, in tiles.
    fn key_tiles(&self, block: &Block) -> Vec<Range<usize>> {
        let segment = &self.segments.list()[block.segment];
        let mut all = tiles(segment.prefix());
        all.extend(tiles(segment.tokens().start..block.rows.end));
        all
    }
}

fn tiles(range: Range<usize>) -> Vec<Range<usize>> {
    let end = range.end;
    range.step_by(TILE).map(|start| start..(start + TILE).min(end)).collect()
}

/// How many of the keys `keys` the query at `token` sees: those up to itself. Keys of a prefix all come before it.
fn visible(token: usize, keys: &Range<usize>) -> usize {
    (token + 1).saturating_sub(keys.start).min(keys.len())
}

/// Consecutive pieces of `y` of these lengths.
fn carve<T>(mut y: &mut [T], lengths: impl Iterator<Item = usize>) -> Vec<&mut [T]> {
    let mut pieces = vec![];
    for length in lengths {
        let (piece, rest) = y.split_at_mut(length);
        pieces.push(piece);
        y = rest;
    }
    pieces
}

/// Room for one tile of scores, recycled between tasks.
fn scratch() -> HostMemory {
    HostMemory::new(ROWS * TILE * size_of::<f64>())
}

/// The output and log-sum-exp of every query: softmax over tiles of keys, rescaled where a later tile has a larger
/// score.
pub(super) fn forward<T: Real>(x: &Inputs<T>, out: &mut [T], lse: &mut [T]) {
    let Heads { query: heads, dim, .. } = x.heads;
    let blocks = x.segments.blocks(ROWS);
    let outs = carve(out, blocks.iter().map(|b| b.rows.len() * heads * dim));
    let lses = carve(lse, blocks.iter().map(|b| b.rows.len() * heads));
    let tasks = (blocks.par_iter(), outs, lses).into_par_iter().with_max_len(1);
    tasks.for_each(|(block, out, lse)| {
        let mut memory = scratch();
        let scores: &mut [T] = bytemuck::cast_slice_mut(memory.bytes_mut());
        for head in 0..heads {
            let (mut largest, mut total) = ([T::neg_infinity(); ROWS], [T::zero(); ROWS]);
            let out = &mut out[head * dim..];
            for (i, keys) in x.key_tiles(block).iter().enumerate() {
                let (q, kv) = (x.query_head(x.q, head, &block.rows), head / x.heads.group());
                product((scores, keys.len()), false, x.scale, q, x.kv_head(x.k, kv, keys).t());
                simd(
                    #[inline(always)]
                    || {
                        for (r, p) in scores.chunks_exact_mut(keys.len()).take(block.rows.len()).enumerate() {
                            let row = if i == 0 { &mut [][..] } else { &mut out[r * heads * dim..][..dim] };
                            let seen = visible(block.rows.start + r, keys);
                            add_row(p, seen, &mut largest[r], &mut total[r], row);
                        }
                    },
                );
                let p = View::new(scores, block.rows.len(), keys.len(), keys.len());
                product((out, heads * dim), i > 0, T::one(), p, x.kv_head(x.v, kv, keys));
            }
            for r in 0..block.rows.len() {
                let scale = T::one() / total[r];
                out[r * heads * dim..][..dim].iter_mut().for_each(|o| *o *= scale);
                lse[r * heads + head] = largest[r] + total[r].ln();
            }
        }
    });
}

/// Turns one row of scores into exponentials relative to the largest score so far, adds them to `total`, and
/// rescales what was summed before in `total` and `out`.
#[inline(always)]
fn add_row<T: Real>(p: &mut [T], seen: usize, largest: &mut T, total: &mut T, out: &mut [T]) {
    let (seen, unseen) = p.split_at_mut(seen);
    unseen.fill(T::zero());
    let here = max(seen);
    if here > *largest || here.is_nan() {
        let rescale = (*largest - here).fast_exp();
        *largest = here;
        *total *= rescale;
        out.iter_mut().for_each(|o| *o *= rescale);
    }
    let largest = *largest;
    seen.iter_mut().for_each(|p| *p = (*p - largest).fast_exp());
    *total += sum(seen);
}

/// `p = exp(s - lse)` for the keys a query sees, 0 for the others.
#[inline(always)]
fn probabilities<T: Real>(p: &mut [T], seen: usize, lse: T) {
    let (seen, unseen) = p.split_at_mut(seen);
    unseen.fill(T::zero());
    seen.iter_mut().for_each(|p| *p = (*p - lse).fast_exp());
}

/// Gradient of the queries; returns `delta = dout·out` (T, H), which [`dkv`] needs too.
pub(super) fn dq<T: Real>(x: &Inputs<T>, out: &[T], lse: &[T], dout: &[T], dq: &mut [T]) -> Vec<T> {
    let Heads { query: heads, dim, .. } = x.heads;
    let mut delta = vec![T::zero(); lse.len()];
    let blocks = x.segments.blocks(ROWS);
    let dqs = carve(dq, blocks.iter().map(|b| b.rows.len() * heads * dim));
    let deltas = carve(&mut delta, blocks.iter().map(|b| b.rows.len() * heads));
    let tasks = (blocks.par_iter(), dqs, deltas).into_par_iter().with_max_len(1);
    tasks.for_each(|(block, dq, delta)| {
        let (mut memory, mut memory_ds) = (scratch(), scratch());
        let p: &mut [T] = bytemuck::cast_slice_mut(memory.bytes_mut());
        let ds: &mut [T] = bytemuck::cast_slice_mut(memory_ds.bytes_mut());
        let first = block.rows.start * heads;
        simd(
            #[inline(always)]
            || {
                for (r, delta) in delta.iter_mut().enumerate() {
                    let row = (first + r) * dim..(first + r + 1) * dim;
                    *delta = dot(&out[row.clone()], &dout[row]);
                }
            },
        );
        for head in 0..heads {
            let (q, kv) = (x.query_head(x.q, head, &block.rows), head / x.heads.group());
            for (i, keys) in x.key_tiles(block).iter().enumerate() {
                let n = keys.len();
                product((p, n), false, x.scale, q, x.kv_head(x.k, kv, keys).t());
                let dout = x.query_head(dout, head, &block.rows);
                product((ds, n), false, T::one(), dout, x.kv_head(x.v, kv, keys).t());
                simd(
                    #[inline(always)]
                    || {
                        let rows = p.chunks_exact_mut(n).zip(ds.chunks_exact_mut(n));
                        for (r, (p, ds)) in rows.take(block.rows.len()).enumerate() {
                            let at = r * heads + head;
                            probabilities(p, visible(block.rows.start + r, keys), lse[first + at]);
                            ds.iter_mut().zip(p).for_each(|(ds, p)| *ds = *p * (*ds - delta[at]));
                        }
                    },
                );
                let ds = View::new(ds, block.rows.len(), n, n);
                let dq = &mut dq[head * dim..];
                product((dq, heads * dim), i > 0, x.scale, ds, x.kv_head(x.k, kv, keys));
            }
        }
    });
    delta
}

/// Gradients of keys and values: each block of keys goes over all queries that see it, of its own segment and of
/// those that have it as their prefix.
pub(super) fn dkv<T: Real>(x: &Inputs<T>, lse: &[T], delta: &[T], dout: &[T], dk: &mut [T], dv: &mut [T]) {
    let Heads { query: heads, kv: kv_heads, dim } = x.heads;
    let blocks = x.segments.blocks(ROWS);
    let lengths = || blocks.iter().map(|b| b.rows.len() * kv_heads * dim);
    let (dks, dvs) = (carve(dk, lengths()), carve(dv, lengths()));
    let tasks = (blocks.par_iter(), dks, dvs).into_par_iter().with_max_len(1);
    tasks.for_each(|(block, dk, dv)| {
        let (mut memory, mut memory_ds) = (scratch(), scratch());
        let p: &mut [T] = bytemuck::cast_slice_mut(memory.bytes_mut());
        let ds: &mut [T] = bytemuck::cast_slice_mut(memory_ds.bytes_mut());
        let (keys, n) = (&block.rows, block.rows.len());
        let seen_by = x.segments.seen_by(block.segment).iter();
        let queries: Vec<_> = seen_by.flat_map(|r| tiles(r.start.max(keys.start)..r.end)).collect();
        for head in 0..heads {
            let (kv, group) = (head / x.heads.group(), head % x.heads.group());
            let (k, v) = (x.kv_head(x.k, kv, keys), x.kv_head(x.v, kv, keys));
            let dk = &mut dk[kv * dim..];
            let dv = &mut dv[kv * dim..];
            for (i, rows) in queries.iter().enumerate() {
                let (q, dout) = (x.query_head(x.q, head, rows), x.query_head(dout, head, rows));
                product((p, n), false, x.scale, q, k.t());
                product((ds, n), false, T::one(), dout, v.t());
                simd(
                    #[inline(always)]
                    || {
                        let pairs = p.chunks_exact_mut(n).zip(ds.chunks_exact_mut(n));
                        for (token, (p, ds)) in rows.clone().zip(pairs) {
                            let at = token * heads + head;
                            probabilities(p, visible(token, keys), lse[at]);
                            ds.iter_mut().zip(p).for_each(|(ds, p)| *ds = *p * (*ds - delta[at]));
                        }
                    },
                );
                let keep = group > 0 || i > 0;
                let (p, ds) = (View::new(p, rows.len(), n, n), View::new(ds, rows.len(), n, n));
                product((&mut *dv, kv_heads * dim), keep, T::one(), p.t(), dout);
                product((&mut *dk, kv_heads * dim), keep, x.scale, ds.t(), q);
            }
        }
    });
}
