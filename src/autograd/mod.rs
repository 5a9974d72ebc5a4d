//! Eager reverse-mode differentiation: ops record how to go back, [`Tape::backward`] goes back. Mechanics only; what
//! is differentiated lives in `ops`.

mod param;
mod recompute;
mod tape;

pub use param::{Param, ParamId};
pub use recompute::recompute;
pub use tape::{Backward, Gradients, Tape, Var};
