//! Generation: a KV cache that continuations of one prompt share, batched sampling under a
//! grammar, and beam search under a constraint.
//!
//! - sampling: what is asked (`rollout.rs`), the continuations that are decoded together (`batch.rs`), the draw (`sampler.rs`)
//! - the cache (`cache.rs`), and which of its room for prompts is free (`spans.rs`)

mod batch;
mod beam;
mod cache;
mod grammar;
mod rollout;
mod sampler;
mod spans;

pub use beam::{Beam, Constraint, beam_search};
pub use cache::{Cache, Decode};
pub use grammar::{Free, Grammar};
pub use rollout::{Rollout, RolloutConfig, rollout};
pub use sampler::{Sampler, SamplerConfig};
