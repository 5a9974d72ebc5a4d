//! Operands of a product on matrix units rounded to f16 in memory, instead of as they are staged: each element is read by many
//! workgroups, and half as many bytes are.

use super::{Layout, Matmul, OP};
use crate::buffer::{ALIGNMENT, Buffer, Dtype};
use crate::device::{Access, Gpu, Kernel};
use crate::error::Result;

/// Rows and columns of a workgroup, `TILE` in `round.wgsl`.
const TILE: usize = 32;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    cols: u32,
    start: u32,
}

const fn kernel(name: &'static str, entry: &'static str) -> Kernel {
    const GRID: &str = include_str!("../../../shaders/common/grid.wgsl");
    const SOURCES: &[&str] = &["enable f16;\n", GRID, include_str!("../../../shaders/round.wgsl")];
    const BINDINGS: &[Access] = &[Access::Read, Access::Write];
    Kernel { name, sources: SOURCES, entry, bindings: BINDINGS, constants: &[], params: size_of::<Params>() }
}

/// As they are, and transposed.
pub(crate) static ROUND: [Kernel; 2] = [kernel("round.keep", "keep"), kernel("round.turn", "turn")];

/// Whether that pays. On an H200 at 4096³, operands in f16 whose sums run down columns were multiplied at 187 TFLOP/s, those in f32
/// at 145; an element that is rounded takes the time of 6 bytes. So it should from m n / (m + n) = 500 on; here from the double.
pub(super) fn pays(&Matmul { m, n, k, .. }: &Matmul) -> bool {
    m * n >= 1024 * (m + n) && m * n * k >= 1 << 34
}

/// Whether operands b of this dtype can be: rows of results, and of operands, are whole eights, and operands and results a
/// binding each, so that no piece starts within an eight.
pub(super) fn possible(&Matmul { batch, m, n, k, .. }: &Matmul, b: Dtype, limit: u64) -> bool {
    let fits = |elements: usize| (elements * 4) as u64 + ALIGNMENT <= limit;
    batch == 1 && b == Dtype::F32 && m % 8 == 0 && n % 8 == 0 && [m * k, k * n, m * n].into_iter().all(fits)
}

/// The operands a (k, m) and b (k, n) in f16: those of [`Layout::Tn`].
pub(super) fn operands(gpu: &Gpu, a: &Buffer, b: &Buffer, spec: &Matmul) -> Result<[Buffer; 2]> {
    let Matmul { m, n, k, layout, .. } = *spec;
    let a = if layout == Layout::Tn { round(gpu, a, [k, m], false) } else { round(gpu, a, [m, k], true) };
    let b = if layout == Layout::Nt { round(gpu, b, [n, k], true) } else { round(gpu, b, [k, n], false) };
    Ok([a?, b?])
}

/// A matrix (rows, cols) in f16, transposed if it is to be turned.
fn round(gpu: &Gpu, x: &Buffer, [rows, cols]: [usize; 2], turn: bool) -> Result<Buffer> {
    let y = Buffer::uninit(x.device(), OP, Dtype::F16, rows * cols)?;
    let (from, start) = x.bind_aligned(0..x.len());
    let params = Params { rows: rows as u32, cols: cols as u32, start };
    let groups = if turn { rows.div_ceil(TILE) * cols.div_ceil(TILE) } else { y.len().div_ceil(TILE * TILE) };
    gpu.run(&ROUND[turn as usize], &[from, y.bind_all()], &params, groups as u64)?;
    Ok(y)
}
