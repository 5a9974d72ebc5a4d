//! Sum of all elements.

use crate::autograd::{Backward, Tape, Var};
use crate::error::Result;
use crate::tensor::{Shape, Tensor};
use gr2_kernels::{elementwise, reduce};

/// `Σ x`, a scalar of shape `[]`.
pub fn sum(tape: &Tape, x: &Var) -> Result<Var> {
    let y = Tensor::new(reduce::sum(x.tensor().buffer())?, [])?;
    Ok(tape.record(y, &[x], || Sum { shape: x.tensor().shape().clone() }))
}

struct Sum {
    shape: Shape,
}

impl Backward for Sum {
    fn name(&self) -> &'static str {
        "sum"
    }

    fn backward(&self, dy: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let dx = elementwise::broadcast(dy.buffer(), 1.0, self.shape.len())?;
        Ok(vec![Some(Tensor::new(dx, self.shape.clone())?)])
    }
}
