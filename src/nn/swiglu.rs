//! The gated feed-forward layer.

use super::{Linear, RmsNorm};
use crate::autograd::{Param, Tape, Var};
use crate::error::Result;
use crate::ops;

/// `y = down(silu(gate(x)) · up(x))`, `gate` and `up` without biases.
#[derive(Debug, Clone)]
pub struct SwiGlu {
    /// (F, C).
    pub gate: Linear,
    /// (F, C).
    pub up: Linear,
    /// (C, F).
    pub down: Linear,
}

impl SwiGlu {
    /// Applies the layer to (T, C).
    pub fn forward(&self, tape: &Tape, x: &Var) -> Result<Var> {
        let [gate, up] = [&self.gate, &self.up].map(|layer| tape.param(&layer.weight));
        self.down.forward(tape, &ops::linear_swiglu(tape, x, &gate, &up)?)
    }

    /// Adds the layer's output for `norm` of `x` (T, C) to `x`, in place where it can be.
    pub fn forward_onto(&self, tape: &Tape, x: Var, norm: &RmsNorm) -> Result<Var> {
        let [gate, up] = [&self.gate, &self.up].map(|layer| tape.param(&layer.weight));
        let norm = (&tape.param(&norm.weight), norm.eps);
        let gated = ops::norm_linear_swiglu(tape, &x, norm, &gate, &up)?;
        self.down.forward_onto(tape, x, &gated)
    }

    /// Its parameters.
    pub fn params(&self) -> impl Iterator<Item = &Param> {
        [&self.gate, &self.up, &self.down].into_iter().flat_map(Linear::params)
    }

    /// Its parameters, for writing.
    pub fn params_mut(&mut self) -> impl Iterator<Item = &mut Param> {
        [&mut self.gate, &mut self.up, &mut self.down].into_iter().flat_map(Linear::params_mut)
    }
}
