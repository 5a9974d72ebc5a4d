//! The twin. A task takes a few neighbouring rows that share their prompt: their queries, of all heads that share a
//! key/value head, make one matrix against the prompt; suffixes go row by row.

use super::{DecodeDims, DecodeRow};
use crate::product::{View, product};
use crate::real::{Real, max, simd, sum};
use rayon::prelude::*;
use std::ops::Range;

/// Rows of one task at most: enough to read a prompt rarely, few enough that every thread gets some.
const ROWS: usize = 16;

/// Keys and values of the prompts, and of the slots.
pub(super) struct Caches<'a, T> {
    pub prompt: (&'a [T], &'a [T]),
    pub suffix: (&'a [T], &'a [T]),
}

pub(super) fn decode<T: Real>(q: &[T], caches: &Caches<T>, rows: &[DecodeRow], dims: DecodeDims, out: &mut [T]) {
    let width = dims.heads.q_width();
    let mut tasks = vec![];
    let (mut q, mut out) = (q, out);
    let same_prompt = |a: &DecodeRow, b: &DecodeRow| a.prompt() == b.prompt();
    for rows in rows.chunk_by(same_prompt).flat_map(|run| run.chunks(ROWS)) {
        let (q_here, q_rest) = q.split_at(rows.len() * width);
        let (out_here, out_rest) = out.split_at_mut(rows.len() * width);
        tasks.push((rows, q_here, out_here));
        (q, out) = (q_rest, out_rest);
    }
    let tasks = tasks.into_par_iter().with_max_len(1);
    tasks.for_each(|(rows, q, out)| shared_prompt(q, caches, rows, dims, out));
}

/// Tokens `tokens` of key/value head `head` of `x` (tokens, K, D).
fn kv_head<'x, T>(x: &'x [T], dims: DecodeDims, head: usize, tokens: &Range<usize>) -> View<'x, T> {
    let (dim, stride) = (dims.heads.dim, dims.heads.kv_width());
    let start = (tokens.start * stride + head * dim).min(x.len());
    View::new(&x[start..], tokens.len(), dim, stride)
}

/// Rows with one prompt.
fn shared_prompt<T: Real>(q: &[T], caches: &Caches<T>, rows: &[DecodeRow], dims: DecodeDims, out: &mut [T]) {
    let (dim, group, scale) = (dims.heads.dim, dims.heads.group(), T::of(dims.scale));
    let (prompt, longest) = (rows[0].prompt(), rows.iter().map(|r| r.suffix_len as usize).max().unwrap_or(0));
    // one line of scores per row and query head of the group: prompt, then suffix
    let stride = prompt.len() + longest;
    let mut scores = vec![T::zero(); rows.len() * group * stride];
    let mut queries = vec![T::zero(); rows.len() * group * dim];
    let mut sums = queries.clone();
    for kv in 0..dims.heads.kv {
        let of_row =
            |r: usize| (r * dims.heads.query + kv * group) * dim..(r * dims.heads.query + (kv + 1) * group) * dim;
        for (r, queries) in queries.chunks_exact_mut((group * dim).max(1)).enumerate() {
            queries.copy_from_slice(&q[of_row(r)]);
        }
        let lines = View::new(&queries, rows.len() * group, dim, dim);
        product((&mut scores, stride), false, scale, lines, kv_head(caches.prompt.0, dims, kv, &prompt).t());
        for (r, row) in rows.iter().enumerate() {
            let suffix = row.suffix(dims.capacity);
            let lines = View::new(&queries[r * group * dim..], group, dim, dim);
            let scores = &mut scores[r * group * stride + prompt.len()..];
            product((scores, stride), false, scale, lines, kv_head(caches.suffix.0, dims, kv, &suffix).t());
        }
        simd(
            #[inline(always)]
            || {
                for (line, scores) in scores.chunks_exact_mut(stride).enumerate() {
                    softmax(&mut scores[..prompt.len() + rows[line / group].suffix_len as usize]);
                }
            },
        );
        let weights = View::new(&scores, rows.len() * group, prompt.len(), stride);
        product((&mut sums, dim), false, T::one(), weights, kv_head(caches.prompt.1, dims, kv, &prompt));
        for (r, row) in rows.iter().enumerate() {
            let suffix = row.suffix(dims.capacity);
            let weights = View::new(&scores[r * group * stride + prompt.len()..], group, suffix.len(), stride);
            let sums = &mut sums[r * group * dim..];
            product((&mut *sums, dim), true, T::one(), weights, kv_head(caches.suffix.1, dims, kv, &suffix));
            out[of_row(r)].copy_from_slice(&sums[..group * dim]);
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
