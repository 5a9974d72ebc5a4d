//! What the unit tests of several modules share.

use gr2_kernels::{Device, Gpu, GpuOptions};

/// A GPU with shader checks on. Without an adapter the test is skipped aloud, or fails if `REQUIRE_GPU=1`.
pub fn gpu(test: &str) -> Option<(Device, Gpu)> {
    match Device::open("gpu", GpuOptions::for_tests()) {
        Ok(Device::Gpu(gpu)) => Some((Device::Gpu(gpu.clone()), gpu)),
        _ => {
            assert!(std::env::var("REQUIRE_GPU").as_deref() != Ok("1"), "REQUIRE_GPU=1 and no adapter");
            println!("{test}: skipped, no Vulkan, Metal or DX12 adapter");
            None
        }
    }
}
