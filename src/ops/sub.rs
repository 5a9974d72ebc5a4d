//! Difference of two tensors.

use super::same_shape;
use crate::autograd::{Backward, Tape, Var};
use crate::error::Result;
use crate::tensor::Tensor;
use gr2_kernels::elementwise as kernel;

/// `a - b`.
///
/// Shapes: equal.
/// Errors: `Shape`.
pub fn sub(tape: &Tape, a: &Var, b: &Var) -> Result<Var> {
    same_shape("sub", a, b)?;
    let y = kernel::sub(a.tensor().buffer(), b.tensor().buffer())?;
    let y = Tensor::new(y, a.tensor().shape().clone())?;
    let tracked = b.tracked();
    Ok(tape.record(y, &[a, b], || Sub { tracked }))
}

struct Sub {
    /// Whether b needs a gradient.
    tracked: bool,
}

impl Backward for Sub {
    fn name(&self) -> &'static str {
        "sub"
    }

    fn backward(&self, dy: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let db = match self.tracked {
            true => Some(Tensor::new(kernel::scale(dy.buffer(), -1.0)?, dy.shape().clone())?),
            false => None,
        };
        Ok(vec![Some(dy.clone()), db])
    }
}
