//! Attention of one new token per sequence to a two-part cache, and the upkeep of that cache.
//!
//! Prompt keys and values lie packed, (Tp, K, D), as prefill made them: many rows may read the same prompt. What each
//! row generates lies in its own slot of a suffix cache, (slots, capacity, K, D).
//!
//! - attention: here, `cpu.rs` (the twin) and `gpu.rs` (the two parts, in pieces that fit a binding); on large GPUs
//!   `split.rs` (the tokens of each row side by side), as `plan.rs` deals them out
//! - the cache's upkeep on both devices: `slots.rs`

mod cpu;
mod gpu;
mod plan;
mod slots;
mod split;
#[cfg(test)]
mod tests;

pub(crate) use gpu::PARTS;
pub(crate) use slots::{MOVE, NARROW};
pub use slots::{Places, copy_slots, grown_slots, write_tokens};
pub(crate) use split::{MERGE, SPLITS};

use crate::attention::Heads;
use crate::buffer::{Buffer, Dtype, Element, Float};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::narrow::Stored;
use crate::per_gpu::PerGpu;
use crate::profile;
use crate::real::Real;
use half::f16;
use std::ops::Range;
use std::sync::Arc;

/// What each active row attends to. Made once a step and used by every layer: a GPU uploads it once.
pub struct DecodeRows {
    list: Vec<DecodeRow>,
    tables: PerGpu<Buffer>,
    plans: PerGpu<Arc<split::Planned>>,
}

/// What one row attends to: a span of the packed prompts, and the beginning of a suffix slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeRow {
    /// First token of its prompt in the packed prompts.
    pub prompt_start: u32,
    /// Tokens of its prompt.
    pub prompt_len: u32,
    /// Its slot in the suffix cache.
    pub slot: u32,
    /// Tokens of its suffix, the current one included.
    pub suffix_len: u32,
}

impl DecodeRow {
    fn prompt(&self) -> Range<usize> {
        self.prompt_start as usize..self.prompt_start as usize + self.prompt_len as usize
    }

    /// Its tokens among all positions of all slots.
    fn suffix(&self, capacity: usize) -> Range<usize> {
        let start = self.slot as usize * capacity;
        start..start + self.suffix_len as usize
    }
}

impl DecodeRows {
    /// Rows in the order of the queries. Rows that share a prompt are fastest next to each other.
    pub fn new(list: Vec<DecodeRow>) -> DecodeRows {
        DecodeRows { list, tables: PerGpu::default(), plans: PerGpu::default() }
    }

    /// The rows.
    pub fn list(&self) -> &[DecodeRow] {
        &self.list
    }

    /// Where each row's current token goes: the last position of its suffix.
    ///
    /// Errors: `Shape` if a row has no suffix or two rows have the same slot.
    pub fn places(&self) -> Result<Places> {
        const OP: &str = "decode";
        if let Some(i) = self.list.iter().position(|r| r.suffix_len == 0) {
            return Err(Error::shape(OP, format!("row {i} has no suffix to hold its current token")));
        }
        Places::new(self.list.iter().map(|r| (r.slot, r.suffix_len - 1)).collect())
    }
}

/// Sizes of decoding attention.
#[derive(Debug, Clone, Copy)]
pub struct DecodeDims {
    /// H, K and D.
    pub heads: Heads,
    /// Tokens a suffix slot holds.
    pub capacity: usize,
    /// Factor on the scores, usually [`Heads::scale`].
    pub scale: f64,
}

