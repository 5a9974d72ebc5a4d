//! Where kernels run: the CPU, or a GPU opened through wgpu.
//!
//! - [`gpu`](self): adapter choice, limits, health (`gpu.rs`); measured choices between kernels (`choices.rs`)
//! - memory: pooled GPU buffers (`memory.rs`), host blocks (`host.rs`)
//! - commands: one open compute pass, uploads and downloads in order (`stream.rs`), submitted by a thread of their own
//!   (`submit.rs`)
//! - timestamps: GPU time of every dispatch while profiling is on (`timestamps.rs`)
//! - pipelines: one compilation per kernel, cached bind groups (`pipeline.rs`), what the driver has compiled
//!   (`pipeline_cache.rs`), the kernels' texts: values exchanged as
//!   the adapter allows (`exchange.rs`), matrix units (`matrices.rs`), lines repeated (`unroll.rs`), accesses of one
//!   element or of four (`widths.rs`); matrix units need SPIR-V of our own on Vulkan (`spirv.rs`)

mod choices;
mod exchange;
mod gpu;
pub(crate) mod host;
mod matrices;
mod memory;
mod pipeline;
mod pipeline_cache;
mod spirv;
mod stream;
mod submit;
mod timestamps;
mod unroll;
mod widths;

pub(crate) use choices::{Choices, Key};
pub use exchange::Exchange;
pub(crate) use exchange::{REDUCE, ROW_VALUES};
pub use gpu::{AdapterSummary, Counters, Gpu, GpuOptions, Precision, Tuning, adapters};
pub use matrices::{MATRICES, Matrices};
pub(crate) use memory::GpuMemory;
pub use pipeline::{Access, Constant, Kernel};
pub use spirv::Spirv;
pub(crate) use widths::{FOURS, ONES, Widths};

use crate::error::{Error, Result};
use crate::pieces::pieces;
use std::ops::Range;

/// The CPU, or one opened GPU. Cheap to clone.
#[derive(Clone)]
pub enum Device {
    /// This machine's processors: the twins, on all rayon threads.
    Cpu,
    /// A GPU adapter through wgpu.
    Gpu(Gpu),
}

impl Device {
    /// Opens a device by name: `cpu`; `gpu` (the best adapter, software ones included); `gpu:N` (the N-th of
    /// `gr2 devices`); `auto` (a hardware GPU if there is one, else the CPU).
    ///
    /// Errors: `NoAdapter`, `Unsupported`.
    pub fn open(name: &str, options: GpuOptions) -> Result<Device> {
        let summaries = || adapters().into_iter().map(|(summary, _)| summary).collect::<Vec<_>>();
        match name {
            "cpu" => Ok(Device::Cpu),
            "auto" => match summaries().iter().position(|a| a.hardware) {
                Some(index) => Ok(Device::Gpu(Gpu::open(index, options)?)),
                None => Ok(Device::Cpu),
            },
            "gpu" => Ok(Device::Gpu(Gpu::open(0, options)?)),
            _ => {
                let index = name.strip_prefix("gpu:").and_then(|n| n.parse().ok());
                let index = index.ok_or_else(|| Error::NoAdapter { wanted: format!("`{name}`") })?;
                Ok(Device::Gpu(Gpu::open(index, options)?))
            }
        }
    }

    /// True if both are the CPU or the same opened GPU.
    pub fn same(&self, other: &Device) -> bool {
        match (self, other) {
            (Device::Cpu, Device::Cpu) => true,
            (Device::Gpu(a), Device::Gpu(b)) => a.same(b),
            _ => false,
        }
    }

    /// Fails with `DeviceMismatch` unless every buffer is on this device.
    pub(crate) fn expect_all(&self, op: &'static str, buffers: &[&crate::Buffer]) -> Result<()> {
        match buffers.iter().find(|b| !b.device().same(self)) {
            None => Ok(()),
            Some(b) => Err(Error::DeviceMismatch { op, first: self.to_string(), second: b.device().to_string() }),
        }
    }

    /// Bytes in live buffers, and the most ever held, idle ones included.
    pub fn memory(&self) -> (u64, u64) {
        match self {
            Device::Cpu => host::memory(),
            Device::Gpu(gpu) => gpu.memory(),
        }
    }

    /// True if products are made of operands rounded to f16.
    pub fn rounds_products(&self) -> bool {
        matches!(self, Device::Gpu(gpu) if gpu.mixed())
    }

    /// What a GPU was asked to do since it was opened; nothing on the CPU.
    pub fn counters(&self) -> Counters {
        match self {
            Device::Cpu => Counters::default(),
            Device::Gpu(gpu) => gpu.counters(),
        }
    }

    /// Waits until everything queued has run.
    pub fn synchronize(&self) -> Result<()> {
        match self {
            Device::Cpu => Ok(()),
            Device::Gpu(gpu) => gpu.synchronize(),
        }
    }
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            Device::Gpu(gpu) => f.write_str(&gpu.summary().name),
        }
    }
}

/// `limit`, or what `most` rows of `row_bytes` take if that is less: for [`split_rows`], whose pieces are of 64 rows at least.
pub(crate) fn limit_of_rows(limit: u64, most: usize, row_bytes: usize) -> u64 {
    limit.min(most.max(64).saturating_mul(row_bytes) as u64)
}

/// Splits `rows` so that a piece of every operand (`row_bytes` each) fits one binding of at most `limit` bytes; pieces
/// start at multiples of 64 rows, which keeps 4-byte rows aligned to 256 bytes.
///
/// Errors: `Binding` if 64 rows of an operand do not fit.
pub(crate) fn split_rows(op: &'static str, rows: usize, row_bytes: &[usize], limit: u64) -> Result<Vec<Range<usize>>> {
    const STEP: usize = 64;
    let widest = row_bytes.iter().copied().max().unwrap_or(0).max(1) as u64;
    if rows as u64 * widest <= limit {
        return Ok(if rows == 0 { vec![] } else { std::iter::once(0..rows).collect() });
    }
    let piece = (limit / widest) as usize / STEP * STEP;
    if piece == 0 {
        return Err(Error::Binding { op, bytes: widest * STEP as u64, limit });
    }
    Ok(pieces(0..rows, piece).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_split_at_aligned_starts_and_cover_everything_once() {
        let pieces = split_rows("test", 1000, &[400, 12], 400 * 200).unwrap();
        assert_eq!(pieces.first().unwrap().start, 0);
        assert_eq!(pieces.last().unwrap().end, 1000);
        assert!(pieces.windows(2).all(|w| w[0].end == w[1].start && w[1].start % 64 == 0));
        assert!(pieces.iter().all(|p| p.len() * 400 <= 400 * 200));
        assert_eq!(split_rows("test", 5, &[4], 128).unwrap(), vec![0..5]);
        assert!(split_rows("test", 0, &[4], 128).unwrap().is_empty());
        assert!(matches!(split_rows("test", 100, &[4000], 4000), Err(Error::Binding { .. })));
    }
}
