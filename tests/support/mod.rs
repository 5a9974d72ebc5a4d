//! What the engine's tests share: the case table, the GPU of this process, and comparison with useful messages.
#![allow(dead_code)] // every test binary uses its own part of this module

pub mod cases;
pub mod smoke;

use gr2_kernels::{Device, GpuOptions, Precision};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The checkpoints of `tests/fixtures`.
pub const FIXTURES: [&str; 2] = ["qwen3-tied", "qwen3-untied"];

/// The directory of one of them.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// The GPU of this test process, opened once with shader checks on. Without an adapter the test is skipped aloud, or
/// fails if `REQUIRE_GPU=1`.
pub fn gpu(test: &str) -> Option<Device> {
    static GPU: OnceLock<Option<Device>> = OnceLock::new();
    let device = GPU.get_or_init(|| match Device::open("gpu", GpuOptions::for_tests()) {
        Ok(device) => Some(device),
        Err(error) => {
            assert!(std::env::var("REQUIRE_GPU").as_deref() != Ok("1"), "REQUIRE_GPU=1 and {error}");
            None
        }
    });
    if device.is_none() {
        println!("{test}: skipped, no Vulkan, Metal or DX12 adapter");
    }
    device.clone()
}

/// A GPU of this test process opened for mixed precision. Without matrix units the test is skipped aloud.
pub fn gpu_with_matrices(test: &str) -> Option<Device> {
    static GPU: OnceLock<Option<Device>> = OnceLock::new();
    let options = GpuOptions { precision: Precision::Mixed, ..GpuOptions::for_tests() };
    let device = GPU.get_or_init(|| Device::open("gpu", options).ok());
    if device.is_none() {
        println!("{test}: skipped, no adapter with matrix units");
    }
    device.clone()
}

/// Largest error of `found` relative to the largest magnitude of `expected` (at least `floor`), with its index.
pub fn worst_error(found: &[f64], expected: &[f64], floor: f64) -> (f64, usize) {
    assert_eq!(found.len(), expected.len(), "lengths differ");
    let scale = expected.iter().filter(|e| e.is_finite()).fold(floor.max(1e-30), |m, e| m.max(e.abs()));
    let mut worst = (0.0, 0);
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        let error = match (f.is_nan(), e.is_nan()) {
            (true, true) => 0.0,
            (false, false) if f == e => 0.0,
            (false, false) => (f - e).abs() / scale,
            _ => f64::INFINITY,
        };
        if error > worst.0 {
            worst = (error, i);
        }
    }
    worst
}

/// Asserts that `found` is within `tolerance` of `expected`, relative to the largest magnitude; names the worst.
pub fn assert_close(what: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    assert_close_at(what, found, expected, tolerance, 0.0);
}

/// As [`assert_close`], relative to `floor` where all of `expected` is smaller.
pub fn assert_close_at(what: &str, found: &[f64], expected: &[f64], tolerance: f64, floor: f64) {
    let (error, at) = worst_error(found, expected, floor);
    let pair = || format!("found {} expected {}", found[at], expected[at]);
    assert!(error <= tolerance, "{what}: error {error:.3e} > {tolerance:.1e} at {at}: {}", pair());
}

/// Numbers in (-1, 1) that depend on nothing but the seed.
pub fn numbers(seed: u64, len: usize) -> Vec<f64> {
    use rand::RngExt;
    let mut rng = gr2::tensor::stream(seed, "test numbers", 0, 0);
    (0..len).map(|_| rng.random::<f64>() * 2.0 - 1.0).collect()
}
