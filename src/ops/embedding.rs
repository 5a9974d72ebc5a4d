//! Rows picked by index: token embeddings, and positions of a packed batch.

use crate::autograd::{Backward, Tape, Var};
use crate::error::{Error, Result};
use crate::ops::refuse_narrow;
use crate::tensor::Tensor;
use gr2_kernels::gather;
use gr2_kernels::segment::{self, Groups};

/// `y[t] = w[ids[t]]`: the embedding of each token. The row of `padding` gets no gradient.
///
/// Shapes: `w` (V, C), `ids` (T), `y` (T, C): f32 for a `w` in f16 or bf16, of which no gradient can be had.
/// Errors: `Shape` naming the id and V for an id past the table.
/// Source: torch.nn.functional.embedding with `padding_idx`.
pub fn embedding(tape: &Tape, w: &Var, ids: &[u32], padding: Option<u32>) -> Result<Var> {
    pick(tape, w, ids, Rows { op: "embedding", what: "token id", padding })
}

/// [`embedding`] of tokens that only the device knows, where no gradient is wanted; an id past the table gives NaN on a GPU.
///
/// Shapes: `w` (V, C), `ids` (T) u32, result (T, C).
/// Errors: `Kernel`; `Shape` for a tracked `w`.
pub fn embedding_on_device(tape: &Tape, w: &Var, ids: &Tensor) -> Result<Var> {
    const OP: &str = "embedding";
    tape.refuse_tracked(OP, &[w])?;
    let (_, cols) = w.tensor().shape().dims2(OP)?;
    let y = gather::rows(w.tensor().buffer(), ids.buffer(), cols)?;
    Ok(tape.constant(Tensor::new(y, [ids.shape().len(), cols])?))
}

/// `y[i] = x[index[i]]`, rows of the first dimension in any order, repeated or left out.
///
/// Shapes: `x` (R, C), `index` (I), `y` (I, C).
/// Errors: `Shape` for an index past R.
pub fn gather_rows(tape: &Tape, x: &Var, index: &[u32]) -> Result<Var> {
    pick(tape, x, index, Rows { op: "gather_rows", what: "index", padding: None })
}

/// What the rows are called in messages, and the one that gets no gradient.
#[derive(Clone, Copy)]
struct Rows {
    op: &'static str,
    what: &'static str,
    padding: Option<u32>,
}

fn pick(tape: &Tape, x: &Var, index: &[u32], of: Rows) -> Result<Var> {
    let Rows { op: name, what, padding } = of;
    let (rows, cols) = x.tensor().shape().dims2(name)?;
    refuse_narrow(name, x)?;
    if let Some(at) = index.iter().position(|i| *i as usize >= rows) {
        let problem = format!("{what} {} at {at} is past the {rows} rows of the table", index[at]);
        return Err(Error::Shape { op: name, problem });
    }
    let on_device = Tensor::from_slice(x.tensor().device(), index, [index.len()])?;
    let y = gather::rows(x.tensor().buffer(), on_device.buffer(), cols)?;
    let op = || Pick { name, index: index.to_vec(), padding, rows, cols };
    Ok(tape.record(Tensor::new(y, [index.len(), cols])?, &[x], op))
}

struct Pick {
    name: &'static str,
    index: Vec<u32>,
    padding: Option<u32>,
    rows: usize,
    cols: usize,
}

impl Backward for Pick {
    fn name(&self) -> &'static str {
        self.name
    }

    fn backward(&self, dy: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let mut groups = Groups::by_key(&self.index, self.rows)?;
        if let Some(padding) = self.padding {
            groups = groups.without(padding);
        }
        let dx = segment::sum(dy.buffer(), &groups, self.cols)?;
        Ok(vec![Some(Tensor::new(dx, [self.rows, self.cols])?)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gr2_kernels::{Device, Dtype};

    #[test]
    fn a_token_past_the_table_is_named() {
        let tape = Tape::new();
        let w = tape.constant(Tensor::zeros(&Device::Cpu, Dtype::F32, [4, 2]).unwrap());
        let message = embedding(&tape, &w, &[1, 4], None).unwrap_err().to_string();
        assert_eq!(message, "embedding: token id 4 at 1 is past the 4 rows of the table");
    }
}
