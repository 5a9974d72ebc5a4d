//! How fast this program is on a device: its kernels one by one, and a whole model in training and sampling. And which way of a
//! product is the fastest there.

mod kernels;
mod model;
mod preset;
mod tune;

pub use kernels::{KernelBench, KernelReport, bench_kernels};
pub use model::{ModelBench, ModelReport, bench_model};
pub use preset::Preset;
pub use tune::{Tuning, products, tune_products, tuning_head};
