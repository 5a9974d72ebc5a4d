//! A tensor times a number.

use crate::autograd::{Backward, Tape, Var};
use crate::error::Result;
use crate::tensor::Tensor;
use gr2_kernels::elementwise as kernel;

/// `s x`.
pub fn scale(tape: &Tape, x: &Var, s: f64) -> Result<Var> {
    let y = Tensor::new(kernel::scale(x.tensor().buffer(), s)?, x.tensor().shape().clone())?;
    Ok(tape.record(y, &[x], || Scale { s }))
}

struct Scale {
    s: f64,
}

impl Backward for Scale {
    fn name(&self) -> &'static str {
        "scale"
    }

    fn backward(&self, dy: &Tensor) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(Tensor::new(kernel::scale(dy.buffer(), self.s)?, dy.shape().clone())?)])
    }
}
