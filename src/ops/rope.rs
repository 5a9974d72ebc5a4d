//! Rotary position embedding.

use crate::autograd::{Backward, Tape, Var};
use crate::error::{Error, Result};
use crate::tensor::Tensor;
use gr2_kernels::rope::{self as kernel, Heads, Turn};
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

/// Rotates the pairs `(x[i], x[i + D/2])` of every head by the angle of its token's position.
///
/// Shapes: `x` (T, H, D), T and D those of `rotation`.
/// Errors: `Shape`.
/// Source: transformers apply_rotary_pos_emb (rotate-half).
pub fn rope(tape: &Tape, x: &Var, rotation: &Rotation) -> Result<Var> {
    const OP: &str = "rope";
    let shape = x.tensor().shape();
    let (tokens, heads, width) = shape.dims3(OP)?;
    if rotation.positions.shape()[..] != [tokens] || rotation.table.shape()[1] != width {
        let (positions, table) = (rotation.positions.shape(), rotation.table.shape());
        return Err(Error::Shape { op: OP, problem: format!("x is {shape}, positions {positions}, table {table}") });
    }
    let op = Rope { rotation: rotation.clone(), sizes: Heads { tokens, heads, width } };
    let y = op.rotate(x.tensor(), Turn::Forward)?;
    Ok(tape.record(y, &[x], || op))
}

struct Rope {
    rotation: Rotation,
    sizes: Heads,
}

impl Rope {
    fn rotate(&self, x: &Tensor, turn: Turn) -> Result<Tensor> {
        let Rotation { table, positions } = &self.rotation;
        let y = kernel::rotate(x.buffer(), positions.buffer(), table.buffer(), self.sizes, turn)?;
        Tensor::new(y, x.shape().clone())
    }
}

impl Backward for Rope {
    fn name(&self) -> &'static str {
        "rope"
    }

    fn backward(&self, dy: &Tensor) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(self.rotate(dy, Turn::Inverse)?)])
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
        let small = table.at(&[3, 5]).unwrap();
        let before = rope(&tape, &x, &small).unwrap();
        let large = table.at(&[5, 1000]).unwrap();
        assert_eq!((small.table.shape()[0], large.table.shape()[0]), (512, 1024));
        let after = rope(&tape, &x, &large).unwrap();
        assert_eq!(before.tensor().to_vec::<f32>().unwrap()[8..], after.tensor().to_vec::<f32>().unwrap()[..8]);
        assert!(rope(&tape, &x, &table.at(&[1]).unwrap()).is_err(), "one position for two tokens");
    }
}
