//! What the kernels' unit tests share: the gradient check, and a GPU for tests of what only launchers know.

use crate::{Buffer, Device, Gpu, GpuOptions, Precision, Result};
use std::sync::OnceLock;

/// The GPU of this test process, with shader checks on. Without an adapter the test is skipped aloud, or fails if
/// `REQUIRE_GPU=1`.
pub fn gpu(test: &str) -> Option<(Device, Gpu)> {
    static GPU: OnceLock<Option<Gpu>> = OnceLock::new();
    let gpu = GPU.get_or_init(|| match Device::open("gpu", GpuOptions::for_tests()) {
        Ok(Device::Gpu(gpu)) => Some(gpu),
        _ => {
            assert!(std::env::var("REQUIRE_GPU").as_deref() != Ok("1"), "REQUIRE_GPU=1 and no adapter");
            None
        }
    });
    if gpu.is_none() {
        println!("{test}: skipped, no Vulkan, Metal or DX12 adapter");
    }
    gpu.clone().map(|gpu| (Device::Gpu(gpu.clone()), gpu))
}

/// A GPU of this test process opened for mixed precision. Without matrix units the test is skipped aloud.
pub fn gpu_with_matrices(test: &str) -> Option<(Device, Gpu)> {
    static GPU: OnceLock<Option<Gpu>> = OnceLock::new();
    let options = GpuOptions { precision: Precision::Mixed, ..GpuOptions::for_tests() };
    let gpu = GPU.get_or_init(|| match Device::open("gpu", options) {
        Ok(Device::Gpu(gpu)) => Some(gpu),
        _ => None,
    });
    if gpu.is_none() {
        println!("{test}: skipped, no adapter with matrix units");
    }
    gpu.clone().map(|gpu| (Device::Gpu(gpu.clone()), gpu))
}

/// A fixed sequence of numbers in (-1, 1) without visible pattern.
pub fn numbers(seed: u64, len: usize) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// Asserts that `backward` (inputs, dy) -> gradients equals central differences of `Σ forward(inputs) · dy` in f64,
/// for inputs of these lengths.
pub fn central_differences(
    lengths: &[usize],
    forward: impl Fn(&[Buffer]) -> Result<Buffer>,
    backward: impl Fn(&[Buffer], &Buffer) -> Result<Vec<Buffer>>,
) {
    let upload = |v: &[f64]| Buffer::from_slice(&Device::Cpu, v).expect("upload");
    let mut inputs: Vec<Vec<f64>> = lengths.iter().enumerate().map(|(i, &n)| numbers(i as u64 + 1, n)).collect();
    let buffers: Vec<Buffer> = inputs.iter().map(|v| upload(v)).collect();
    let y = forward(&buffers).expect("forward");
    let dy = numbers(99, y.len());
    let gradients = backward(&buffers, &upload(&dy)).expect("backward");
    assert_eq!(gradients.len(), lengths.len(), "one gradient per input");
    let loss = |inputs: &[Vec<f64>]| -> f64 {
        let buffers: Vec<Buffer> = inputs.iter().map(|v| upload(v)).collect();
        let y = forward(&buffers).expect("forward").to_vec::<f64>().expect("download");
        y.iter().zip(&dy).map(|(y, d)| y * d).sum()
    };
    const STEP: f64 = 1e-5;
    for i in 0..inputs.len() {
        let found = gradients[i].to_vec::<f64>().expect("download");
        for j in 0..inputs[i].len() {
            let centre = inputs[i][j];
            inputs[i][j] = centre + STEP;
            let above = loss(&inputs);
            inputs[i][j] = centre - STEP;
            let below = loss(&inputs);
            inputs[i][j] = centre;
            let expected = (above - below) / (2.0 * STEP);
            // truncation of the central difference is O(STEP²) = 1e-10, rounding about 1e-16 / STEP = 1e-11
            let error = (found[j] - expected).abs() / (1.0 + expected.abs());
            assert!(error < 1e-8, "input {i}[{j}]: backward {} differences {expected}", found[j]);
        }
    }
}
