//! AdamW with global-norm clipping and loss scaling, and learning-rate schedules.

mod adamw;
mod loss_scale;
mod schedule;

pub use adamw::{AdamWConfig, Optimizer, StepReport};
pub use loss_scale::LossScale;
pub use schedule::{Decay, Schedule};
