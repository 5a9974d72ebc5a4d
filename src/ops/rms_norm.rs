//! Root-mean-square normalisation of the last dimension.

use crate::autograd::{Backward, Tape, Var};
use crate::error::{Error, Result};
use crate::tensor::Tensor;
use gr2_kernels::rms_norm as kernel;

/// `y = x / sqrt(mean(x²) + eps) * w` along the last dimension.
///
/// Shapes: `x` any, its last dimension C; `w` (C).
/// Errors: `Shape` if `w` is not as long as the last dimension of `x`.
/// Source: transformers Qwen3RMSNorm.
pub fn rms_norm(tape: &Tape, x: &Var, w: &Var, eps: f32) -> Result<Var> {
    let (rows, cols) = expect("rms_norm", x, w)?;
    let out = kernel::forward(x.tensor().buffer(), w.tensor().buffer(), rows, cols, eps)?;
    let shape = x.tensor().shape().clone();
    let inv_rms = Tensor::new(out.inv_rms, [rows])?;
    let op = || RmsNorm { x: x.tensor().clone(), w: w.tensor().clone(), inv_rms };
    Ok(tape.record(Tensor::new(out.y, shape)?, &[x, w], op))
}

/// `h = x + r` and `y = rms_norm(h)` in one pass over memory: returns `(h, y)`.
///
/// Shapes: `x`, `r`, `h`, `y` equal, their last dimension C; `w` (C).
/// Errors: `Shape`.
pub fn add_rms_norm(tape: &Tape, x: &Var, r: &Var, w: &Var, eps: f32) -> Result<(Var, Var)> {
    const OP: &str = "add_rms_norm";
    let (rows, cols) = expect(OP, x, w)?;
    let shape = x.tensor().shape().clone();
    if shape != *r.tensor().shape() {
        return Err(Error::Shape { op: OP, problem: format!("x is {shape}, r is {}", r.tensor().shape()) });
    }
    let [xb, rb, wb] = [x, r, w].map(|v| v.tensor().buffer());
    let (h, out) = kernel::forward_add(xb, rb, wb, rows, cols, eps)?;
    let h = tape.record(Tensor::new(h, shape.clone())?, &[x, r], || Residual);
    let inv_rms = Tensor::new(out.inv_rms, [rows])?;
    let op = || RmsNorm { x: h.tensor().clone(), w: w.tensor().clone(), inv_rms };
    let y = tape.record(Tensor::new(out.y, shape)?, &[&h, w], op);
    Ok((h, y))
}

fn expect(op: &'static str, x: &Var, w: &Var) -> Result<(usize, usize)> {
    let (x, w) = (x.tensor().shape(), w.tensor().shape());
    match x.rows() {
        (rows, cols) if w[..] == [cols] => Ok((rows, cols)),
        _ => Err(Error::Shape { op, problem: format!("x is {x}, w is {w}: w must be one last dimension of x") }),
    }
}

struct RmsNorm {
    x: Tensor,
    w: Tensor,
    inv_rms: Tensor,
}

impl Backward for RmsNorm {
    fn name(&self) -> &'static str {
        "rms_norm"
    }

    fn backward(&self, dy: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let (rows, cols) = self.x.shape().rows();
        let [x, w, inv_rms, dy] = [&self.x, &self.w, &self.inv_rms, dy].map(|t| t.buffer());
        let (dx, dw) = kernel::backward(x, w, inv_rms, dy, rows, cols)?;
        Ok(vec![Some(Tensor::new(dx, self.x.shape().clone())?), Some(Tensor::new(dw, [cols])?)])
    }
}

/// The sum before the normalisation: its gradient goes to both terms as it is.
struct Residual;

impl Backward for Residual {
    fn name(&self) -> &'static str {
        "add_rms_norm"
    }

    fn backward(&self, dy: &Tensor) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(dy.clone()), Some(dy.clone())])
    }
}
