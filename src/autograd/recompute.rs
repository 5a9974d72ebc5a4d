//! Gradient checkpointing: a part of a computation that keeps its inputs only, and is run again on the way back.

use super::{Backward, Param, Tape, Var};
use crate::error::Result;
use crate::tensor::Tensor;

/// `y`, the value of `again` at `inputs`, without anything of what leads to it. On the way back `again` is run once more, on
/// a tape of its own, with the same values; it must give what it gave. `params` are those it uses.
///
/// Source: Chen et al. 2016, arXiv:1604.06174; torch.utils.checkpoint.
pub fn recompute(
    tape: &Tape,
    y: Tensor,
    inputs: &[&Var],
    params: Vec<Param>,
    again: impl Fn(&Tape, &[Var]) -> Result<Var> + 'static,
) -> Var {
    let weights: Vec<Var> = params.iter().map(|param| tape.param(param)).collect();
    let all: Vec<&Var> = inputs.iter().copied().chain(&weights).collect();
    let op = || Recompute { inputs: inputs.iter().map(|&x| x.clone()).collect(), params, again };
    tape.record(y, &all, op)
}

struct Recompute<F> {
    inputs: Vec<Var>,
    params: Vec<Param>,
    again: F,
}

impl<F: Fn(&Tape, &[Var]) -> Result<Var>> Backward for Recompute<F> {
    fn name(&self) -> &'static str {
        "recompute"
    }

    fn backward(&self, dy: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let tape = Tape::new();
        let open = |x: &Var| match x.tracked() {
            true => tape.leaf(x.tensor().clone()),
            false => tape.constant(x.tensor().clone()),
        };
        let inputs: Vec<Var> = self.inputs.iter().map(open).collect();
        let y = (self.again)(&tape, &inputs)?;
        let mut gradients = tape.backward(&[(&y, dy.clone())])?;
        let of_inputs: Vec<_> = inputs.iter().map(|x| gradients.get(x).cloned()).collect();
        Ok(of_inputs.into_iter().chain(self.params.iter().map(|param| gradients.take(param))).collect())
    }
}
