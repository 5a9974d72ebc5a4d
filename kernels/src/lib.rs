//! WGSL kernels on wgpu, each with a CPU twin that is its specification and the default where there is no GPU.
//!
//! A kernel module holds the launcher (one function that serves both devices), its parameters, and `mod cpu`, the
//! twin. Launchers check sizes and dtypes, allocate their outputs from the device's pool and return them; what a
//! launcher changes in place it takes as `&mut Buffer`. Nothing here knows of gradients, models or files.
//!
//! # Letters
//!
//! | letter | means | letter | means |
//! |---|---|---|---|
//! | B | batch | V | vocabulary |
//! | T | time (tokens, packed over sequences) | L | layers |
//! | C | channels | Q | quantiser levels |
//! | H | query heads | N | codes per level |
//! | K | key/value heads | G | rollouts per prompt |
//! | D | head width | R | rows after flattening |
//! | F | feed-forward width | S | sequences (segments) |
//!
//! Row-major, last dimension fastest: `(B, T, C)`.
#![deny(missing_docs)]
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod bench;
pub mod buffer;
#[cfg(test)]
mod check;
pub mod device;
pub mod error;
mod parallel;
mod per_gpu;
mod pieces;
mod product;
pub mod profile;
pub mod real;
mod rows;
mod vector;

pub mod adamw;
pub mod attention;
pub mod decode;
pub mod dropout;
pub mod elementwise;
pub mod gather;
pub mod logprob;
pub mod matmul;
pub mod narrow;
pub mod quantize;
pub mod reduce;
pub mod relu;
pub mod restrict;
pub mod rms_norm;
pub mod rope;
pub mod sampling;
pub mod segment;
pub mod softmax;
pub mod swiglu;

pub use attention::{Segment, Segments};
pub use buffer::{Buffer, Dtype, Element};
pub use device::{Device, Gpu, GpuOptions, Precision};
pub use error::{Error, Result};
pub use real::Real;

/// Workgroup size of kernels that use `common/reduce.wgsl`.
const REDUCE_WIDTH: device::Constant = device::Constant { name: "WG", wide: 256.0, small: 8.0 };

/// Every kernel of the crate, for the tests that validate and translate each shader.
pub fn kernels() -> Vec<&'static device::Kernel> {
    let mut all = vec![];
    all.extend([&attention::FORWARD, &attention::STATS, &attention::DQ, &attention::DKV]);
    all.extend(attention::COOPERATIVE.iter().flat_map(|k| k.all()));
    all.extend([&decode::MERGE, &decode::MOVE, &decode::NARROW]);
    all.extend(decode::PARTS.iter().chain(decode::SPLITS.as_flattened()));
    all.extend([&reduce::SUM, &reduce::SUM_SQUARES, &reduce::COLUMNS]);
    all.extend([&segment::SUM, &quantize::NEAREST, &restrict::RESTRICT]);
    all.extend([&sampling::ARGMAX, &sampling::MEASURE, &sampling::SAMPLE]);
    all.extend(matmul::KERNELS.as_flattened().as_flattened());
    all.extend(matmul::HALVES.as_flattened().as_flattened());
    all.extend(matmul::OF_ROUNDED.iter().chain(&matmul::ROUND));
    all.extend(matmul::EACH.as_flattened());
    all.extend(matmul::SWIGLU.as_flattened());
    all.extend(&gather::GATHER_NARROW);
    all.push(&rms_norm::WEIGHT_PARTIALS);
    let mut widths = vec![&softmax::FORWARD, &softmax::BACKWARD, &logprob::STATS, &logprob::GRADIENT];
    widths.extend([&swiglu::FORWARD, &swiglu::BACKWARD, &relu::FORWARD, &relu::BACKWARD]);
    widths.extend([&gather::GATHER, &dropout::DROPOUT, &adamw::UPDATE]);
    widths.extend(rms_norm::KERNELS);
    widths.extend(rope::KERNELS);
    widths.extend(elementwise::KERNELS);
    all.extend(widths.into_iter().flat_map(device::Widths::all));
    all.extend(&bench::KERNELS);
    all
}
