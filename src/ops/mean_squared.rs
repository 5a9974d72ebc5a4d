//! Mean squared difference.

use super::same_shape;
use crate::autograd::{Backward, Tape, Var};
use crate::error::{Error, Result};
use crate::tensor::Tensor;
use gr2_kernels::{elementwise, reduce};

/// `Σ (a - b)² / n`, a scalar of shape `[]`.
///
/// Shapes: equal.
/// Errors: `Shape` if they differ or have no elements.
/// Source: torch.nn.functional.mse_loss.
pub fn mean_squared(tape: &Tape, a: &Var, b: &Var) -> Result<Var> {
    const OP: &str = "mean squared";
    same_shape(OP, a, b)?;
    let shape = a.tensor().shape().clone();
    if shape.is_empty() {
        return Err(Error::Shape { op: OP, problem: format!("no elements in {shape}") });
    }
    let difference = Tensor::new(elementwise::sub(a.tensor().buffer(), b.tensor().buffer())?, shape)?;
    let mut y = reduce::sum_squares(difference.buffer())?;
    elementwise::scale_assign(&mut y, 1.0 / difference.shape().len() as f64)?;
    let tracked = [a.tracked(), b.tracked()];
    Ok(tape.record(Tensor::new(y, [])?, &[a, b], || MeanSquared { difference, tracked }))
}

struct MeanSquared {
    /// `a - b`.
    difference: Tensor,
    /// Whether a, b need a gradient.
    tracked: [bool; 2],
}

impl Backward for MeanSquared {
    fn name(&self) -> &'static str {
        "mean squared"
    }

    fn backward(&self, dy: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let slope = 2.0 / self.difference.shape().len() as f64;
        let gradient = |tracked: bool, slope: f64| {
            let scaled = tracked.then(|| elementwise::scale_by(self.difference.buffer(), dy.buffer(), slope));
            scaled.transpose()?.map(|g| Tensor::new(g, self.difference.shape().clone())).transpose()
        };
        Ok(vec![gradient(self.tracked[0], slope)?, gradient(self.tracked[1], -slope)?])
    }
}
