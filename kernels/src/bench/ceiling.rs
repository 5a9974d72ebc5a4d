//! What a device can do at most: chains of multiply-adds in registers, and copies.

use super::measure::median_seconds;
use crate::buffer::{Buffer, Dtype};
use crate::device::{Access, Constant, Device, Gpu, Kernel};
use crate::error::Result;
use crate::vector::{ARCH, Vector};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

const SOURCES: &[&str] =
    &[include_str!("../../../shaders/common/grid.wgsl"), include_str!("../../../shaders/ceiling.wgsl")];
const WIDTH: Constant = Constant { name: "WG", wide: 256.0, small: 8.0 };

const fn kernel(name: &'static str, entry: &'static str, bindings: &'static [Access]) -> Kernel {
    Kernel { name, sources: SOURCES, entry, bindings, constants: &[WIDTH], params: size_of::<Params>() }
}

pub(crate) static KERNELS: [Kernel; 2] = [
    kernel("ceiling.multiply_add", "multiply_add", &[Access::Write]),
    kernel("ceiling.copy", "copy", &[Access::Read, Access::Write]),
];

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    n: u32,
    s: f32,
}

/// The most that was measured of a device.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ceilings {
    /// f32 operations per second, a multiply-add being two.
    pub flops: f64,
    /// Bytes read and written per second by a copy that no cache holds.
    pub bytes: f64,
}

/// Measures a device for about a second.
pub fn ceilings(device: &Device) -> Result<Ceilings> {
    match device {
        Device::Cpu => cpu(),
        Device::Gpu(gpu) => on_gpu(device, gpu),
    }
}

/// Seconds each measurement takes.
const BUDGET: f64 = 0.5;
/// Multiply-adds in one chain of a shader invocation, and chains side by side, each of four lanes.
const CHAIN: u64 = 512;
const CHAINS: u64 = 8 * 4;

fn on_gpu(device: &Device, gpu: &Gpu) -> Result<Ceilings> {
    let small = gpu.small_simd();
    let groups = if small { 256 } else { 16_384 };
    let invocations = groups * WIDTH.on(gpu) as u64;
    let out = Buffer::uninit(device, "ceiling", Dtype::F32, 4 * invocations as usize)?;
    let params = Params { n: invocations as u32, s: 0.5 };
    // it may have had nothing to do for long
    let idle = f64::INFINITY;
    let timing = median_seconds(device, BUDGET, idle, || gpu.run(&KERNELS[0], &[out.bind_all()], &params, groups))?;
    let flops = (2 * CHAIN * CHAINS * invocations) as f64 / timing.seconds;

    let bytes = gpu.max_binding().min(if small { 64 << 20 } else { 1 << 30 });
    let n = (bytes / 16) as u32;
    let from = Buffer::zeros(device, "ceiling", Dtype::F32, 4 * n as usize)?;
    let to = Buffer::uninit(device, "ceiling", Dtype::F32, 4 * n as usize)?;
    let params = Params { n, s: 1.0 };
    let groups = (n as u64).div_ceil(4 * WIDTH.on(gpu) as u64);
    let binds = [from.bind_all(), to.bind_all()];
    let timing = median_seconds(device, BUDGET, 0.0, || gpu.run(&KERNELS[1], &binds, &params, groups))?;
    Ok(Ceilings { flops, bytes: 2.0 * bytes as f64 / timing.seconds })
}

fn cpu() -> Result<Ceilings> {
    const LENGTH: usize = 1 << 16;
    let threads = rayon::current_num_threads();
    let mut lanes = 0;
    let timing = median_seconds(&Device::Cpu, BUDGET, 0.0, || {
        let found = rayon::broadcast(|_| ARCH.dispatch(Chains { length: LENGTH, s: 0.5 }));
        lanes = found[0].0;
        std::hint::black_box(found);
        Ok(())
    })?;
    let flops = (2 * threads * LENGTH * WIDTHS * lanes) as f64 / timing.seconds;

    // several times any last-level cache a thread can have to itself
    let n = (64 << 20) * threads.min(8) / 4;
    let from = vec![1.0f32; n];
    let mut to = vec![0.0f32; n];
    let timing = median_seconds(&Device::Cpu, BUDGET, 0.0, || {
        let part = n.div_ceil(4 * threads);
        to.par_chunks_mut(part).zip(from.par_chunks(part)).for_each(|(to, from)| to.copy_from_slice(from));
        std::hint::black_box(&mut to);
        Ok(())
    })?;
    Ok(Ceilings { flops, bytes: (2 * 4 * n) as f64 / timing.seconds })
}

/// Chains of multiply-adds side by side: as many as hide the latency of one on any processor.
const WIDTHS: usize = 12;

struct Chains {
    length: usize,
    s: f32,
}

impl WithSimd for Chains {
    /// Lanes of a vector, and a sum that keeps the chains from being optimised away.
    type Output = (usize, f32);

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> (usize, f32) {
        let s = simd.splat_f32s(std::hint::black_box(self.s));
        let mut chains = [s; WIDTHS];
        for _ in 0..self.length {
            for chain in &mut chains {
                *chain = f32::multiply_add(simd, *chain, s, s);
            }
        }
        let total = chains.into_iter().fold(simd.splat_f32s(0.0), |sum, x| simd.add_f32s(sum, x));
        (size_of::<S::f32s>() / size_of::<f32>(), simd.reduce_sum_f32s(total))
    }
}