/// `out_r = Σ_s p_rs v_s`, `p_r = softmax_s(scale q_r·k_s)` over the prompt and the suffix of row `r` together.
///
/// Shapes: `q`, `out` (R, H, D); `prompt` = keys and values (Tp, K, D); `suffix` = keys and values
/// (slots, capacity, K, D).
/// Dtypes: f32, the caches f32 or f16; f64 on the CPU.
/// Errors: `Shape` for sizes that disagree, a row outside the caches or one that attends to nothing; `Dtype`,
/// `DeviceMismatch`.
/// Source: the last row of [`crate::attention::forward`] over prompt and suffix.
pub fn decode(
    q: &Buffer,
    prompt: (&Buffer, &Buffer),
    suffix: (&Buffer, &Buffer),
    rows: &DecodeRows,
    dims: DecodeDims,
) -> Result<Buffer> {
    const OP: &str = "decode";
    let _span = profile::span(OP);
    let heads = dims.heads;
    heads.check(OP)?;
    q.device().expect_all(OP, &[prompt.0, prompt.1, suffix.0, suffix.1])?;
    q.expect_len(OP, "q", rows.list.len() * heads.q_width())?;
    let cache = stored_as(OP, prompt.0, q)?;
    for (name, operand) in [("prompt v", prompt.1), ("suffix k", suffix.0), ("suffix v", suffix.1)] {
        operand.expect_dtype(OP, name, cache)?;
    }
    prompt.1.expect_len(OP, "prompt v", prompt.0.len())?;
    let (tokens, slots) = (tokens_of(OP, "prompt", prompt.0, heads)?, slots_of(OP, suffix, dims)?);
    for (i, row) in rows.list.iter().enumerate() {
        let problem = if row.prompt().end > tokens {
            format!("row {i} reads prompt tokens {:?} of {tokens}", row.prompt())
        } else if row.suffix_len > 0 && row.slot as usize >= slots {
            format!("row {i} reads slot {} of {slots}", row.slot)
        } else if row.suffix_len as usize > dims.capacity {
            format!("row {i} has a suffix of {} tokens, a slot holds {}", row.suffix_len, dims.capacity)
        } else if row.prompt_len == 0 && row.suffix_len == 0 {
            format!("row {i} attends to no token")
        } else {
            continue;
        };
        return Err(Error::shape(OP, problem));
    }
    let mut out = Buffer::uninit(q.device(), OP, q.dtype(), q.len())?;
    if out.is_empty() {
        return Ok(out);
    }
    match (q.device(), q.expect_float(OP, "q")?) {
        (Device::Cpu, Float::Single) if cache == Dtype::F16 => {
            cpu_decode::<f32, f16>(q, prompt, suffix, rows, dims, &mut out)
        }
        (Device::Cpu, Float::Single) => cpu_decode::<f32, f32>(q, prompt, suffix, rows, dims, &mut out),
        (Device::Cpu, Float::Double) => cpu_decode::<f64, f64>(q, prompt, suffix, rows, dims, &mut out),
        (Device::Gpu(gpu), Float::Single) => {
            let parts = [
                gpu::Part { keys: prompt.0, values: prompt.1, table: 0 },
                gpu::Part { keys: suffix.0, values: suffix.1, table: 2 },
            ];
            gpu::decode(gpu, (q, &out), parts, rows, dims, gpu.max_binding())?;
        }
        (Device::Gpu(_), Float::Double) => q.expect_dtype(OP, "q", Dtype::F32)?,
    }
    Ok(out)
}

fn cpu_decode<T: Real, C: Stored<T> + Element>(
    q: &Buffer,
    prompt: (&Buffer, &Buffer),
    suffix: (&Buffer, &Buffer),
    rows: &DecodeRows,
    dims: DecodeDims,
    out: &mut Buffer,
) {
    let caches = cpu::Caches::<C> {
        prompt: (prompt.0.as_slice(), prompt.1.as_slice()),
        suffix: (suffix.0.as_slice(), suffix.1.as_slice()),
    };
    cpu::decode(q.as_slice(), &caches, &rows.list, dims, out.as_mut_slice());
}

/// What a cache is stored as beside f32 or f64 operands: as these, or as f16 beside f32.
///
/// Errors: `Dtype`.
fn stored_as(op: &'static str, cache: &Buffer, operand: &Buffer) -> Result<Dtype> {
    match (cache.dtype(), operand.expect_float(op, "operand")?) {
        (Dtype::F16, Float::Single) => Ok(Dtype::F16),
        _ => cache.expect_dtype(op, "cache", operand.dtype()).map(|()| operand.dtype()),
    }
}

/// Tokens in a packed key buffer.
fn tokens_of(op: &'static str, name: &str, keys: &Buffer, heads: Heads) -> Result<usize> {
    let width = heads.kv_width();
    match keys.len().checked_rem(width) {
        Some(0) => Ok(keys.len() / width),
        None if keys.is_empty() => Ok(usize::MAX),
        _ => Err(Error::shape(op, format!("{name} has {} elements, a token has {width}", keys.len()))),
    }
}

/// Slots in a suffix cache, whose keys and values are of one kind.
fn slots_of(op: &'static str, (keys, values): (&Buffer, &Buffer), dims: DecodeDims) -> Result<usize> {
    keys.device().expect_all(op, &[values])?;
    if keys.dtype() != Dtype::F16 {
        keys.expect_float(op, "suffix k")?;
    }
    values.expect_len(op, "suffix v", keys.len())?;
    values.expect_dtype(op, "suffix v", keys.dtype())?;
    let slot = dims.capacity * dims.heads.kv_width();
    match keys.len().checked_rem(slot) {
        Some(0) => Ok(keys.len() / slot),
        None if keys.is_empty() => Ok(usize::MAX),
        _ => Err(Error::shape(op, format!("the suffix cache has {} elements, a slot has {slot}", keys.len()))),
    }
}
