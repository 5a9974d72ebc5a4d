//! Rotary position embedding, rotate-half layout.

use crate::buffer::{Buffer, Dtype, Float};
use crate::device::{Access, Device, FOURS, Kernel, ONES, Widths, split_rows};
use crate::elementwise::ELEMENT_WIDTH;
use crate::error::{Error, Result};
use crate::parallel;
use crate::profile;

const GRID: &str = include_str!("../../shaders/common/grid.wgsl");
const SHADER: &str = include_str!("../../shaders/rope.wgsl");

pub(crate) static ROTATE: Widths = Widths::new(
    Kernel {
        name: "rope.rotate",
        sources: &[],
        entry: "rotate",
        bindings: &[Access::Read, Access::Read, Access::Read, Access::Write],
        constants: &[ELEMENT_WIDTH],
        params: size_of::<Params>(),
    },
    &[[GRID, ONES, SHADER], [GRID, FOURS, SHADER]],
);

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    tokens: u32,
    heads: u32,
    half: u32,
    positions: u32,
    sign: f32,
}

/// Sizes of a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    /// T.
    pub tokens: usize,
    /// Heads per token: H or K.
    pub heads: usize,
    /// D, even.
    pub width: usize,
}

/// Which way to rotate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// By the position's angle.
    Forward,
    /// By its negative: the backward pass.
    Inverse,
}

/// The rows of a table for positions `range`: row `p` holds cos(p θ^(-2i/D)) for i < D/2, then the sines, computed
/// in f64.
pub fn angles(range: std::ops::Range<usize>, width: usize, theta: f64) -> Vec<f64> {
    let frequencies: Vec<f64> = (0..width / 2).map(|i| theta.powf(-2.0 * i as f64 / width as f64)).collect();
    let mut rows = vec![0.0; range.len() * width];
    parallel::rows(width, &mut rows, width, |r, row| {
        let (cosines, sines) = row.split_at_mut(width / 2);
        for ((c, s), f) in cosines.iter_mut().zip(sines).zip(&frequencies) {
            (*s, *c) = ((range.start + r) as f64 * f).sin_cos();
        }
    });
    rows
}

/// Rotates each pair `(x[i], x[i + D/2])` by the angle of its token's position.
///
/// Shapes: `x`, `y` (T, H, D); `positions` (T) u32; `table` (P, D) as [`angles`] lays it out, every position below P
/// (on a GPU, where positions cannot be looked at, larger ones count as P - 1).
/// Dtypes: f32; f64 on the CPU.
/// Errors: `Shape`, `Dtype`, `DeviceMismatch`; `Binding` for a table past the adapter's binding.
/// Source: transformers apply_rotary_pos_emb.
pub fn rotate(x: &Buffer, positions: &Buffer, table: &Buffer, sizes: Heads, turn: Turn) -> Result<Buffer> {
    const OP: &str = "rope";
    let _span = profile::span(OP);
    let Heads { tokens, heads, width } = sizes;
    x.device().expect_all(OP, &[positions, table])?;
    x.expect_len(OP, "x", tokens * heads * width)?;
    positions.expect_len(OP, "positions", tokens)?;
    positions.expect_dtype(OP, "positions", Dtype::U32)?;
    table.expect_dtype(OP, "table", x.dtype())?;
    if width == 0 || width % 2 != 0 || !table.len().is_multiple_of(width) {
        let problem = format!("head width {width} must be even, and divide a table of {} elements", table.len());
        return Err(Error::shape(OP, problem));
    }
    let rows = table.len() / width;
    let mut y = Buffer::uninit(x.device(), OP, x.dtype(), x.len())?;
    match x.device() {
        Device::Cpu => {
            let positions = positions.as_slice::<u32>();
            if let Some(far) = positions.iter().find(|p| **p as usize >= rows) {
                return Err(Error::shape(OP, format!("position {far} of a table with {rows}")));
            }
            match x.expect_float(OP, "x")? {
                Float::Single => cpu::rotate::<f32>(x, positions, table, &mut y, sizes, turn),
                Float::Double => cpu::rotate::<f64>(x, positions, table, &mut y, sizes, turn),
            }
        }
        Device::Gpu(gpu) => {
            x.expect_dtype(OP, "x", Dtype::F32)?;
            let row = heads * width;
            let (kernel, access) = ROTATE.of(width / 2);
            for r in split_rows(OP, tokens, &[row * 4], gpu.max_binding())? {
                let span = r.start * row..r.end * row;
                let params = Params {
                    tokens: r.len() as u32,
                    heads: heads as u32,
                    half: width as u32 / 2,
                    positions: rows as u32,
                    sign: if turn == Turn::Forward { 1.0 } else { -1.0 },
                };
                let groups = (span.len() / 2).div_ceil(access * ELEMENT_WIDTH.on(gpu)) as u64;
                let binds = [x.bind(span.clone()), positions.bind(r), table.bind_all(), y.bind(span)];
                gpu.run(kernel, &binds, &params, groups)?;
            }
        }
    }
    Ok(y)
}

