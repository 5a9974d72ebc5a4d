//! Root-mean-square normalisation along the last dimension, alone or fused with the residual sum before it.

use crate::buffer::{Buffer, Dtype, Float};
use crate::device::{Access, Device, Gpu, Kernel, Widths, split_rows};
use crate::error::Result;
use crate::profile;
use crate::reduce::column_sum;
use crate::{REDUCE_WIDTH, parallel, rows};

const SOURCES: &[[&str; 6]; 2] = &rows::sources(rows::FOUR, include_str!("../../shaders/rms_norm.wgsl"));

const fn kernel(name: &'static str, entry: &'static str, bindings: &'static [Access]) -> Kernel {
    let (constants, params) = (&[REDUCE_WIDTH], size_of::<Params>());
    Kernel { name, sources: &SOURCES[0], entry, bindings, constants, params }
}

const fn over_rows(name: &'static str, entry: &'static str, bindings: &'static [Access]) -> Widths {
    Widths::new(kernel(name, entry, bindings), SOURCES)
}

pub(crate) const KERNELS: [&Widths; 3] = [&FORWARD, &FORWARD_ADD, &BACKWARD];

use Access::{Read, Write};
static FORWARD: Widths = over_rows("rms_norm.forward", "forward", &[Read, Read, Write, Write]);
static FORWARD_ADD: Widths = over_rows("rms_norm.forward_add", "forward_add", &[Read, Read, Write, Write, Read, Write]);
static BACKWARD: Widths = over_rows("rms_norm.backward", "backward", &[Read, Read, Read, Read, Write]);
pub(crate) static WEIGHT_PARTIALS: Kernel =
    kernel("rms_norm.weight_partials", "weight_partials", &[Read, Read, Read, Write]);

#[repr(C)]
#[derive(Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    cols: u32,
    span: u32,
    eps: f32,
    block: u32,
    first: u32,
}

/// What the forward pass gives.
pub struct Normalised {
    /// The result (R, C).
    pub y: Buffer,
    /// `1 / sqrt(mean(x²) + eps)` of each row (R), for the backward pass.
    pub inv_rms: Buffer,
}

/// `y = x / sqrt(mean(x²) + eps) * w` along rows.
///
/// Shapes: `x`, `y` (R, C); `w` (C). Dtypes: f32; f64 on the CPU.
/// Errors: `Shape`, `Dtype`, `DeviceMismatch`.
/// Source: transformers Qwen3RMSNorm.
pub fn forward(x: &Buffer, w: &Buffer, rows: usize, cols: usize, eps: f32) -> Result<Normalised> {
    const OP: &str = "rms_norm";
    let _span = profile::span(OP);
    expect(OP, x, w, rows, cols)?;
    let mut y = Buffer::uninit(x.device(), OP, x.dtype(), x.len())?;
    let mut inv_rms = Buffer::uninit(x.device(), OP, x.dtype(), rows)?;
    match x.device() {
        Device::Cpu => {
            let (y, inv) = (&mut y, &mut inv_rms);
            match x.expect_float(OP, "x")? {
                Float::Single => {
                    cpu::forward::<f32>(x.as_slice(), w.as_slice(), y.as_mut_slice(), inv.as_mut_slice(), eps)
                }
                Float::Double => {
                    cpu::forward::<f64>(x.as_slice(), w.as_slice(), y.as_mut_slice(), inv.as_mut_slice(), eps)
                }
            }
        }
        Device::Gpu(gpu) => {
            x.expect_dtype(OP, "x", Dtype::F32)?;
            for r in split_rows(OP, rows, &[cols * 4], gpu.max_binding())? {
                let span = r.start * cols..r.end * cols;
                let (kernel, params, groups) = row_grid(gpu, &FORWARD, r.len(), cols, eps);
                let binds = [x.bind(span.clone()), w.bind_all(), y.bind(span), inv_rms.bind(r)];
                gpu.run(kernel, &binds, &params, groups)?;
            }
        }
    }
    Ok(Normalised { y, inv_rms })
}

