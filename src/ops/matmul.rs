//! Matrix products of two tensors.

use crate::autograd::{Backward, Tape, Var};
use crate::error::{Error, Result};
use crate::tensor::{Shape, Tensor};
use gr2_kernels::matmul::{Layout, Matmul as Spec, matmul as product};

/// `op(a) op(b)` for each matrix of the batch.
///
/// Shapes: (rows, cols), or (B, rows, cols) with equal B; [`Layout`] says which are m, n and k. Result (m, n) or
/// (B, m, n).
/// Errors: `Shape` if ranks, batches or inner dimensions differ.
/// Source: torch.matmul.
pub fn matmul(tape: &Tape, a: &Var, b: &Var, layout: Layout) -> Result<Var> {
    let (a_shape, b_shape) = (a.tensor().shape(), b.tensor().shape());
    let disagree =
        |what: &str| Error::Shape { op: "matmul", problem: format!("{what}: a is {a_shape}, b is {b_shape}") };
    let (batch, a_rows, a_cols, b_rows, b_cols) = match (&a_shape[..], &b_shape[..]) {
        (&[ar, ac], &[br, bc]) => (1, ar, ac, br, bc),
        (&[t, ar, ac], &[u, br, bc]) if t == u => (t, ar, ac, br, bc),
        _ => return Err(disagree("two matrices or two equal batches of them expected")),
    };
    let (m, k) = if layout == Layout::Tn { (a_cols, a_rows) } else { (a_rows, a_cols) };
    let (n, b_inner) = if layout == Layout::Nt { (b_rows, b_cols) } else { (b_cols, b_rows) };
    if k != b_inner {
        return Err(disagree("inner dimensions differ"));
    }
    let spec = Spec { batch, m, n, k, layout };
    let y = product(a.tensor().buffer(), b.tensor().buffer(), &spec)?;
    let shape = if a_shape[..].len() == 2 { vec![m, n] } else { vec![batch, m, n] };
    let y = Tensor::new(y, shape)?;
    Ok(tape.record(y, &[a, b], || Product {
        spec,
        a_shape: a_shape.clone(),
        b_shape: b_shape.clone(),
        a: b.tracked().then(|| a.tensor().clone()),
        b: a.tracked().then(|| b.tensor().clone()),
    }))
}

struct Product {
    spec: Spec,
    a_shape: Shape,
    b_shape: Shape,
    /// Kept for b's gradient.
    a: Option<Tensor>,
    /// Kept for a's gradient.
    b: Option<Tensor>,
}

impl Backward for Product {
    fn name(&self) -> &'static str {
        "matmul"
    }

    fn backward(&self, dc: &Tensor) -> Result<Vec<Option<Tensor>>> {
        use Layout::{Nn, Nt, Tn};
        let Spec { batch, m, n, k, layout } = self.spec;
        let times = |x: &Tensor, y: &Tensor, layout, m, n, k, shape: &Shape| {
            let spec = Spec { batch, m, n, k, layout };
            Tensor::new(product(x.buffer(), y.buffer(), &spec)?, shape.clone())
        };
        let da = self.b.as_ref().map(|b| match layout {
            Nn => times(dc, b, Nt, m, k, n, &self.a_shape),
            Nt => times(dc, b, Nn, m, k, n, &self.a_shape),
            Tn => times(b, dc, Nt, k, m, n, &self.a_shape),
        });
        let db = self.a.as_ref().map(|a| match layout {
            Nn => times(a, dc, Tn, k, n, m, &self.b_shape),
            Nt => times(dc, a, Tn, n, k, m, &self.b_shape),
            Tn => times(a, dc, Nn, k, n, m, &self.b_shape),
        });
        Ok(vec![da.transpose()?, db.transpose()?])
    }
}
