//! Dropout.

use crate::autograd::{Backward, Tape, Var};
use crate::error::Result;
use crate::tensor::Tensor;
use gr2_kernels::dropout::dropout as kernel;

/// Each element is 0 with probability `p`, else divided by `1 - p`; which ones depends on the seed only.
///
/// Errors: `Shape` if `p` is not in [0, 1).
/// Source: torch.nn.functional.dropout; the draws are this project's.
pub fn dropout(tape: &Tape, x: &Var, p: f32, seed: u64) -> Result<Var> {
    let y = Tensor::new(kernel(x.tensor().buffer(), p, seed)?, x.tensor().shape().clone())?;
    Ok(tape.record(y, &[x], || Dropout { p, seed }))
}

struct Dropout {
    p: f32,
    seed: u64,
}

impl Backward for Dropout {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn backward(&self, dy: &Tensor) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(Tensor::new(kernel(dy.buffer(), self.p, self.seed)?, dy.shape().clone())?)])
    }
}
