//! A linear layer without bias.

use crate::autograd::{Backward, Tape, Var};
use crate::error::{Error, Result};
use crate::ops::{add, refuse_narrow};
use crate::tensor::{Shape, Tensor};
use gr2_kernels::Buffer;
use gr2_kernels::matmul::{Layout, Matmul, matmul, matmul_each, matmul_into};

/// `y = x wᵀ` along the last dimension.
///
/// Shapes: `x` (…, in), `w` (out, in), `y` (…, out). `w` may be f16 or bf16 where no gradient is wanted of it.
/// Errors: `Shape` if the inner dimensions differ.
/// Source: torch.nn.functional.linear.
pub fn linear(tape: &Tape, x: &Var, w: &Var) -> Result<Var> {
    let [y] = linear_each(tape, x, [w])?;
    Ok(y)
}

/// [`linear`] of one input with several weights.
///
/// Shapes: `x` (…, in), each `w` (out, in) with an `out` of its own, results (…, out).
/// Errors: `Shape` if the inner dimensions differ.
pub fn linear_each<const N: usize>(tape: &Tape, x: &Var, ws: [&Var; N]) -> Result<[Var; N]> {
    const OP: &str = "linear";
    let (rows, inner) = x.tensor().shape().rows();
    let mut operands = vec![];
    for w in ws {
        let out = expect_inner(OP, x, w)?;
        refuse_narrow(OP, w)?;
        operands.push((w.tensor().buffer(), out));
    }
    let products = matmul_each(x.tensor().buffer(), &operands, [rows, inner])?;
    let record = |(w, product): (&Var, Buffer)| {
        let shape = x.tensor().shape().with_last(w.tensor().shape()[0]);
        Ok(tape.record(Tensor::new(product, shape)?, &[x, w], || Linear {
            x_shape: x.tensor().shape().clone(),
            w_shape: w.tensor().shape().clone(),
            x: w.tracked().then(|| x.tensor().clone()),
            w: x.tracked().then(|| w.tensor().clone()),
        }))
    };
    let results: Vec<Var> = ws.into_iter().zip(products).map(record).collect::<Result<_>>()?;
    Ok(results.try_into().expect("invariant: one result for each weight"))
}

/// `x + linear(y, w)`; where no gradient is wanted, added to `x` in place if nothing else holds it.
///
/// Shapes: `x` (…, out), `y` (…, in), `w` (out, in). `w` may be f16 or bf16 where no gradient is wanted of it.
/// Errors: `Shape` if they disagree.
pub fn linear_onto(tape: &Tape, x: Var, y: &Var, w: &Var) -> Result<Var> {
    const OP: &str = "linear";
    if [&x, y, w].into_iter().any(Var::tracked) {
        return add(tape, &x, &linear(tape, y, w)?);
    }
    let (out, (rows, inner)) = (expect_inner(OP, y, w)?, y.tensor().shape().rows());
    let expected = y.tensor().shape().with_last(out);
    if *x.tensor().shape() != expected {
        return Err(Error::Shape {
            op: OP,
            problem: format!("{expected} is added to x, which is {}", x.tensor().shape()),
        });
    }
    let (mut sum, spec) = (x.into_tensor(), Matmul::one(Layout::Nt, rows, out, inner));
    matmul_into(sum.buffer_mut(), 0, y.tensor().buffer(), w.tensor().buffer(), &spec, true)?;
    Ok(tape.constant(sum))
}

/// The rows of `w` (out, in). Fails unless `x` is (…, in).
pub(super) fn expect_inner(op: &'static str, x: &Var, w: &Var) -> Result<usize> {
    let (x, w) = (x.tensor().shape(), w.tensor().shape());
    match w.dims2(op)? {
        (out, inner) if x.last() == Some(&inner) => Ok(out),
        _ => Err(Error::Shape { op, problem: format!("inner dimensions differ: x is {x}, w is {w}") }),
    }
}

struct Linear {
    x_shape: Shape,
    w_shape: Shape,
    /// Kept for w's gradient.
    x: Option<Tensor>,
    /// Kept for x's gradient.
    w: Option<Tensor>,
}

impl Backward for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    /// `dx = dy w`, `dw = dyᵀ x`.
    fn backward(&self, dy: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let (rows, inner) = self.x_shape.rows();
        let out = self.w_shape[0];
        let product = |layout, m, n, k, a: &Tensor, b: &Tensor, shape: &Shape| {
            let spec = Matmul::one(layout, m, n, k);
            Tensor::new(matmul(a.buffer(), b.buffer(), &spec)?, shape.clone())
        };
        let dx = self.w.as_ref().map(|w| product(Layout::Nn, rows, inner, out, dy, w, &self.x_shape)).transpose()?;
        let dw = self.x.as_ref().map(|x| product(Layout::Tn, out, inner, rows, dy, x, &self.w_shape)).transpose()?;
        Ok(vec![dx, dw])
    }
}
