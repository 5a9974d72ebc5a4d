//! Causal grouped-query attention over packed segments, with shared prefixes and without a mask in memory.
//!
//! - launchers and their parameters: here
//! - who attends to whom: [`Segments`] (`segments.rs`)
//! - `cpu.rs`: the twin, products of small blocks
//! - `cooperative.rs`: kernels on matrix units, f16 products (`shaders/attention_cooperative.wgsl`)
//! - `gpu.rs`: tiled WGSL kernels (`shaders/attention.wgsl`), and how operands past one binding are taken in pieces

mod cooperative;
mod cpu;
mod gpu;
mod segments;
#[cfg(test)]
mod tests;

pub(crate) use cooperative::KERNELS as COOPERATIVE;
pub(crate) use gpu::{DKV, DQ, FORWARD, STATS};
pub use segments::{Segment, Segments};

use crate::buffer::{Buffer, Float};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::profile;
use crate::real::Real;

/// Sizes of one token's heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    /// Query heads H, a multiple of `kv`; query head h reads key/value head `h / (H / K)`.
    pub query: usize,
    /// Key/value heads K.
    pub kv: usize,
    /// Head width D.
    pub dim: usize,
}

impl Heads {
    /// The usual factor on the scores, `1 / √D`.
    pub fn scale(&self) -> f64 {
        1.0 / (self.dim.max(1) as f64).sqrt()
    }

    /// Query heads that share one key/value head.
    pub(crate) fn group(&self) -> usize {
        self.query / self.kv
    }

    /// Elements of one token's queries.
    pub(crate) fn q_width(&self) -> usize {
        self.query * self.dim
    }

    /// Elements of one token's keys, or values.
    pub(crate) fn kv_width(&self) -> usize {
        self.kv * self.dim
    }

    /// Fails unless the query heads share the key/value heads evenly.
    pub(crate) fn check(&self, op: &'static str) -> Result<()> {
        match self.kv > 0 && self.query.is_multiple_of(self.kv) {
            true => Ok(()),
            false => Err(Error::shape(op, format!("{} query heads over {} key/value heads", self.query, self.kv))),
        }
    }
}

/// What attention reads.
#[derive(Clone, Copy)]
pub struct Operands<'a> {
    /// Queries (T, H, D), rotated.
    pub q: &'a Buffer,
    /// Keys (T, K, D), rotated.
    pub k: &'a Buffer,
    /// Values (T, K, D).
    pub v: &'a Buffer,
    /// Who attends to whom.
    pub segments: &'a Segments,
    /// H, K and D.
    pub heads: Heads,
    /// Factor on the scores, usually [`Heads::scale`].
    pub scale: f64,
}

impl Operands<'_> {
    fn check(&self, op: &'static str) -> Result<Float> {
        self.heads.check(op)?;
        let tokens = self.segments.tokens();
        self.q.device().expect_all(op, &[self.k, self.v])?;
        self.q.expect_len(op, "q", tokens * self.heads.q_width())?;
        for (name, operand) in [("k", self.k), ("v", self.v)] {
            operand.expect_len(op, name, tokens * self.heads.kv_width())?;
            operand.expect_dtype(op, name, self.q.dtype())?;
        }
        self.q.expect_float(op, "q")
    }
}

/// What [`backward`] needs of [`forward`].
#[derive(Debug, Clone)]
pub struct Attended {
    /// The output (T, H, D).
    pub out: Buffer,
    /// `ln Σ exp(scale q·k)` of each query (T, H).
    pub lse: Buffer,
}

/// Gradients of attention's inputs.
#[derive(Debug, Clone)]
pub struct Gradients {
    /// Of the queries (T, H, D).
    pub dq: Buffer,
    /// Of the keys (T, K, D).
    pub dk: Buffer,
    /// Of the values (T, K, D).
    pub dv: Buffer,
}

