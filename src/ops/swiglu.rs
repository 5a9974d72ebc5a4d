//! The gated activation of the feed-forward layer.

use super::linear::linear_each;
use super::same_shape;
use crate::autograd::{Backward, Tape, Var};
use crate::error::Result;
use crate::tensor::Tensor;
use gr2_kernels::swiglu as kernel;

/// `silu(gate) up`, `silu(x) = x / (1 + exp(-x))`.
///
/// Shapes: equal.
/// Errors: `Shape`.
pub fn swiglu(tape: &Tape, gate: &Var, up: &Var) -> Result<Var> {
    same_shape("swiglu", gate, up)?;
    let (g, u) = (gate.tensor(), up.tensor());
    let y = Tensor::new(kernel::forward(g.buffer(), u.buffer())?, g.shape().clone())?;
    Ok(tape.record(y, &[gate, up], || Swiglu { gate: g.clone(), up: u.clone() }))
}

/// `swiglu(x gateᵀ, x upᵀ)`.
///
/// Shapes: `x` (…, in), `gate` and `up` (out, in), result (…, out). Weights may be f16 or bf16 where no gradient is wanted.
/// Errors: `Shape` if inner dimensions differ.
pub fn linear_swiglu(tape: &Tape, x: &Var, gate: &Var, up: &Var) -> Result<Var> {
    let [gate, up] = linear_each(tape, x, [gate, up])?;
    swiglu(tape, &gate, &up)
}

struct Swiglu {
    gate: Tensor,
    up: Tensor,
}

impl Backward for Swiglu {
    fn name(&self) -> &'static str {
        "swiglu"
    }

    fn backward(&self, dy: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let (dgate, dup) = kernel::backward(self.gate.buffer(), self.up.buffer(), dy.buffer())?;
        let tensor = |gradient| Tensor::new(gradient, dy.shape().clone());
        Ok(vec![Some(tensor(dgate)?), Some(tensor(dup)?)])
    }
}
