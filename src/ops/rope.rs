//! Rotary position embedding of normalised queries and keys.

use crate::autograd::{Backward, Tape, Var};
use crate::error::{Error, Result};
use crate::tensor::Tensor;
use gr2_kernels::rope::{self as kernel, Heads};
use gr2_kernels::{Device, Dtype};
use std::sync::{Mutex, PoisonError};

/// Cosines and sines of every position seen so far, computed in f64 on the host and kept on the device. It grows by
/// doubling when a later position is asked for, so that a context of any length costs what it uses.
pub struct RopeTable {
    device: Device,
    width: usize,
    theta: f64,
    dtype: Dtype,
    rows: Mutex<Option<Tensor>>,
}

/// The angles of one batch of tokens: made once, used by every layer.
#[derive(Clone)]
pub struct Rotation {
    table: Tensor,
    positions: Tensor,
}

impl RopeTable {
    /// A table for heads of `width` with base `theta`, in the dtype of what it rotates.
    ///
    /// Errors: `Shape` for an odd or zero width.
    pub fn new(device: &Device, width: usize, theta: f64, dtype: Dtype) -> Result<RopeTable> {
        if width == 0 || !width.is_multiple_of(2) {
            return Err(Error::Shape { op: "rope", problem: format!("head width {width} has no two halves") });
        }
        Ok(RopeTable { device: device.clone(), width, theta, dtype, rows: Mutex::default() })
    }

    /// The angles of tokens at these positions.
    pub fn at(&self, positions: &[u32]) -> Result<Rotation> {
        let needed = positions.iter().max().map_or(1, |p| *p as usize + 1);
        // what a panic elsewhere left behind is a whole table or none
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let table = match rows.take().filter(|table| table.shape()[0] >= needed) {
            Some(table) => table,
            None => self.build(needed.next_power_of_two().max(SMALLEST))?,
        };
        *rows = Some(table.clone());
        Ok(Rotation { table, positions: Tensor::from_slice(&self.device, positions, [positions.len()])? })
    }

    fn build(&self, rows: usize) -> Result<Tensor> {
        let angles = kernel::angles(0..rows, self.width, self.theta);
        let shape = [rows, self.width];
        match self.dtype {
            Dtype::F64 => Tensor::from_slice(&self.device, &angles, shape),
            _ => {
                let angles: Vec<f32> = angles.into_iter().map(|a| a as f32).collect();
                Tensor::from_slice(&self.device, &angles, shape)
            }
        }
    }
}

/// Positions of the first table.
const SMALLEST: usize = 512;

impl Rotation {
    fn view(&self) -> kernel::Rotation<'_> {
        let width = self.table.shape()[1];
        kernel::Rotation { table: self.table.buffer(), positions: self.positions.buffer(), width }
    }
}

/// Queries and keys of a layer: every head is normalised, `n = x / sqrt(mean(x²) + eps) * w`, and its pairs
/// `(n[i], n[i + D/2])` are rotated by the angle of its token's position. Both in one pass.
///
/// Shapes: `x` = queries (T, H, D) and keys (T, K, D), each `w` (D); T and D those of `rotation`.
/// Errors: `Shape`.
/// Source: transformers Qwen3RMSNorm, then apply_rotary_pos_emb (rotate-half).
pub fn norm_rope(tape: &Tape, x: [&Var; 2], w: [&Var; 2], eps: f32, rotation: &Rotation) -> Result<[Var; 2]> {
    let mut sides = vec![];
    for (x, w) in x.into_iter().zip(w) {
        let (xs, ws) = (x.tensor().shape(), w.tensor().shape());
        let (tokens, count, width) = xs.dims3(OP)?;
        let (positions, table) = (rotation.positions.shape(), rotation.table.shape());
        if positions[..] != [tokens] || table[1] != width || ws[..] != [width] {
            let problem = format!("x is {xs}, w is {ws}, positions {positions}, table {table}");
            return Err(Error::Shape { op: OP, problem });
        }
        let (x, w, rotation) = (x.tensor().clone(), w.tensor().clone(), rotation.clone());
        sides.push(NormRope { x, w, count, eps, rotation });
    }
    let [q, k] = sides.try_into().unwrap_or_else(|_| unreachable!("invariant: two sides"));
    let (q_out, k_out) = kernel::forward(q.heads(), k.heads(), rotation.view(), eps)?;
    let tensor = |y, side: &NormRope| Tensor::new(y, side.x.shape().clone());
    let (q_out, k_out) = (tensor(q_out, &q)?, tensor(k_out, &k)?);
    Ok([tape.record(q_out, &[x[0], w[0]], || q), tape.record(k_out, &[x[1], w[1]], || k)])
}

const OP: &str = "norm_rope";

/// One side of the op.
struct NormRope {
    x: Tensor,
    w: Tensor,
    count: usize,
    eps: f32,
    rotation: Rotation,
}

impl NormRope {
    fn heads(&self) -> Heads<'_> {
        Heads { x: self.x.buffer(), weight: self.w.buffer(), count: self.count }
    }
}

impl Backward for NormRope {
    fn name(&self) -> &'static str {
        OP
    }

    fn backward(&self, dy: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let (dx, dw) = kernel::backward(self.heads(), dy.buffer(), self.rotation.view(), self.eps)?;
        Ok(vec![Some(Tensor::new(dx, self.x.shape().clone())?), Some(Tensor::new(dw, self.w.shape().clone())?)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grown_table_gives_the_angles_a_large_one_would() {
        let table = RopeTable::new(&Device::Cpu, 8, 10_000.0, Dtype::F32).unwrap();
        let tape = Tape::inference();
        let x = tape.constant(Tensor::from_slice(&Device::Cpu, &[1.0f32; 16], [2, 1, 8]).unwrap());
        let w = tape.constant(Tensor::from_slice(&Device::Cpu, &[1.0f32; 8], [8]).unwrap());
        let rotated = |at: &Rotation| norm_rope(&tape, [&x, &x], [&w, &w], 1e-6, at);
        let small = table.at(&[3, 5]).unwrap();
        let [before, _] = rotated(&small).unwrap();
        let large = table.at(&[5, 1000]).unwrap();
        assert_eq!((small.table.shape()[0], large.table.shape()[0]), (512, 1024));
        let [_, after] = rotated(&large).unwrap();
        assert_eq!(before.tensor().to_vec::<f32>().unwrap()[8..], after.tensor().to_vec::<f32>().unwrap()[..8]);
        assert!(rotated(&table.at(&[1]).unwrap()).is_err(), "one position for two tokens");
    }
}
