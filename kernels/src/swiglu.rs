//! The gated activation of the feed-forward layer.

use crate::buffer::{Buffer, Dtype, Float};
use crate::device::{Access, Device, Widths};
use crate::elementwise::{element_kernel, launch, sources};
use crate::error::Result;
use crate::profile;

const SOURCES: &[[&str; 4]; 2] =
    &sources(concat!(include_str!("../../shaders/common/sigmoid.wgsl"), include_str!("../../shaders/swiglu.wgsl"),));

pub(crate) static FORWARD: Widths =
    element_kernel::<Params>("swiglu.forward", SOURCES, "forward", &[Access::Read, Access::Read, Access::Write]);

pub(crate) static BACKWARD: Widths = element_kernel::<Params>(
    "swiglu.backward",
    SOURCES,
    "backward",
    &[Access::Read, Access::Read, Access::Read, Access::Write, Access::Write],
);

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    n: u32,
}

/// `y = silu(gate) up`, `silu(x) = x / (1 + exp(-x))`.
///
/// Shapes: equal. Dtypes: f32; f64 on the CPU.
/// Errors: `Shape`, `Dtype`, `DeviceMismatch`.
/// Source: Shazeer 2020, arXiv:2002.05202; `silu(gate) * up` of Hugging Face's Qwen3MLP.
pub fn forward(gate: &Buffer, up: &Buffer) -> Result<Buffer> {
    const OP: &str = "swiglu";
    let _span = profile::span(OP);
    gate.device().expect_all(OP, &[up])?;
    up.expect_len(OP, "up", gate.len())?;
    up.expect_dtype(OP, "up", gate.dtype())?;
    let mut y = Buffer::uninit(gate.device(), OP, gate.dtype(), gate.len())?;
    match gate.device() {
        Device::Cpu => match gate.expect_float(OP, "gate")? {
            Float::Single => cpu::forward::<f32>(gate.as_slice(), up.as_slice(), y.as_mut_slice()),
            Float::Double => cpu::forward::<f64>(gate.as_slice(), up.as_slice(), y.as_mut_slice()),
        },
        Device::Gpu(gpu) => {
            gate.expect_dtype(OP, "gate", Dtype::F32)?;
            launch(gpu, &FORWARD, y.len(), |r| {
                let params = Params { n: r.len() as u32 };
                ([gate.bind(r.clone()), up.bind(r.clone()), y.bind(r)], params)
            })?;
        }
    }
    Ok(y)
}

/// `(dgate, dup)` from the output's gradient: `dgate = dy up s (1 + gate (1 - s))`, `dup = dy gate s` with
/// `s = 1 / (1 + exp(-gate))`.
///
/// Shapes: equal. Dtypes: f32; f64 on the CPU.
/// Errors: `Shape`, `Dtype`, `DeviceMismatch`.
pub fn backward(gate: &Buffer, up: &Buffer, dy: &Buffer) -> Result<(Buffer, Buffer)> {
    const OP: &str = "swiglu backward";
    let _span = profile::span(OP);
    gate.device().expect_all(OP, &[up, dy])?;
    for (name, x) in [("up", up), ("dy", dy)] {
        x.expect_len(OP, name, gate.len())?;
        x.expect_dtype(OP, name, gate.dtype())?;
    }
    let new = || Buffer::uninit(gate.device(), OP, gate.dtype(), gate.len());
    let (mut dgate, mut dup) = (new()?, new()?);
    match gate.device() {
        Device::Cpu => match gate.expect_float(OP, "gate")? {
            Float::Single => {
                cpu::backward::<f32>([gate, up, dy].map(Buffer::as_slice), [dgate.as_mut_slice(), dup.as_mut_slice()])
            }
            Float::Double => {
                cpu::backward::<f64>([gate, up, dy].map(Buffer::as_slice), [dgate.as_mut_slice(), dup.as_mut_slice()])
            }
        },
        Device::Gpu(gpu) => {
            gate.expect_dtype(OP, "gate", Dtype::F32)?;
            launch(gpu, &BACKWARD, gate.len(), |r| {
                let params = Params { n: r.len() as u32 };
                ([gate, up, dy, &dgate, &dup].map(|x| x.bind(r.clone())), params)
            })?;
        }
    }
    Ok((dgate, dup))
}

mod cpu {
    use crate::parallel;
    use crate::real::Real;

    #[inline(always)]
    fn sigmoid<T: Real>(x: T) -> T {
        T::one() / (T::one() + (-x).fast_exp())
    }

    pub fn forward<T: Real>(gate: &[T], up: &[T], y: &mut [T]) {
        parallel::blocks(
            y,
            #[inline(always)]
            |start, y| {
                for ((y, &g), &u) in y.iter_mut().zip(&gate[start..]).zip(&up[start..]) {
                    *y = g * sigmoid(g) * u;
                }
            },
        );
    }

    pub fn backward<T: Real>([gate, up, dy]: [&[T]; 3], gradients: [&mut [T]; 2]) {
        parallel::blocks_of(
            gradients,
            #[inline(always)]
            |start, [dgate, dup]| {
                let inputs = gate[start..].iter().zip(&up[start..]).zip(&dy[start..]);
                for ((dgate, dup), ((&g, &u), &dy)) in dgate.iter_mut().zip(dup.iter_mut()).zip(inputs) {
                    let s = sigmoid(g);
                    *dgate = dy * u * s * (T::one() + g * (T::one() - s));
                    *dup = dy * g * s;
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
        central_differences(
            &[9, 9],
            |x| forward(&x[0], &x[1]),
            |x, dy| backward(&x[0], &x[1], dy).map(|(dgate, dup)| vec![dgate, dup]),
        );
    }

    #[test]
    fn far_gates_pass_or_block() {
        let gate = Buffer::from_slice(&Device::Cpu, &[200.0f32, -200.0, 0.0]).unwrap();
        let up = Buffer::from_slice(&Device::Cpu, &[3.0f32; 3]).unwrap();
        assert_eq!(forward(&gate, &up).unwrap().to_vec::<f32>().unwrap(), [600.0, 0.0, 0.0]);
        let (dgate, dup) = backward(&gate, &up, &up).unwrap();
        assert_eq!(dgate.to_vec::<f32>().unwrap(), [9.0, 0.0, 4.5]);
        assert_eq!(dup.to_vec::<f32>().unwrap(), [600.0, 0.0, 0.0]);
    }
}
