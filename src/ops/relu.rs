//! Rectified linear units.

use crate::autograd::{Backward, Tape, Var};
use crate::error::Result;
use crate::tensor::Tensor;
use gr2_kernels::relu as kernel;

/// `max(x, 0)`; its slope at 0 is taken as 0.
///
/// Source: torch.relu.
pub fn relu(tape: &Tape, x: &Var) -> Result<Var> {
    let y = Tensor::new(kernel::forward(x.tensor().buffer())?, x.tensor().shape().clone())?;
    Ok(tape.record(y.clone(), &[x], || Relu { y }))
}

struct Relu {
    y: Tensor,
}

impl Backward for Relu {
    fn name(&self) -> &'static str {
        "relu"
    }

    fn backward(&self, dy: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let dx = kernel::backward(self.y.buffer(), dy.buffer())?;
        Ok(vec![Some(Tensor::new(dx, dy.shape().clone())?)])
    }
}