/// `out_t = Σ_s p_ts v_s`, `p_t = softmax_s(scale q_t·k_s)` over the keys `s` that token `t` sees: those of its own
/// segment up to itself, and its segment's whole prefix.
///
/// Shapes: `q`, `out` (T, H, D); `k`, `v` (T, K, D); `lse` (T, H). Memory is linear in T.
/// Dtypes: f32; f64 on the CPU.
/// Errors: `Shape`, `Dtype`, `DeviceMismatch`.
/// Source: Dao 2023, arXiv:2307.08691, algorithm 1; torch.nn.functional.scaled_dot_product_attention with the mask
/// that the segments describe.
pub fn forward(x: &Operands) -> Result<Attended> {
    const OP: &str = "attention";
    let _span = profile::span(OP);
    let float = x.check(OP)?;
    let (device, dtype, rows) = (x.q.device(), x.q.dtype(), x.segments.tokens() * x.heads.query);
    let mut y = Attended {
        out: Buffer::uninit(device, OP, dtype, rows * x.heads.dim)?,
        lse: Buffer::uninit(device, OP, dtype, rows)?,
    };
    match (device, float) {
        (Device::Cpu, Float::Single) => cpu_forward::<f32>(x, &mut y),
        (Device::Cpu, Float::Double) => cpu_forward::<f64>(x, &mut y),
        (Device::Gpu(gpu), Float::Single) => match cooperative::kernels(gpu, x, gpu.max_binding()) {
            Some(kernels) => cooperative::forward(gpu, kernels, x, &y)?,
            None => gpu::forward(gpu, x, &y, gpu.max_binding())?,
        },
        (Device::Gpu(_), Float::Double) => x.q.expect_dtype(OP, "q", crate::Dtype::F32)?,
    }
    Ok(y)
}

/// Gradients of `Σ out · dout`: with `p` as in [`forward`] and `ds = p (dout·v - dout·out)`,
/// `dv = Σ p dout`, `dq = scale Σ ds k`, `dk = scale Σ ds q`. The probabilities are computed again from `lse`.
///
/// Every gradient is summed in a fixed order: same inputs, same bits.
///
/// Shapes: `dout` (T, H, D), the rest as in [`forward`].
/// Errors: `Shape`, `Dtype`, `DeviceMismatch`.
/// Source: Dao 2023, arXiv:2307.08691, algorithm 2; on a GPU in two passes, so that nothing is added atomically.
pub fn backward(x: &Operands, y: &Attended, dout: &Buffer) -> Result<Gradients> {
    const OP: &str = "attention backward";
    let _span = profile::span(OP);
    let float = x.check(OP)?;
    let (device, dtype, rows) = (x.q.device(), x.q.dtype(), x.segments.tokens() * x.heads.query);
    device.expect_all(OP, &[&y.out, &y.lse, dout])?;
    let width = x.heads.dim;
    for (name, operand, len) in [("out", &y.out, rows * width), ("lse", &y.lse, rows), ("dout", dout, rows * width)] {
        operand.expect_len(OP, name, len)?;
        operand.expect_dtype(OP, name, dtype)?;
    }
    let mut gradients = Gradients {
        dq: Buffer::uninit(device, OP, dtype, x.q.len())?,
        dk: Buffer::uninit(device, OP, dtype, x.k.len())?,
        dv: Buffer::uninit(device, OP, dtype, x.v.len())?,
    };
    match (device, float) {
        (Device::Cpu, Float::Single) => cpu_backward::<f32>(x, y, dout, &mut gradients),
        (Device::Cpu, Float::Double) => cpu_backward::<f64>(x, y, dout, &mut gradients),
        (Device::Gpu(gpu), Float::Single) => match cooperative::kernels(gpu, x, gpu.max_binding()) {
            Some(kernels) => cooperative::backward(gpu, kernels, x, y, dout, &gradients)?,
            None => gpu::backward(gpu, x, y, dout, &gradients, gpu.max_binding())?,
        },
        (Device::Gpu(_), Float::Double) => x.q.expect_dtype(OP, "q", crate::Dtype::F32)?,
    }
    Ok(gradients)
}

fn cpu_inputs<'a, T: Real>(x: &Operands<'a>) -> cpu::Inputs<'a, T> {
    cpu::Inputs {
        q: x.q.as_slice(),
        k: x.k.as_slice(),
        v: x.v.as_slice(),
        segments: x.segments,
        heads: x.heads,
        scale: T::of(x.scale),
    }
}

fn cpu_forward<T: Real>(x: &Operands, y: &mut Attended) {
    cpu::forward::<T>(&cpu_inputs(x), y.out.as_mut_slice(), y.lse.as_mut_slice());
}

fn cpu_backward<T: Real>(x: &Operands, y: &Attended, dout: &Buffer, gradients: &mut Gradients) {
    let of_inputs = [&mut gradients.dq, &mut gradients.dk, &mut gradients.dv].map(Buffer::as_mut_slice);
    cpu::backward::<T>(&cpu_inputs(x), (y.out.as_slice(), y.lse.as_slice()), dout.as_slice(), of_inputs);
}
