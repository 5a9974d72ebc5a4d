//! The Qwen3 architecture: configuration, transformer, checkpoints.
//!
//! Unusual about it: no biases, queries and keys are normalised per head before the rotary embedding, the head width
//! is independent of the hidden size, and several query heads share a key/value head.

mod block;
mod checkpoint;
mod config;
mod config_keys;
mod rope_config;
mod transformer;
mod weight_files;

pub use checkpoint::{load, load_as, save_weights};
pub use config::Qwen3Config;
pub(crate) use config_keys::{one_or_many, token_ids};
pub use transformer::Qwen3;
