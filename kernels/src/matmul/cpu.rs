//! The CPU twin: the `gemm` crate, or dot products where one operand has few rows.

use super::{Layout, Matmul, thin};
use crate::real::Real;
use gemm::Parallelism;
use rayon::prelude::*;

/// Multiply-adds below which a product stays on one thread.
pub const SERIAL: usize = 1 << 20;

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
    if layout == Layout::Nt && m.min(n) == 1 {
        let (few, many) = if m == 1 { (a, b) } else { (b, a) };
        return vector(c, few, many, k, accumulate, parallel);
    }
    if layout == Layout::Nt && m.min(n) <= thin::ROWS {
        return thin::product(c, a, b, [m, n, k], accumulate, parallel);
    }
    let threads = if parallel { Parallelism::Rayon(rayon::current_num_threads()) } else { Parallelism::None };
    gemm(c, a, b, spec, accumulate, threads);
}

/// `c = many x`: `gemm` has its own loop for it, which reads the matrix once; its rows are split over threads.
fn vector<T: Real>(c: &mut [T], x: &[T], many: &[T], k: usize, accumulate: bool, parallel: bool) {
    let part = if parallel { (SERIAL / 4).div_ceil(k) } else { c.len() };
    c.par_chunks_mut(part).zip(many.par_chunks(part * k)).for_each(|(c, many)| {
        let spec = Matmul::one(Layout::Nt, 1, c.len(), k);
        gemm(c, x, many, &spec, accumulate, Parallelism::None);
    });
}

fn gemm<T: Real>(c: &mut [T], a: &[T], b: &[T], spec: &Matmul, accumulate: bool, threads: Parallelism) {
    let Matmul { m, n, k, layout, .. } = *spec;
    assert!(c.len() == m * n && a.len() == m * k && b.len() == k * n, "invariant: operands have their sizes");
    // strides between columns and between rows
    let (a_cols, a_rows) = if layout == Layout::Tn { (m, 1) } else { (1, k) };
    let (b_cols, b_rows) = if layout == Layout::Nt { (k, 1) } else { (1, n) };
    let (a_cols, a_rows, b_cols, b_rows) = (a_cols as isize, a_rows as isize, b_cols as isize, b_rows as isize);
    let (to, from, with) = (c.as_mut_ptr(), a.as_ptr(), b.as_ptr());
    let one = T::one();
    // SAFETY: the strides keep every index below the lengths just checked, and c is borrowed mutably, so that it
    // overlaps neither operand.
    unsafe {
        gemm::gemm(
            m, n, k, to, 1, n as isize, accumulate, from, a_cols, a_rows, with, b_cols, b_rows, one, one, false, false,
            false, threads,
        );
    }
}
