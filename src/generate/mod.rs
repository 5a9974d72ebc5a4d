//! Generation: a KV cache that continuations of one prompt share, batched sampling under a
//! grammar, and beam search under a constraint.

mod beam;
mod cache;
mod grammar;
mod rollout;
mod sampler;

pub use beam::{Beam, Constraint, beam_search};
pub use cache::{Cache, Decode};
pub use grammar::{Free, Grammar};
pub use rollout::{Rollout, RolloutConfig, rollout};
pub use sampler::{Sampler, SamplerConfig};
