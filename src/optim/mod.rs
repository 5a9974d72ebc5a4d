//! AdamW with global-norm clipping, and learning-rate schedules.

mod adamw;
mod schedule;

pub use adamw::{AdamWConfig, Optimizer, StepReport};
pub use schedule::{Decay, Schedule};
