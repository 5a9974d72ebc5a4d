//! Softmax along the last dimension.

use crate::autograd::{Backward, Tape, Var};
use crate::error::Result;
use crate::tensor::Tensor;
use gr2_kernels::softmax as kernel;

/// `y = exp(x - max x) / Σ exp(x - max x)` along the last dimension.
///
/// Shapes: any; the last dimension is normalised.
/// Source: torch.softmax(x, -1).
pub fn softmax(tape: &Tape, x: &Var) -> Result<Var> {
    let shape = x.tensor().shape().clone();
    let (rows, cols) = shape.rows();
    let y = Tensor::new(kernel::forward(x.tensor().buffer(), rows, cols)?, shape)?;
    Ok(tape.record(y.clone(), &[x], || Softmax { y }))
}

struct Softmax {
    y: Tensor,
}

impl Backward for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn backward(&self, dy: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let (rows, cols) = self.y.shape().rows();
        let dx = kernel::backward(self.y.buffer(), dy.buffer(), rows, cols)?;
        Ok(vec![Some(Tensor::new(dx, self.y.shape().clone())?)])
    }
}
