//! Sum of two tensors.

use super::same_shape;
use crate::autograd::{Backward, Tape, Var};
use crate::error::Result;
use crate::tensor::Tensor;
use gr2_kernels::elementwise as kernel;

/// `a + b`.
///
/// Shapes: equal.
/// Errors: `Shape`.
pub fn add(tape: &Tape, a: &Var, b: &Var) -> Result<Var> {
    same_shape("add", a, b)?;
    let y = kernel::add(a.tensor().buffer(), b.tensor().buffer())?;
    let y = Tensor::new(y, a.tensor().shape().clone())?;
    Ok(tape.record(y, &[a, b], || Add))
}

struct Add;

impl Backward for Add {
    fn name(&self) -> &'static str {
        "add"
    }

    fn backward(&self, dy: &Tensor) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(dy.clone()), Some(dy.clone())])
    }
}
