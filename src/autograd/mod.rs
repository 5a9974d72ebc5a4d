//! Eager reverse-mode differentiation: ops record how to go back, [`Tape::backward`] goes back. Mechanics only; what
//! is differentiated lives in `ops`.

mod param;
mod tape;

pub use param::{Param, ParamId};
pub use tape::{Backward, Gradients, Tape, Var};
