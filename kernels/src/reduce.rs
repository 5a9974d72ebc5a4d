//! Sums: of all elements, of squares, of columns, and the norm of many buffers. Two passes in a fixed order, so that
//! one input always gives one result.

use crate::REDUCE_WIDTH;
use crate::buffer::{ALIGNMENT, Buffer, Dtype, Float};
use crate::device::{Access, Device, Gpu, Kernel, REDUCE, split_rows};
use crate::elementwise::add_assign;
use crate::error::{Error, Result};
use crate::pieces::pieces;
use crate::profile;
use std::ops::Range;

const SOURCES: &[&str] =
    &[include_str!("../../shaders/common/grid.wgsl"), REDUCE, include_str!("../../shaders/reduce.wgsl")];

const fn kernel(name: &'static str, entry: &'static str) -> Kernel {
    const BINDINGS: &[Access] = &[Access::Read, Access::Write];
    Kernel {
        name,
        sources: SOURCES,
        entry,
        bindings: BINDINGS,
        constants: &[REDUCE_WIDTH],
        params: size_of::<Params>(),
    }
}

pub(crate) static SUM: Kernel = kernel("reduce.sum", "sum");
pub(crate) static SUM_SQUARES: Kernel = kernel("reduce.sum_squares", "sum_squares");
pub(crate) static COLUMNS: Kernel = kernel("reduce.columns", "columns");

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    n: u32,
    cols: u32,
    span: u32,
    start: u32,
    out: u32,
}

/// Partial sums of one pass over one piece, at most: enough workgroups to fill a GPU.
const PARTIALS: usize = 1024;
/// Elements a lane adds up at least.
const PER_LANE: usize = 16;
/// Rows a lane of a column sum adds up at least.
const ROWS_PER_LANE: usize = 32;
/// Partial column sums at most.
const SPANS: usize = 64;

/// `Σ x`, one element. Zero for an empty `x`.
///
/// Dtypes: f32; f64 on the CPU.
pub fn sum(x: &Buffer) -> Result<Buffer> {
    total("sum", &SUM, x, cpu::sum::<f32>, cpu::sum::<f64>)
}

/// `Σ x²`, one element. Zero for an empty `x`.
///
/// Dtypes: f32; f64 on the CPU.
pub fn sum_squares(x: &Buffer) -> Result<Buffer> {
    total("sum of squares", &SUM_SQUARES, x, cpu::sum_squares::<f32>, cpu::sum_squares::<f64>)
}

fn total(
    op: &'static str,
    kernel: &'static Kernel,
    x: &Buffer,
    single: fn(&[f32]) -> f64,
    double: fn(&[f64]) -> f64,
) -> Result<Buffer> {
    let _span = profile::span(op);
    match x.device() {
        Device::Cpu => match x.expect_float(op, "x")? {
            Float::Single => Buffer::from_slice(&Device::Cpu, &[single(x.as_slice()) as f32]),
            Float::Double => Buffer::from_slice(&Device::Cpu, &[double(x.as_slice())]),
        },
        Device::Gpu(gpu) => {
            x.expect_dtype(op, "x", Dtype::F32)?;
            if x.is_empty() {
                return Buffer::zeros(x.device(), op, Dtype::F32, 1);
            }
            let partial = Buffer::uninit(x.device(), op, Dtype::F32, partials(gpu, x.len())?)?;
            first_pass(gpu, kernel, x, &partial, 0)?;
            if partial.len() == 1 {
                return Ok(partial);
            }
            let y = Buffer::uninit(x.device(), op, Dtype::F32, 1)?;
            let n = partial.len() as u32;
            let params = Params { n, cols: 0, span: n, start: 0, out: 0 };
            gpu.run(&SUM, &[partial.bind_all(), y.bind_all()], &params, 1)?;
            Ok(y)
        }
    }
}

/// Elements one workgroup adds up in the first pass over `n` elements.
fn span(gpu: &Gpu, n: usize) -> usize {
    let width = if gpu.small_simd() { REDUCE_WIDTH.small } else { REDUCE_WIDTH.wide } as usize;
    n.div_ceil(PARTIALS).next_multiple_of(width).max(width * PER_LANE)
}

/// How many partial sums [`first_pass`] makes of `n` elements.
fn partials(gpu: &Gpu, n: usize) -> Result<usize> {
    let pieces = split_rows("sum", n, &[4], gpu.max_binding())?;
    Ok(pieces.iter().map(|r| r.len().div_ceil(span(gpu, r.len()))).sum())
}

/// Writes the partial sums of `x` to `partial` from element `out` on; returns the element after them.
fn first_pass(gpu: &Gpu, kernel: &'static Kernel, x: &Buffer, partial: &Buffer, mut out: usize) -> Result<usize> {
    for r in split_rows(kernel.name, x.len(), &[4], gpu.max_binding())? {
        let span = span(gpu, r.len());
        let groups = r.len().div_ceil(span);
        let params = Params { n: r.len() as u32, cols: 0, span: span as u32, start: 0, out: out as u32 };
        gpu.run(kernel, &[x.bind(r), partial.bind_all()], &params, groups as u64)?;
        out += groups;
    }
    Ok(out)
}