/// `h = x + r` and `y = rms_norm(h)` in one pass: returns `h` and the normalised rows.
///
/// Shapes: `x`, `r`, `h`, `y` (R, C); `w` (C). Dtypes: f32; f64 on the CPU.
/// Errors: `Shape`, `Dtype`, `DeviceMismatch`.
pub fn forward_add(
    x: &Buffer,
    r: &Buffer,
    w: &Buffer,
    rows: usize,
    cols: usize,
    eps: f32,
) -> Result<(Buffer, Normalised)> {
    const OP: &str = "add_rms_norm";
    let _span = profile::span(OP);
    expect(OP, x, w, rows, cols)?;
    x.device().expect_all(OP, &[r])?;
    r.expect_len(OP, "r", rows * cols)?;
    r.expect_dtype(OP, "r", x.dtype())?;
    let mut h = Buffer::uninit(x.device(), OP, x.dtype(), x.len())?;
    let mut y = Buffer::uninit(x.device(), OP, x.dtype(), x.len())?;
    let mut inv_rms = Buffer::uninit(x.device(), OP, x.dtype(), rows)?;
    match x.device() {
        Device::Cpu => {
            let out = (&mut h, &mut y, &mut inv_rms);
            match x.expect_float(OP, "x")? {
                Float::Single => cpu::forward_add::<f32>(x, r, w, out, eps),
                Float::Double => cpu::forward_add::<f64>(x, r, w, out, eps),
            }
        }
        Device::Gpu(gpu) => {
            x.expect_dtype(OP, "x", Dtype::F32)?;
            for piece in split_rows(OP, rows, &[cols * 4], gpu.max_binding())? {
                let span = || piece.start * cols..piece.end * cols;
                let (kernel, params, groups) = row_grid(gpu, &FORWARD_ADD, piece.len(), cols, eps);
                let inv = inv_rms.bind(piece.clone());
                let binds = [x.bind(span()), w.bind_all(), y.bind(span()), inv, r.bind(span()), h.bind(span())];
                gpu.run(kernel, &binds, &params, groups)?;
            }
        }
    }
    Ok((h, Normalised { y, inv_rms }))
}

/// `dx = inv_rms (dy w - x̂ mean(dy w x̂))` and `dw = Σ_rows dy x̂`, where `x̂ = x inv_rms`: returns `(dx, dw)`.
///
/// Shapes: `x`, `dy`, `dx` (R, C); `w`, `dw` (C); `inv_rms` (R). Dtypes: f32; f64 on the CPU.
/// Errors: `Shape`, `Dtype`, `DeviceMismatch`.
pub fn backward(
    x: &Buffer,
    w: &Buffer,
    inv_rms: &Buffer,
    dy: &Buffer,
    rows: usize,
    cols: usize,
) -> Result<(Buffer, Buffer)> {
    const OP: &str = "rms_norm backward";
    let _span = profile::span(OP);
    expect(OP, x, w, rows, cols)?;
    x.device().expect_all(OP, &[inv_rms, dy])?;
    inv_rms.expect_len(OP, "inv_rms", rows)?;
    inv_rms.expect_dtype(OP, "inv_rms", x.dtype())?;
    dy.expect_len(OP, "dy", rows * cols)?;
    dy.expect_dtype(OP, "dy", x.dtype())?;
    let mut dx = Buffer::uninit(x.device(), OP, x.dtype(), x.len())?;
    match x.device() {
        Device::Cpu => {
            let mut dw = Buffer::uninit(x.device(), OP, x.dtype(), cols)?;
            match x.expect_float(OP, "x")? {
                Float::Single => cpu::backward::<f32>(x, w, inv_rms, dy, &mut dx, &mut dw),
                Float::Double => cpu::backward::<f64>(x, w, inv_rms, dy, &mut dx, &mut dw),
            }
            Ok((dx, dw))
        }
        Device::Gpu(gpu) => {
            x.expect_dtype(OP, "x", Dtype::F32)?;
            let pieces = split_rows(OP, rows, &[cols * 4], gpu.max_binding())?;
            let blocks = |rows: usize| rows.div_ceil(block_rows(rows, cols));
            let total: usize = pieces.iter().map(|r| blocks(r.len())).sum();
            let sums = Buffer::uninit(x.device(), OP, Dtype::F32, total * cols)?;
            let mut first = 0;
            for r in pieces {
                let span = || r.start * cols..r.end * cols;
                let inv = || inv_rms.bind(r.clone());
                let (kernel, params, groups) = row_grid(gpu, &BACKWARD, r.len(), cols, 0.0);
                let binds = [x.bind(span()), w.bind_all(), inv(), dy.bind(span()), dx.bind(span())];
                gpu.run(kernel, &binds, &params, groups)?;
                let params = Params { block: block_rows(r.len(), cols) as u32, first: first as u32, ..params };
                let binds = [x.bind(span()), inv(), dy.bind(span()), sums.bind_all()];
                let groups = (blocks(r.len()) * cols).div_ceil(REDUCE_WIDTH.on(gpu)) as u64;
                gpu.run(&WEIGHT_PARTIALS, &binds, &params, groups)?;
                first += blocks(r.len());
            }
            Ok((dx, column_sum(&sums, total, cols)?))
        }
    }
}

