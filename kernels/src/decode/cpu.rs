//! The twin. A task takes a few neighbouring rows that share their prompt, and all heads or those of one key/value head: their
//! queries, of heads that share a key/value head, make one matrix against the prompt; suffixes go row by row.

use super::{DecodeDims, DecodeRow};
use crate::narrow::Stored;
use crate::pieces::pieces;
use crate::product::{DOT_ROWS, Target, View, apart, product};
use crate::real::{Real, max, simd, sum};
use rayon::prelude::*;
use std::ops::Range;

/// Rows of one task at most: enough to read a prompt rarely, few enough that every thread gets some.
const ROWS: usize = 16;

/// Tasks that keep a thread busy while another is held up: with fewer, heads are tasks of their own.
const TASKS_PER_THREAD: usize = 2;

/// Keys of a prompt taken at a time.
const TILE: usize = 256;

/// Keys and values of the prompts, and of the slots.
pub(super) struct Caches<'a, C> {
    pub prompt: (&'a [C], &'a [C]),
    pub suffix: (&'a [C], &'a [C]),
}

pub(super) fn decode<T: Real, C: Stored<T>>(
    q: &[T],
    caches: &Caches<C>,
    rows: &[DecodeRow],
    dims: DecodeDims,
    out: &mut [T],
) {
    let (width, kv_heads) = (dims.heads.q_width(), dims.heads.kv);
    let out = Target::new(out, [rows.len(), width], [width, 1]);
    let same_prompt = |a: &DecodeRow, b: &DecodeRow| a.prompt() == b.prompt();
    let runs: Vec<&[DecodeRow]> = rows.chunk_by(same_prompt).flat_map(|run| run.chunks(ROWS)).collect();
    let at_once = if runs.len() < TASKS_PER_THREAD * rayon::current_num_threads() { 1 } else { kv_heads };
    let (mut tasks, mut first) = (vec![], 0);
    for run in runs {
        let here = (&q[first * width..(first + run.len()) * width], out.at(first, 0));
        tasks.extend(pieces(0..kv_heads, at_once).map(|kv_heads| (run, here, kv_heads)));
        first += run.len();
    }
    let tasks = tasks.into_par_iter().with_max_len(1);
    tasks.for_each(|(rows, (q, out), kv_heads)| {
        // SAFETY: tasks have rows or heads of their own, and `out` is borrowed here alone
        unsafe { shared_prompt(q, caches, rows, dims, kv_heads, out) }
    });
}

/// Tokens `tokens` of key/value head `head` of `x` (tokens, K, D).
fn kv_head<'x, T>(x: &'x [T], dims: DecodeDims, head: usize, tokens: &Range<usize>) -> View<'x, T> {
    let (dim, stride) = (dims.heads.dim, dims.heads.kv_width());
    let start = (tokens.start * stride + head * dim).min(x.len());
    View::new(&x[start..], tokens.len(), dim, stride)
}

/// Rows with one prompt, and some key/value heads.
///
/// Safety: `out` has their places, and nothing else touches those meanwhile.
unsafe fn shared_prompt<T: Real, C: Stored<T>>(
    q: &[T],
    caches: &Caches<C>,
    rows: &[DecodeRow],
    dims: DecodeDims,
    kv_heads: Range<usize>,
    out: Target<T>,
) {
    let (dim, group, scale) = (dims.heads.dim, dims.heads.group(), T::of(dims.scale));
    let (prompt, longest) = (rows[0].prompt(), rows.iter().map(|r| r.suffix_len as usize).max().unwrap_or(0));
    // one line of scores per row and query head of the group: prompt, then suffix
    let stride = prompt.len() + longest;
    let mut scores = vec![T::zero(); rows.len() * group * stride];
    let mut queries = vec![T::zero(); rows.len() * group * dim];
    let mut sums = queries.clone();
    let (mut room, mut opened) = (vec![], vec![]);
    let at_once = (C::AT_ONCE / dim.max(1)).max(1);
    for kv in kv_heads {
        let of_row =
            |r: usize| (r * dims.heads.query + kv * group) * dim..(r * dims.heads.query + (kv + 1) * group) * dim;
        for (r, queries) in queries.chunks_exact_mut((group * dim).max(1)).enumerate() {
            queries.copy_from_slice(&q[of_row(r)]);
        }
        let lines = View::new(&queries, rows.len() * group, dim, dim);
        for keys in pieces(prompt.clone(), TILE.min(at_once)) {
            let scores = &mut scores[keys.start - prompt.start..];
            let k = C::open(kv_head(caches.prompt.0, dims, kv, &keys), &mut opened);
            // few lines go along the keys, more go across them
            let k = if lines.height() > DOT_ROWS { apart(k, &mut room) } else { k };
            product((scores, stride), false, scale, lines, k.t());
        }
        for (r, row) in rows.iter().enumerate() {
            let suffix = row.suffix(dims.capacity);
            let lines = View::new(&queries[r * group * dim..], group, dim, dim);
            let scores = &mut scores[r * group * stride + prompt.len()..];
            for keys in pieces(suffix.clone(), at_once) {
                let k = C::open(kv_head(caches.suffix.0, dims, kv, &keys), &mut opened);
                product((&mut scores[keys.start - suffix.start..], stride), false, scale, lines, k.t());
            }
        }
        simd(
            #[inline(always)]
            || {
                for (line, scores) in scores.chunks_exact_mut(stride).enumerate() {
                    softmax(&mut scores[..prompt.len() + rows[line / group].suffix_len as usize]);
                }
            },
        );
        if prompt.is_empty() {
            sums.fill(T::zero());
        }
        for values in pieces(prompt.clone(), at_once) {
            let v = C::open(kv_head(caches.prompt.1, dims, kv, &values), &mut opened);
            let weights = View::new(&scores[values.start - prompt.start..], rows.len() * group, values.len(), stride);
            product((&mut sums, dim), values.start > prompt.start, T::one(), weights, v);
        }
        for (r, row) in rows.iter().enumerate() {
            let suffix = row.suffix(dims.capacity);
            let sums = &mut sums[r * group * dim..];
            for values in pieces(suffix.clone(), at_once) {
                let v = C::open(kv_head(caches.suffix.1, dims, kv, &values), &mut opened);
                let start = r * group * stride + prompt.len() + values.start - suffix.start;
                let weights = View::new(&scores[start..], group, values.len(), stride);
                product((&mut *sums, dim), true, T::one(), weights, v);
            }
            // SAFETY: the caller vouches for it
            unsafe { out.put(r, kv * group * dim, &sums[..group * dim], false) };
        }
    }
}

#[inline(always)]
fn softmax<T: Real>(x: &mut [T]) {
    let largest = max(x);
    x.iter_mut().for_each(|x| *x = (*x - largest).fast_exp());
    let scale = T::one() / sum(x);
    x.iter_mut().for_each(|x| *x *= scale);
}
