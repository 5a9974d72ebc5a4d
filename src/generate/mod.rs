//! Generation: how the next token is chosen from logits.

mod sampler;

pub use sampler::{Sampler, SamplerConfig};