fn expect(op: &'static str, x: &Buffer, w: &Buffer, rows: usize, cols: usize) -> Result<()> {
    x.device().expect_all(op, &[w])?;
    x.expect_len(op, "x", rows * cols)?;
    w.expect_len(op, "w", cols)?;
    w.expect_dtype(op, "w", x.dtype())
}

/// The kernel for rows of `cols` elements, its parameters and workgroups.
fn row_grid(gpu: &Gpu, kernel: &'static Widths, rows: usize, cols: usize, eps: f32) -> (&'static Kernel, Params, u64) {
    let (kernel, width) = kernel.of(cols);
    let (span, groups) = rows::grid(gpu, rows::FOUR, rows, cols / width);
    (kernel, Params { rows: rows as u32, cols: cols as u32, span, eps, ..Params::default() }, groups)
}

/// Rows that one partial sum of `dw` covers: enough partials to fill a GPU, at least 16 rows in each.
pub(crate) fn block_rows(rows: usize, cols: usize) -> usize {
    let partials = ((128 << 10) / cols.max(1)).clamp(1, 512);
    rows.div_ceil(partials).max(16)
}

pub(crate) mod cpu {
    use super::{Buffer, parallel};
    use crate::real::{Real, axpy, simd, sum_squares};
    use rayon::prelude::*;

    /// `1 / sqrt(mean(x²) + eps)`.
    #[inline(always)]
    pub fn inverse_rms<T: Real>(x: &[T], eps: f32) -> T {
        T::of(1.0 / (sum_squares(x).wide() / x.len() as f64 + eps as f64).sqrt())
    }

    /// `y = x inv w`.
    #[inline(always)]
    pub fn scale<T: Real>(x: &[T], inv: T, w: &[T], y: &mut [T]) {
        for ((y, &x), &w) in y.iter_mut().zip(x).zip(w) {
            *y = x * inv * w;
        }
    }

    pub fn forward<T: Real>(x: &[T], w: &[T], y: &mut [T], inv_rms: &mut [T], eps: f32) {
        let cols = w.len();
        parallel::rows2(
            cols,
            (y, cols),
            (inv_rms, 1),
            #[inline(always)]
            |r, y, inv| {
                let x = &x[r * cols..(r + 1) * cols];
                inv[0] = inverse_rms(x, eps);
                scale(x, inv[0], w, y);
            },
        );
    }

    pub fn forward_add<T: Real>(
        x: &Buffer,
        r: &Buffer,
        w: &Buffer,
        (h, y, inv_rms): (&mut Buffer, &mut Buffer, &mut Buffer),
        eps: f32,
    ) {
        let (x, r, w) = (x.as_slice::<T>(), r.as_slice::<T>(), w.as_slice::<T>());
        let cols = w.len();
        parallel::rows3(
            cols,
            (h.as_mut_slice::<T>(), cols),
            (y.as_mut_slice::<T>(), cols),
            (inv_rms.as_mut_slice::<T>(), 1),
            #[inline(always)]
            |row, h, y, inv| {
                let span = row * cols..(row + 1) * cols;
                for ((h, &x), &r) in h.iter_mut().zip(&x[span.clone()]).zip(&r[span]) {
                    *h = x + r;
                }
                inv[0] = inverse_rms(h, eps);
                scale(h, inv[0], w, y);
            },
        );
    }

    pub fn backward<T: Real>(x: &Buffer, w: &Buffer, inv: &Buffer, dy: &Buffer, dx: &mut Buffer, dw: &mut Buffer) {
        let (x, w, inv, dy) = (x.as_slice::<T>(), w.as_slice::<T>(), inv.as_slice::<T>(), dy.as_slice::<T>());
        let cols = w.len();
        backward_rows(
            dx.as_mut_slice::<T>(),
            dw.as_mut_slice::<T>(),
            #[inline(always)]
            |row, dx, dw| {
                let span = row * cols..(row + 1) * cols;
                dx.copy_from_slice(&dy[span.clone()]);
                backward_row(&x[span], w, inv[row], dx, dw);
            },
        );
    }

