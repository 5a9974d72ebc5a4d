//! WGSL kernels on wgpu, each with a CPU twin that is its specification.
#![deny(missing_docs)]

/// Placeholder until the device layer lands in the next commit.
#[derive(Debug, thiserror::Error)]
pub enum Error {}
