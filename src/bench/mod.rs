//! How fast this program is on a device: its kernels one by one, and a whole model in training and sampling.

mod kernels;
mod model;
mod preset;

pub use kernels::{KernelBench, KernelReport, bench_kernels};
pub use model::{ModelBench, ModelReport, bench_model};
pub use preset::Preset;
