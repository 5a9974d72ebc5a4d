//! Softmax along the last dimension.

use crate::buffer::{Buffer, Dtype, Float};
use crate::device::{Access, Device, Kernel, Widths, split_rows};
use crate::error::Result;
use crate::profile;
use crate::{REDUCE_WIDTH, parallel, rows};

const SOURCES: &[[&str; 6]; 2] = &rows::sources(rows::EIGHT, include_str!("../../shaders/softmax.wgsl"));

const fn kernel(name: &'static str, entry: &'static str, bindings: &'static [Access]) -> Widths {
    let (constants, params) = (&[REDUCE_WIDTH], size_of::<Params>());
    Widths::new(Kernel { name, sources: &[], entry, bindings, constants, params }, SOURCES)
}

use Access::{Read, Write};
pub(crate) static FORWARD: Widths = kernel("softmax.forward", "forward", &[Read, Write]);
pub(crate) static BACKWARD: Widths = kernel("softmax.backward", "backward", &[Read, Read, Write]);

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    cols: u32,
    span: u32,
}

/// `y = exp(x - max x) / Σ exp(x - max x)` along rows.
///
/// Shapes: `x`, `y` (R, C). Dtypes: f32; f64 on the CPU.
/// Errors: `Shape` if `x` has not `rows * cols` elements.
/// Source: torch.softmax(x, -1).
pub fn forward(x: &Buffer, rows: usize, cols: usize) -> Result<Buffer> {
    const OP: &str = "softmax";
    let _span = profile::span(OP);
    x.expect_len(OP, "x", rows * cols)?;
    let mut y = Buffer::uninit(x.device(), OP, x.dtype(), x.len())?;
    match x.device() {
        Device::Cpu => match x.expect_float(OP, "x")? {
            Float::Single => cpu::forward::<f32>(x.as_slice(), y.as_mut_slice(), cols),
            Float::Double => cpu::forward::<f64>(x.as_slice(), y.as_mut_slice(), cols),
        },
        Device::Gpu(gpu) => {
            x.expect_dtype(OP, "x", Dtype::F32)?;
            let (kernel, width) = FORWARD.of(cols);
            for r in split_rows(OP, rows, &[cols * 4], gpu.max_binding())? {
                let (span, groups) = rows::grid(gpu, rows::EIGHT, r.len(), cols / width);
                let params = Params { rows: r.len() as u32, cols: cols as u32, span };
                let elements = r.start * cols..r.end * cols;
                gpu.run(kernel, &[x.bind(elements.clone()), y.bind(elements)], &params, groups)?;
            }
        }
    }
    Ok(y)
}

/// `dx = y (dy - Σ y dy)` along rows.
///
/// Shapes: `y`, `dy`, `dx` (R, C). Dtypes: f32; f64 on the CPU.
/// Errors: `Shape`, `DeviceMismatch`.
pub fn backward(y: &Buffer, dy: &Buffer, rows: usize, cols: usize) -> Result<Buffer> {
    const OP: &str = "softmax backward";
    let _span = profile::span(OP);
    y.device().expect_all(OP, &[dy])?;
    y.expect_len(OP, "y", rows * cols)?;
    dy.expect_len(OP, "dy", rows * cols)?;
    dy.expect_dtype(OP, "dy", y.dtype())?;
    let mut dx = Buffer::uninit(y.device(), OP, y.dtype(), y.len())?;
    match y.device() {
        Device::Cpu => match y.expect_float(OP, "y")? {
            Float::Single => cpu::backward::<f32>(y.as_slice(), dy.as_slice(), dx.as_mut_slice(), cols),
            Float::Double => cpu::backward::<f64>(y.as_slice(), dy.as_slice(), dx.as_mut_slice(), cols),
        },
        Device::Gpu(gpu) => {
            y.expect_dtype(OP, "y", Dtype::F32)?;
            let (kernel, width) = BACKWARD.of(cols);
            for r in split_rows(OP, rows, &[cols * 4], gpu.max_binding())? {
                let (span, groups) = rows::grid(gpu, rows::EIGHT, r.len(), cols / width);
                let params = Params { rows: r.len() as u32, cols: cols as u32, span };
                let elements = || r.start * cols..r.end * cols;
                let binds = [y.bind(elements()), dy.bind(elements()), dx.bind(elements())];
                gpu.run(kernel, &binds, &params, groups)?;
            }
        }
    }
    Ok(dx)
}

mod cpu {
    use super::parallel;
    use crate::real::{Real, dot, max, sum};

    pub fn forward<T: Real>(x: &[T], y: &mut [T], cols: usize) {
        parallel::rows(
            cols,
            y,
            cols,
            #[inline(always)]
            |r, y| {
                let x = &x[r * cols..(r + 1) * cols];
                let largest = max(x);
                for (y, &x) in y.iter_mut().zip(x) {
                    *y = (x - largest).fast_exp();
                }
                let scale = T::one() / sum(y);
                for y in y.iter_mut() {
                    *y *= scale;
                }
            },
        );
    }

    pub fn backward<T: Real>(y: &[T], dy: &[T], dx: &mut [T], cols: usize) {
        parallel::rows(
            cols,
            dx,
            cols,
            #[inline(always)]
            |r, dx| {
                let (y, dy) = (&y[r * cols..(r + 1) * cols], &dy[r * cols..(r + 1) * cols]);
                let total = dot(y, dy);
                for ((dx, &y), &dy) in dx.iter_mut().zip(y).zip(dy) {
                    *dx = y * (dy - total);
                }
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::central_differences;

    #[test]
    fn backward_equals_central_differences() {
        let (rows, cols) = (3, 7);
        central_differences(
            &[rows * cols],
            |x| forward(&x[0], rows, cols),
            |x, dy| Ok(vec![backward(&forward(&x[0], rows, cols)?, dy, rows, cols)?]),
        );
    }

    #[test]
    fn rows_sum_to_one_and_large_values_do_not_overflow() {
        let x = Buffer::from_slice(&Device::Cpu, &[1000.0f32, 1000.0, -1000.0, 0.0, 1.0, 2.0]).unwrap();
        let y = forward(&x, 2, 3).unwrap().to_vec::<f32>().unwrap();
        assert_eq!(&y[..3], &[0.5, 0.5, 0.0]);
        assert!((y[3..].iter().sum::<f32>() - 1.0).abs() < 1e-6);
    }
}