    /// Calls `f(row, dx, dw)` for every row of `dx`, where `dw` gathers what the rows add to it. Blocks of rows have each
    /// their own partial sum; their number depends on the shape alone, so the order of the sums does not depend on the
    /// threads.
    pub fn backward_rows<T: Real>(dx: &mut [T], dw: &mut [T], f: impl Fn(usize, &mut [T], &mut [T]) + Sync + Send) {
        let cols = dw.len();
        dw.fill(T::zero());
        if dx.is_empty() {
            return;
        }
        let rows = dx.len() / cols;
        let block = rows.div_ceil(256).max(32);
        let mut sums = vec![T::zero(); rows.div_ceil(block) * cols];
        let blocks = dx.par_chunks_mut(block * cols).zip(sums.par_chunks_mut(cols));
        blocks.enumerate().for_each(|(b, (dx, sums))| {
            simd(
                #[inline(always)]
                || {
                    for (i, dx) in dx.chunks_exact_mut(cols).enumerate() {
                        f(b * block + i, dx, sums);
                    }
                },
            )
        });
        for sums in sums.chunks_exact(cols) {
            axpy(T::one(), sums, dw);
        }
    }

    /// The gradient of one row, in place of the output's gradient; adds the row's part of the weight's to `dw`.
    #[inline(always)]
    pub fn backward_row<T: Real>(x: &[T], w: &[T], inv: T, dx: &mut [T], dw: &mut [T]) {
        for ((dx, dw), (&x, &w)) in dx.iter_mut().zip(dw.iter_mut()).zip(x.iter().zip(w)) {
            *dw += *dx * (x * inv);
            *dx *= w;
        }
        let slope = crate::real::dot(dx, x) * inv * inv * inv / T::of(x.len() as f64);
        for (dx, &x) in dx.iter_mut().zip(x) {
            *dx = inv * *dx - x * slope;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::central_differences;

    #[test]
    fn backward_equals_central_differences() {
        for (rows, cols) in [(3, 7), (70, 2), (1, 33)] {
            central_differences(
                &[rows * cols, cols],
                |x| Ok(forward(&x[0], &x[1], rows, cols, 1e-3)?.y),
                |x, dy| {
                    let inv = forward(&x[0], &x[1], rows, cols, 1e-3)?.inv_rms;
                    let (dx, dw) = backward(&x[0], &x[1], &inv, dy, rows, cols)?;
                    Ok(vec![dx, dw])
                },
            );
        }
    }

    #[test]
    fn rows_of_equal_numbers_become_their_sign_times_the_weight() {
        let x = Buffer::from_slice(&Device::Cpu, &[3.0f32, 3.0, -0.5, -0.5]).unwrap();
        let w = Buffer::from_slice(&Device::Cpu, &[2.0f32, 10.0]).unwrap();
        let out = forward(&x, &w, 2, 2, 0.0).unwrap();
        assert_eq!(out.y.to_vec::<f32>().unwrap(), [2.0, 10.0, -2.0, -10.0]);
        assert_eq!(out.inv_rms.to_vec::<f32>().unwrap(), [1.0 / 3.0, 2.0]);
    }

    #[test]
    fn the_fused_sum_equals_adding_first() {
        let of = |v: &[f32]| Buffer::from_slice(&Device::Cpu, v).unwrap();
        let (x, r, w) = (of(&[1.0, -2.0, 0.5, 4.0]), of(&[0.25, 1.0, 2.0, -1.0]), of(&[1.5, -1.0]));
        let (h, fused) = forward_add(&x, &r, &w, 2, 2, 1e-6).unwrap();
        assert_eq!(h.to_vec::<f32>().unwrap(), [1.25, -1.0, 2.5, 3.0]);
        let plain = forward(&h, &w, 2, 2, 1e-6).unwrap();
        assert_eq!(fused.y.to_vec::<f32>().unwrap(), plain.y.to_vec::<f32>().unwrap());
        assert_eq!(fused.inv_rms.to_vec::<f32>().unwrap(), plain.inv_rms.to_vec::<f32>().unwrap());
    }
}
