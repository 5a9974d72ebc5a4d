//! Grids of kernels that use `common/rows.wgsl`.

use crate::REDUCE_WIDTH;
use crate::device::{FOURS, Gpu, ONES, REDUCE};

/// Accesses of a lane in one turn, and the text that says so.
pub(crate) struct Batch(usize, &'static str);

/// For short rows of many operands.
pub(crate) const ONE: Batch = Batch(1, "const BATCH: u32 = 1u;\n");
/// For kernels of several operands.
pub(crate) const FOUR: Batch = Batch(4, "const BATCH: u32 = 4u;\n");
/// For kernels of one.
pub(crate) const EIGHT: Batch = Batch(8, "const BATCH: u32 = 8u;\n");

/// The two texts of a kernel over rows; see [`Widths`](crate::device::Widths).
pub(crate) const fn sources(batch: Batch, op: &'static str) -> [[&'static str; 6]; 2] {
    const GRID: &str = include_str!("../../shaders/common/grid.wgsl");
    const ROWS: &str = include_str!("../../shaders/common/rows.wgsl");
    [[GRID, ONES, REDUCE, batch.1, ROWS, op], [GRID, FOURS, REDUCE, batch.1, ROWS, op]]
}

/// Lanes per row, so that one turn covers it if a workgroup can, and the workgroups of `rows` rows of `accesses` accesses:
/// none for rows of no elements.
pub(crate) fn grid(gpu: &Gpu, batch: Batch, rows: usize, accesses: usize) -> (u32, u64) {
    let lanes = REDUCE_WIDTH.on(gpu);
    // small workgroups may be one subgroup, which reduces as a whole
    let span = if gpu.small_simd() { lanes } else { accesses.div_ceil(batch.0).next_power_of_two().min(lanes) };
    let groups = if accesses == 0 { 0 } else { rows.div_ceil(lanes / span) };
    (span as u32, groups as u64)
}
