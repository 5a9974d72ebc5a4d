//! Product of two tensors, element by element.

use super::same_shape;
use crate::autograd::{Backward, Tape, Var};
use crate::error::Result;
use crate::tensor::Tensor;
use gr2_kernels::elementwise as kernel;

/// `a b`, element by element.
///
/// Shapes: equal.
/// Errors: `Shape`.
pub fn mul(tape: &Tape, a: &Var, b: &Var) -> Result<Var> {
    same_shape("mul", a, b)?;
    let y = kernel::mul(a.tensor().buffer(), b.tensor().buffer())?;
    let y = Tensor::new(y, a.tensor().shape().clone())?;
    Ok(tape.record(y, &[a, b], || Mul {
        a: b.tracked().then(|| a.tensor().clone()),
        b: a.tracked().then(|| b.tensor().clone()),
    }))
}

struct Mul {
    /// Kept for b's gradient.
    a: Option<Tensor>,
    /// Kept for a's gradient.
    b: Option<Tensor>,
}

impl Backward for Mul {
    fn name(&self) -> &'static str {
        "mul"
    }

    fn backward(&self, dy: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let times = |other: &Option<Tensor>| {
            let product = other.as_ref().map(|x| kernel::mul(dy.buffer(), x.buffer())).transpose()?;
            product.map(|g| Tensor::new(g, dy.shape().clone())).transpose()
        };
        Ok(vec![times(&self.b)?, times(&self.a)?])
    }
}
