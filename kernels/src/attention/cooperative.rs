//! Attention on matrix units: q, k, v, dout and what is made of the scores are rounded to f16 for the products; sums,
//! softmax statistics and results are f32.
//!
//! For head widths 64 and 128 and operands that fit one binding each.

#[cfg(test)]
mod tests;

use super::gpu::{Params, run_stats};
use super::{Attended, Gradients, Operands};
use crate::buffer::{Buffer, Dtype};
use crate::device::{Access, Gpu, Kernel, MATRICES, Matrices};
use crate::error::Result;
use crate::matmul;

/// The kernels for one head width.
#[derive(Debug)]
pub(crate) struct Kernels {
    forward: Kernel,
    dq: Kernel,
    dkv: Kernel,
}

impl Kernels {
    pub(crate) fn all(&'static self) -> [&'static Kernel; 3] {
        [&self.forward, &self.dq, &self.dkv]
    }
}

/// What the texts leave open, beside DIM, the width of a head. SUBGROUPS of a workgroup have SIDE rows each (forward), or
/// ACROSS of them share SIDE rows (backward); a tile has ACROSS matrices of scores in a row, of which a lane has SHARE vectors
/// of four (forward). A head's width is PARTS matrices; an invocation brings LOADS vectors of four of a tile.
const SIZES: &str = "const SUBGROUPS: u32 = 4u;
const ACROSS: u32 = 2u;
const PARTS: u32 = DIM / SIDE;
const HALF: u32 = PARTS / ACROSS;
const LOADS: u32 = ACROSS * SIDE * DIM / 4u / SUBGROUPS / SUBGROUP;
const SHARE: u32 = ACROSS * SIDE * SIDE / 4u / SUBGROUP;
";
/// Matrices of rows of one workgroup: `forward`, and the others.
const ROWS: usize = 4;
const ROWS_BACKWARD: usize = 2;
const DIM_64: &str = "const DIM: u32 = 64u;\n";
const DIM_128: &str = "const DIM: u32 = 128u;\n";

const GRID: &str = include_str!("../../../shaders/common/grid.wgsl");
const PLAN: &str = include_str!("../../../shaders/common/attention_plan.wgsl");
const TILES: &str = include_str!("../../../shaders/common/attention_matrices.wgsl");
const FORWARD: &str = include_str!("../../../shaders/attention_cooperative.wgsl");
const BACKWARD: &str = include_str!("../../../shaders/attention_backward_cooperative.wgsl");

const R: Access = Access::Read;
const W: Access = Access::Write;

const fn kernels_of(
    names: [&'static str; 3],
    forward: &'static [&'static str],
    backward: &'static [&'static str],
) -> Kernels {
    let [forward_name, dq_name, dkv_name] = names;
    let (constants, params) = (&[], size_of::<Params>());
    Kernels {
        forward: Kernel {
            name: forward_name,
            sources: forward,
            entry: "forward",
            bindings: &[R, R, R, R, W, W],
            constants,
            params,
        },
        dq: Kernel {
            name: dq_name,
            sources: backward,
            entry: "backward_dq",
            bindings: &[R, R, R, R, R, R, W],
            constants,
            params,
        },
        dkv: Kernel {
            name: dkv_name,
            sources: backward,
            entry: "backward_dkv",
            bindings: &[R, R, R, R, R, R, W, W],
            constants,
            params,
        },
    }
}

/// By head widths 64 and 128.
pub(crate) static KERNELS: [Kernels; 2] = [
    kernels_of(
        ["attention.forward_64", "attention.dq_64", "attention.dkv_64"],
        &[MATRICES, DIM_64, SIZES, GRID, PLAN, TILES, FORWARD],
        &[MATRICES, DIM_64, SIZES, GRID, PLAN, TILES, BACKWARD],
    ),
    kernels_of(
        ["attention.forward_128", "attention.dq_128", "attention.dkv_128"],
        &[MATRICES, DIM_128, SIZES, GRID, PLAN, TILES, FORWARD],
        &[MATRICES, DIM_128, SIZES, GRID, PLAN, TILES, BACKWARD],
    ),
];

/// The kernels for these operands, and the rows of the GPU's matrices; none if it is to compute in f32, or the sizes are
/// others.
pub(super) fn kernels(gpu: &Gpu, x: &Operands, limit: u64) -> Option<(&'static Kernels, usize)> {
    let Matrices { side, subgroup } = matmul::matrices(gpu)?;
    let widest = x.segments.tokens() as u64 * x.heads.q_width() as u64 * 4;
    // one lane of a subgroup, or two, to a row of scores
    if widest > limit || !matches!(subgroup / side, 1 | 2) {
        return None;
    }
    match x.heads.dim {
        64 => Some((&KERNELS[0], side as usize)),
        128 => Some((&KERNELS[1], side as usize)),
        _ => None,
    }
}

pub(super) fn forward(gpu: &Gpu, (kernels, side): (&'static Kernels, usize), x: &Operands, y: &Attended) -> Result<()> {
    let (tokens, plan) = (0..x.segments.tokens(), x.segments.plan(gpu, ROWS * side)?);
    let [q, k, v] = [x.q, x.k, x.v].map(|operand| operand.bind_all());
    let binds = [q, k, v, plan.table.bind_all(), y.out.bind_all(), y.lse.bind_all()];
    let params = Params::new(x, &plan, &tokens, &tokens);
    gpu.run(&kernels.forward, &binds, &params, plan.blocks as u64 * x.heads.query as u64)
}

pub(super) fn backward(
    gpu: &Gpu,
    (kernels, side): (&'static Kernels, usize),
    x: &Operands,
    y: &Attended,
    dout: &Buffer,
    gradients: &Gradients,
) -> Result<()> {
    let (tokens, plan) = (0..x.segments.tokens(), x.segments.plan(gpu, ROWS_BACKWARD * side)?);
    let params = Params::new(x, &plan, &tokens, &tokens);
    let stats = Buffer::uninit(x.q.device(), "attention backward", Dtype::F32, 2 * y.lse.len())?;
    run_stats(gpu, [y.out.bind_all(), dout.bind_all(), y.lse.bind_all(), stats.bind_all()], &params, y.lse.len())?;
    let [q, k, v, dout] = [x.q, x.k, x.v, dout].map(|operand| operand.bind_all());
    let (plan, stats, blocks) = (plan.table.bind_all(), stats.bind_all(), plan.blocks as u64);
    let binds = [q, k, v, plan, dout, stats, gradients.dq.bind_all()];
    gpu.run(&kernels.dq, &binds, &params, blocks * x.heads.query as u64)?;
    let binds = [q, k, v, plan, dout, stats, gradients.dk.bind_all(), gradients.dv.bind_all()];
    gpu.run(&kernels.dkv, &binds, &params, blocks * x.heads.kv as u64)
}