/// `√ Σ x²` over all elements of all buffers, with one transfer from the device. NaN or infinite if any element is.
///
/// Dtypes: f32; f64 on the CPU.
/// Errors: `Dtype`, `DeviceMismatch`.
/// Source: torch.nn.utils.get_total_norm.
pub fn global_norm(buffers: &[&Buffer]) -> Result<f64> {
    const OP: &str = "global norm";
    let _span = profile::span(OP);
    let Some(first) = buffers.first() else { return Ok(0.0) };
    first.device().expect_all(OP, buffers)?;
    let squares = match first.device() {
        Device::Cpu => {
            let mut squares = 0.0;
            for x in buffers {
                squares += match x.expect_float(OP, "x")? {
                    Float::Single => cpu::sum_squares::<f32>(x.as_slice()),
                    Float::Double => cpu::sum_squares::<f64>(x.as_slice()),
                };
            }
            squares
        }
        Device::Gpu(gpu) => {
            let mut count = 0;
            for x in buffers {
                x.expect_dtype(OP, "x", Dtype::F32)?;
                count += partials(gpu, x.len())?;
            }
            let partial = Buffer::uninit(first.device(), OP, Dtype::F32, count)?;
            let mut out = 0;
            for x in buffers {
                out = first_pass(gpu, &SUM_SQUARES, x, &partial, out)?;
            }
            partial.to_vec::<f32>()?.into_iter().map(f64::from).sum()
        }
    };
    Ok(squares.sqrt())
}

/// Sums of the columns of `x`: zeros if it has no rows.
///
/// Shapes: `x` (rows, cols), result (cols). Dtypes: f32; f64 on the CPU.
/// Errors: `Shape`; `Binding` if one row exceeds what the adapter binds.
pub fn column_sum(x: &Buffer, rows: usize, cols: usize) -> Result<Buffer> {
    const OP: &str = "column sum";
    let _span = profile::span(OP);
    x.expect_len(OP, "x", rows * cols)?;
    match x.device() {
        Device::Cpu => {
            let mut y = Buffer::uninit(x.device(), OP, x.dtype(), cols)?;
            match x.expect_float(OP, "x")? {
                Float::Single => cpu::column_sum::<f32>(x.as_slice(), y.as_mut_slice()),
                Float::Double => cpu::column_sum::<f64>(x.as_slice(), y.as_mut_slice()),
            }
            Ok(y)
        }
        Device::Gpu(gpu) => {
            x.expect_dtype(OP, "x", Dtype::F32)?;
            if x.is_empty() {
                return Buffer::zeros(x.device(), OP, Dtype::F32, cols);
            }
            columns(gpu, OP, x, rows, cols, gpu.max_binding())
        }
    }
}

fn columns(gpu: &Gpu, op: &'static str, x: &Buffer, rows: usize, cols: usize, limit: u64) -> Result<Buffer> {
    let row_bytes = cols as u64 * 4;
    // one alignment step is kept free for the start of a piece
    let piece = (limit.saturating_sub(ALIGNMENT) / row_bytes) as usize;
    if piece == 0 {
        return Err(Error::Binding { op, bytes: row_bytes, limit });
    }
    let width = if gpu.small_simd() { REDUCE_WIDTH.small } else { REDUCE_WIDTH.wide } as usize;
    let pass = |x: &Buffer, rows: Range<usize>, span: usize| -> Result<Buffer> {
        let spans = rows.len().div_ceil(span);
        let y = Buffer::uninit(x.device(), op, Dtype::F32, spans * cols)?;
        let (bind, start) = x.bind_aligned(rows.start * cols..rows.end * cols);
        let params = Params { n: rows.len() as u32, cols: cols as u32, span: span as u32, start, out: 0 };
        gpu.run(&COLUMNS, &[bind, y.bind_all()], &params, (spans * cols.div_ceil(width)) as u64)?;
        Ok(y)
    };
    let mut total: Option<Buffer> = None;
    for rows in pieces(0..rows, piece) {
        let span = rows.len().div_ceil(SPANS.min(piece)).max(ROWS_PER_LANE);
        let spans = rows.len().div_ceil(span);
        let mut sums = pass(x, rows, span)?;
        if spans > 1 {
            sums = pass(&sums, 0..spans, spans)?;
        }
        match &mut total {
            None => total = Some(sums),
            Some(total) => add_assign(total, &sums)?,
        }
    }
    Ok(total.expect("invariant: callers pass at least one row"))
}

mod cpu {
    use super::SPANS;
    use crate::real::{self, Real, simd};
    use rayon::prelude::*;

    /// Elements one task adds up: fixed, so that the order of additions is.
    const BLOCK: usize = 16 << 10;
    fn blocks<T: Real>(x: &[T], f: impl Fn(&[T]) -> T + Sync + Send) -> f64 {
        let partial: Vec<f64> = x
            .par_chunks(BLOCK)
            .map(|x| {
                simd(
                    #[inline(always)]
                    || f(x).wide(),
                )
            })
            .collect();
        partial.iter().sum()
    }

