//! The twin: blocks of rows by blocks of keys, products by the GEMM crate, rows of scores vectorised between them.
//!
//! Tasks write different rows or heads, so that nothing is shared between them.

use super::Heads;
use super::segments::{Block, Segments};
use crate::device::host::HostMemory;
use crate::parallel;
use crate::pieces::pieces;
use crate::product::{Target, View, apart, product, product_into};
use crate::real::{Real, dot, max, simd, sum};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::ops::Range;

/// Rows of a block: queries of the output, keys of the gradients.
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
        pieces(segment.prefix(), TILE).chain(pieces(segment.tokens().start..block.rows.end, TILE)).collect()
    }
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
        let mut room = vec![];
        for head in 0..heads {
            let (mut largest, mut total) = ([T::neg_infinity(); ROWS], [T::zero(); ROWS]);
            let out = &mut out[head * dim..];
            for (i, keys) in x.key_tiles(block).iter().enumerate() {
                let (q, kv) = (x.query_head(x.q, head, &block.rows), head / x.heads.group());
                let k = apart(x.kv_head(x.k, kv, keys), &mut room);
                product((scores, keys.len()), false, x.scale, q, k.t());
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

/// Tasks that keep the threads of a large machine busy.
const TASKS: usize = 16;
/// Parts of a family at most: each but the first has a gradient of the queries of its own, which are added up in order.
const PARTS: usize = 4;

/// Gradients of queries, keys and values. A task goes over blocks of keys of one key/value head, and for each over all
/// queries that see them: those of its own segment and of the ones that have it as their prefix, its family. Families and
/// heads share no gradient, so that the scores are computed once for all three.
pub(super) fn backward<T: Real>(x: &Inputs<T>, (out, lse): (&[T], &[T]), dout: &[T], [dq, dk, dv]: [&mut [T]; 3]) {
    let Heads { query: heads, kv: kv_heads, dim } = x.heads;
    let tokens = x.segments.tokens();
    let mut delta = vec![T::zero(); lse.len()];
    parallel::rows(dim, &mut delta, 1, |row, delta| {
        let row = row * dim..(row + 1) * dim;
        delta[0] = dot(&out[row.clone()], &dout[row]);
    });
    let mut families: BTreeMap<usize, Vec<Block>> = BTreeMap::new();
    for block in x.segments.blocks(ROWS) {
        let segment = &x.segments.list()[block.segment];
        let root = if segment.prefix_len > 0 { segment.prefix_start } else { segment.start };
        families.entry(root as usize).or_default().push(block);
    }
    let parts = (TASKS / (families.len() * kv_heads).max(1)).clamp(1, PARTS);
    let mut others = vec![vec![T::zero(); dq.len()]; parts - 1];
    dq.fill(T::zero());
    let part_dq: Vec<Target<T>> = std::iter::once(&mut *dq)
        .chain(others.iter_mut().map(Vec::as_mut_slice))
        .map(|dq| Target::new(dq, [tokens, heads * dim], [heads * dim, 1]))
        .collect();
    let [dk, dv] = [dk, dv].map(|d| Target::new(d, [tokens, kv_heads * dim], [kv_heads * dim, 1]));
    let of_family = |family| (0..kv_heads).flat_map(move |kv| (0..parts).map(move |part| (family, kv, part)));
    let tasks: Vec<(&Vec<Block>, usize, usize)> = families.values().flat_map(of_family).collect();
    tasks.into_par_iter().with_max_len(1).for_each(|(family, kv, part)| {
        let (mut memory, mut memory_ds) = (scratch(), scratch());
        let (mut k_room, mut v_room) = (vec![], vec![]);
        let p: &mut [T] = bytemuck::cast_slice_mut(memory.bytes_mut());
        let ds: &mut [T] = bytemuck::cast_slice_mut(memory_ds.bytes_mut());
        for block in family.iter().skip(part).step_by(parts) {
            let (keys, n) = (&block.rows, block.rows.len());
            let k = apart(x.kv_head(x.k, kv, keys), &mut k_room);
            let v = apart(x.kv_head(x.v, kv, keys), &mut v_room);
            let (dk, dv) = (dk.at(keys.start, kv * dim), dv.at(keys.start, kv * dim));
            let seen_by = x.segments.seen_by(block.segment).iter();
            let queries: Vec<_> = seen_by.flat_map(|r| pieces(r.start.max(keys.start)..r.end, TILE)).collect();
            let mut keep = false;
            for head in kv * x.heads.group()..(kv + 1) * x.heads.group() {
                for rows in &queries {
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
                    let (p, ds) = (View::new(p, rows.len(), n, n), View::new(ds, rows.len(), n, n));
                    let dq = part_dq[part].at(rows.start, head * dim);
                    // SAFETY: the rows are tokens of this family and the columns of heads of this key/value head, which
                    // no other task has, except for other parts, which have other keys and another dq
                    unsafe {
                        product_into(dv, keep, T::one(), p.t(), dout);
                        product_into(dk, keep, x.scale, ds.t(), q);
                        product_into(dq, true, x.scale, ds, k);
                    }
                    keep = true;
                }
            }
        }
    });
    for other in &others {
        parallel::blocks(dq, |start, dq| dq.iter_mut().zip(&other[start..]).for_each(|(dq, &other)| *dq += other));
    }
}
