//! A vector added to every row.

use crate::autograd::{Backward, Tape, Var};
use crate::error::{Error, Result};
use crate::tensor::{Shape, Tensor};
use gr2_kernels::{elementwise, reduce};

/// `x + bias` along the last dimension.
///
/// Shapes: `x` (…, C), `bias` (C).
/// Errors: `Shape`.
pub fn add_bias(tape: &Tape, x: &Var, bias: &Var) -> Result<Var> {
    let (shape, bias_shape) = (x.tensor().shape(), bias.tensor().shape());
    if shape.last() != bias_shape.first() || bias_shape[..].len() != 1 {
        let problem = format!("bias is {bias_shape}, the last dimension of x is that of {shape}");
        return Err(Error::Shape { op: "add bias", problem });
    }
    let y = elementwise::add_bias(x.tensor().buffer(), bias.tensor().buffer())?;
    let y = Tensor::new(y, shape.clone())?;
    Ok(tape.record(y, &[x, bias], || AddBias { bias: bias.tracked().then(|| bias_shape.clone()) }))
}

struct AddBias {
    /// Shape of the bias if it needs a gradient.
    bias: Option<Shape>,
}

impl Backward for AddBias {
    fn name(&self) -> &'static str {
        "add bias"
    }

    fn backward(&self, dy: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let (rows, cols) = dy.shape().rows();
        let dbias = match &self.bias {
            Some(shape) => Some(Tensor::new(reduce::column_sum(dy.buffer(), rows, cols)?, shape.clone())?),
            None => None,
        };
        Ok(vec![Some(dy.clone()), dbias])
    }
}