    pub fn sum<T: Real>(x: &[T]) -> f64 {
        blocks(
            x,
            #[inline(always)]
            |x| real::sum(x),
        )
    }

    pub fn sum_squares<T: Real>(x: &[T]) -> f64 {
        blocks(
            x,
            #[inline(always)]
            |x| real::sum_squares(x),
        )
    }

    pub fn column_sum<T: Real>(x: &[T], y: &mut [T]) {
        let cols = y.len();
        y.fill(T::zero());
        if cols == 0 {
            return;
        }
        let rows = x.len() / cols;
        let span = rows.div_ceil(SPANS).max(BLOCK / cols).max(1);
        let partial: Vec<Vec<T>> = x
            .par_chunks(span * cols)
            .map(|x| {
                let mut sums = vec![T::zero(); cols];
                simd(
                    #[inline(always)]
                    || x.chunks_exact(cols).for_each(|row| real::axpy(T::one(), row, &mut sums)),
                );
                sums
            })
            .collect();
        partial.iter().for_each(|sums| real::axpy(T::one(), sums, y));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{gpu, numbers};

    #[test]
    fn sums_are_those_of_a_plain_loop() {
        for n in [0, 1, 100, 50_000] {
            let values = numbers(5, n);
            let x = Buffer::from_slice(&Device::Cpu, &values).unwrap();
            let first = |y: Buffer| y.to_vec::<f64>().unwrap()[0];
            assert!((first(sum(&x).unwrap()) - values.iter().sum::<f64>()).abs() < 1e-10);
            let squares = values.iter().map(|v| v * v).sum::<f64>();
            assert!((first(sum_squares(&x).unwrap()) - squares).abs() < 1e-12 * (1.0 + squares));
            assert!((global_norm(&[&x, &x]).unwrap() - (2.0 * squares).sqrt()).abs() < 1e-10);
        }
        assert_eq!(global_norm(&[]).unwrap(), 0.0);
    }

    #[test]
    fn column_sums_are_those_of_a_plain_loop() {
        for (rows, cols) in [(0, 3), (1, 1), (5, 3), (3000, 7)] {
            let values = numbers(6, rows * cols);
            let x = Buffer::from_slice(&Device::Cpu, &values).unwrap();
            let y = column_sum(&x, rows, cols).unwrap().to_vec::<f64>().unwrap();
            assert_eq!(y.len(), cols);
            for (c, y) in y.iter().enumerate() {
                let plain: f64 = (0..rows).map(|r| values[r * cols + c]).sum();
                assert!((y - plain).abs() < 1e-11, "({rows}, {cols}) column {c}: {y} for {plain}");
            }
        }
    }

    #[test]
    fn one_bad_element_shows_in_the_norm() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut values = vec![0.5f32; 40_000];
            values[39_999] = bad;
            let x = Buffer::from_slice(&Device::Cpu, &values).unwrap();
            assert!(!global_norm(&[&x]).unwrap().is_finite());
        }
    }

    #[test]
    fn the_gpu_sums_columns_whole_and_in_pieces() {
        let Some((device, gpu)) = gpu("reduce") else { return };
        let (rows, cols) = (300, 5);
        let values = numbers(7, rows * cols + 1).iter().map(|&v| v as f32).collect::<Vec<f32>>();
        let x = Buffer::from_slice(&device, &values).unwrap().view(1..rows * cols + 1);
        // everything; 37 rows; one row of 20 bytes at a time
        for limit in [gpu.max_binding(), 1000, 279] {
            let y = columns(&gpu, "test", &x, rows, cols, limit).unwrap().to_vec::<f32>().unwrap();
            for (c, y) in y.iter().enumerate() {
                let plain: f64 = (0..rows).map(|r| values[1 + r * cols + c] as f64).sum();
                assert!((*y as f64 - plain).abs() < 1e-4, "limit {limit} column {c}: {y} for {plain}");
            }
        }
        assert!(matches!(columns(&gpu, "test", &x, rows, cols, 270), Err(Error::Binding { .. })));
    }

    #[test]
    fn the_gpu_norm_counts_every_buffer() {
        let Some((device, _)) = gpu("reduce") else { return };
        let upload = |v: &[f32]| Buffer::from_slice(&device, v).unwrap();
        let long = vec![2.0f32; 3001];
        let (a, b) = (upload(&long), upload(&[]));
        let norm = global_norm(&[&a, &b, &upload(&[3.0])]).unwrap();
        assert!((norm - (4.0f64 * 3001.0 + 9.0).sqrt()).abs() < 1e-4, "{norm}");
        for bad in [f32::NAN, f32::INFINITY] {
            assert!(!global_norm(&[&a, &upload(&[1.0, bad, 1.0])]).unwrap().is_finite());
        }
    }
}