mod cpu {
    use super::{Buffer, Heads, Turn, parallel};
    use crate::real::Real;

    pub fn rotate<T: Real>(x: &Buffer, positions: &[u32], table: &Buffer, y: &mut Buffer, sizes: Heads, turn: Turn) {
        let (x, table, width) = (x.as_slice::<T>(), table.as_slice::<T>(), sizes.width);
        let row = sizes.heads * width;
        let sign = if turn == Turn::Forward { T::one() } else { -T::one() };
        parallel::rows(
            row,
            y.as_mut_slice::<T>(),
            row,
            #[inline(always)]
            |t, y| {
                let (cosines, sines) = table[positions[t] as usize * width..][..width].split_at(width / 2);
                for (y, x) in y.chunks_exact_mut(width).zip(x[t * row..][..row].chunks_exact(width)) {
                    let (y1, y2) = y.split_at_mut(width / 2);
                    let (x1, x2) = x.split_at(width / 2);
                    let pairs = y1.iter_mut().zip(y2).zip(x1.iter().zip(x2));
                    for (((y1, y2), (&a, &b)), (&cos, &sin)) in pairs.zip(cosines.iter().zip(sines)) {
                        let sin = sin * sign;
                        *y1 = a * cos - b * sin;
                        *y2 = b * cos + a * sin;
                    }
                }
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::central_differences;

    fn upload<T: crate::Element>(v: &[T]) -> Buffer {
        Buffer::from_slice(&Device::Cpu, v).unwrap()
    }

    #[test]
    fn backward_equals_central_differences() {
        let sizes = Heads { tokens: 3, heads: 2, width: 6 };
        let (positions, table) = (upload(&[0u32, 7, 3]), upload(&angles(0..8, 6, 100.0)));
        central_differences(
            &[36],
            |x| rotate(&x[0], &positions, &table, sizes, Turn::Forward),
            |_, dy| Ok(vec![rotate(dy, &positions, &table, sizes, Turn::Inverse)?]),
        );
    }

    #[test]
    fn pairs_are_half_a_head_apart_and_turn_by_their_own_frequency() {
        // D = 4, θ = 100: angles of position 2 are 2 and 2 / 10
        let sizes = Heads { tokens: 1, heads: 1, width: 4 };
        let table = upload(&angles(0..3, 4, 100.0));
        let y = rotate(&upload(&[1.0, 0.0, 0.0, 1.0]), &upload(&[2u32]), &table, sizes, Turn::Forward).unwrap();
        let expected = [2.0f64.cos(), -0.2f64.sin(), 2.0f64.sin(), 0.2f64.cos()];
        for (y, e) in y.to_vec::<f64>().unwrap().iter().zip(expected) {
            assert!((y - e).abs() < 1e-15, "{y} {e}");
        }
    }

    #[test]
    fn a_position_past_the_table_is_an_error() {
        let sizes = Heads { tokens: 1, heads: 1, width: 2 };
        let table = upload(&angles(0..3, 2, 100.0));
        let error = rotate(&upload(&[1.0, 0.0]), &upload(&[3u32]), &table, sizes, Turn::Forward).unwrap_err();
        assert_eq!(error.to_string(), "rope: position 3 of a table with 3");
    }
}
