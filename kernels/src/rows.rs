//! Grids of kernels that use `common/rows.wgsl`.

use crate::REDUCE_WIDTH;
use crate::device::{FOURS, Gpu, ONES, REDUCE};

/// Accesses of a lane in one turn, `BATCH` in the shader.
const BATCH: usize = 4;

/// The two texts of a kernel over rows; see [`Widths`](crate::device::Widths).
pub(crate) const fn sources(op: &'static str) -> [[&'static str; 5]; 2] {
    const GRID: &str = include_str!("../../shaders/common/grid.wgsl");
    const ROWS: &str = include_str!("../../shaders/common/rows.wgsl");
    [[GRID, ONES, REDUCE, ROWS, op], [GRID, FOURS, REDUCE, ROWS, op]]
}

/// Lanes per row, so that one turn covers it if a workgroup can, and the workgroups of `rows` rows of `accesses` accesses:
/// none for rows of no elements.
pub(crate) fn grid(gpu: &Gpu, rows: usize, accesses: usize) -> (u32, u64) {
    let lanes = REDUCE_WIDTH.on(gpu);
    // small workgroups may be one subgroup, which reduces as a whole
    let span = if gpu.small_simd() { lanes } else { accesses.div_ceil(BATCH).next_power_of_two().min(lanes) };
    let groups = if accesses == 0 { 0 } else { rows.div_ceil(lanes / span) };
    (span as u32, groups as u64)
}
