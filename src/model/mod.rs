//! The Qwen3 architecture: configuration, transformer, checkpoints.
//!
//! Unusual about it: no biases, queries and keys are normalised per head before the rotary embedding, the head width
//! is independent of the hidden size, and several query heads share a key/value head.

mod block;
mod checkpoint;
mod config;
mod transformer;

pub use checkpoint::{load, load_as, save_weights};
pub use config::Qwen3Config;
pub use transformer::Qwen3;
