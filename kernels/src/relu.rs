//! Rectified linear units.

use crate::buffer::{Buffer, Dtype, Float};
use crate::device::{Access, Device, Widths};
use crate::elementwise::{element_kernel, launch, sources};
use crate::error::Result;
use crate::profile;

const SOURCES: &[[&str; 4]; 2] = &sources(include_str!("../../shaders/relu.wgsl"));

pub(crate) static FORWARD: Widths =
    element_kernel::<Params>("relu.forward", SOURCES, "forward", &[Access::Read, Access::Write]);

pub(crate) static BACKWARD: Widths =
    element_kernel::<Params>("relu.backward", SOURCES, "backward", &[Access::Read, Access::Read, Access::Write]);

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    n: u32,
}

/// `y = max(x, 0)`, NaN kept.
///
/// Shapes: any. Dtypes: f32; f64 on the CPU.
/// Errors: `Dtype`.
/// Source: torch.relu.
pub fn forward(x: &Buffer) -> Result<Buffer> {
    const OP: &str = "relu";
    let _span = profile::span(OP);
    let mut y = Buffer::uninit(x.device(), OP, x.dtype(), x.len())?;
    match x.device() {
        Device::Cpu => match x.expect_float(OP, "x")? {
            Float::Single => cpu::forward::<f32>(x.as_slice(), y.as_mut_slice()),
            Float::Double => cpu::forward::<f64>(x.as_slice(), y.as_mut_slice()),
        },
        Device::Gpu(gpu) => {
            x.expect_dtype(OP, "x", Dtype::F32)?;
            launch(gpu, &FORWARD, y.len(), |r| {
                let params = Params { n: r.len() as u32 };
                ([x.bind(r.clone()), y.bind(r)], params)
            })?;
        }
    }
    Ok(y)
}

/// `dx = dy` where the output `y` is positive, else 0.
///
/// Shapes: equal. Dtypes: f32; f64 on the CPU.
/// Errors: `Shape`, `Dtype`, `DeviceMismatch`.
pub fn backward(y: &Buffer, dy: &Buffer) -> Result<Buffer> {
    const OP: &str = "relu backward";
    let _span = profile::span(OP);
    y.device().expect_all(OP, &[dy])?;
    dy.expect_len(OP, "dy", y.len())?;
    dy.expect_dtype(OP, "dy", y.dtype())?;
    let mut dx = Buffer::uninit(y.device(), OP, y.dtype(), y.len())?;
    match y.device() {
        Device::Cpu => match y.expect_float(OP, "y")? {
            Float::Single => cpu::backward::<f32>(y.as_slice(), dy.as_slice(), dx.as_mut_slice()),
            Float::Double => cpu::backward::<f64>(y.as_slice(), dy.as_slice(), dx.as_mut_slice()),
        },
        Device::Gpu(gpu) => {
            y.expect_dtype(OP, "y", Dtype::F32)?;
            launch(gpu, &BACKWARD, y.len(), |r| {
                let params = Params { n: r.len() as u32 };
                ([y.bind(r.clone()), dy.bind(r.clone()), dx.bind(r)], params)
            })?;
        }
    }
    Ok(dx)
}

mod cpu {
    use crate::parallel;
    use crate::real::Real;

    pub fn forward<T: Real>(x: &[T], y: &mut [T]) {
        parallel::blocks(
            y,
            #[inline(always)]
            |start, y| {
                for (y, &x) in y.iter_mut().zip(&x[start..]) {
                    *y = if x < T::zero() { T::zero() } else { x };
                }
            },
        );
    }

    pub fn backward<T: Real>(y: &[T], dy: &[T], dx: &mut [T]) {
        parallel::blocks(
            dx,
            #[inline(always)]
            |start, dx| {
                for ((dx, &y), &dy) in dx.iter_mut().zip(&y[start..]).zip(&dy[start..]) {
                    *dx = if y > T::zero() { dy } else { T::zero() };
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
        central_differences(&[9], |x| forward(&x[0]), |x, dy| Ok(vec![backward(&forward(&x[0])?, dy)?]));
    }

    #[test]
    fn nan_is_kept_and_zero_has_no_slope() {
        let x = Buffer::from_slice(&Device::Cpu, &[f32::NAN, 0.0, -0.5, 2.0]).unwrap();
        let y = forward(&x).unwrap();
        let values = y.to_vec::<f32>().unwrap();
        assert!(values[0].is_nan());
        assert_eq!(values[1..], [0.0, 0.0, 2.0]);
        let dy = Buffer::from_slice(&Device::Cpu, &[1.0f32; 4]).unwrap();
        assert_eq!(backward(&y, &dy).unwrap().to_vec::<f32>().unwrap(), [0.0, 0.0, 0.0, 1.0]);
    }
}
