//! Root-mean-square normalisation.

use crate::autograd::{Param, Tape, Var};
use crate::error::Result;
use crate::ops;

/// `y = x / √(mean(x²) + ε) · w` along the last dimension.
#[derive(Debug, Clone)]
pub struct RmsNorm {
    /// w (C).
    pub weight: Param,
    /// ε.
    pub eps: f32,
}

impl RmsNorm {
    /// Applies the layer.
    pub fn forward(&self, tape: &Tape, x: &Var) -> Result<Var> {
        ops::rms_norm(tape, x, &tape.param(&self.weight), self.eps)
    }

    /// `h = x + r` and the layer applied to it, in one pass: returns both.
    pub fn forward_add(&self, tape: &Tape, x: &Var, r: &Var) -> Result<(Var, Var)> {
        ops::add_rms_norm(tape, x, r, &tape.param(&self.weight), self.eps)
    }
}
