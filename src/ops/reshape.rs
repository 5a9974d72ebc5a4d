//! The same elements under another shape.

use crate::autograd::{Backward, Tape, Var};
use crate::error::Result;
use crate::tensor::{Shape, Tensor};

/// `y = x` with other dimensions; no memory moves.
///
/// Errors: `Shape` if the number of elements differs.
/// Source: torch.reshape of a contiguous tensor.
pub fn reshape(tape: &Tape, x: &Var, shape: impl Into<Shape>) -> Result<Var> {
    let y = x.tensor().reshape(shape)?;
    Ok(tape.record(y, &[x], || Reshape { shape: x.tensor().shape().clone() }))
}

struct Reshape {
    shape: Shape,
}

impl Backward for Reshape {
    fn name(&self) -> &'static str {
        "reshape"
    }

    fn backward(&self, dy: &Tensor) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(dy.reshape(self.shape.clone())?)])
    }
}
