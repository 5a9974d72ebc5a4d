//! Attention on matrix units: q, k, v, dout and what is made of the scores are rounded to f16 for the products; sums,
//! softmax statistics and results are f32.
//!
//! For head widths 64 and 128 and operands that fit one binding each.

#[cfg(test)]
mod tests;

use super::gpu::{Params, run_stats};
use super::{Attended, Gradients, Operands};
use crate::buffer::{Buffer, Dtype};
use crate::device::{Access, Gpu, Kernel};
use crate::error::Result;

/// The kernels for one kind of matrix and one head width.
#[derive(Debug)]
pub(crate) struct Kernels {
    forward: Kernel,
    dq: Kernel,
    dkv: Kernel,
    /// Query rows of one workgroup of `forward`.
    rows: usize,
    /// Query or key rows of one workgroup of the others.
    rows_backward: usize,
}

impl Kernels {
    pub(crate) fn all(&'static self) -> [&'static Kernel; 3] {
        [&self.forward, &self.dq, &self.dkv]
    }
}

// What the texts leave open. SUBGROUPS of a workgroup have SIDE rows each (forward), or ACROSS of them share SIDE rows
// (backward); a tile has ACROSS matrices of scores in a row, of which a lane has SHARE vectors of four (forward).
// A head's width is PARTS matrices; an invocation brings LOADS vectors of four of a tile; HALF is PARTS / ACROSS.

/// Matrices of 16 x 16 with subgroups of 32.
const SIDE_16: &str = "enable f16;
enable wgpu_cooperative_matrix;
alias Left = coop_mat16x16<f16, A>;
alias Right = coop_mat16x16<f16, B>;
alias Sums = coop_mat16x16<f32, C>;
const SIDE: u32 = 16u;
const SUBGROUP: u32 = 32u;
const SUBGROUPS: u32 = 4u;
const SHARE: u32 = 4u;
";
/// Matrices of 8 x 8 with subgroups of 8.
const SIDE_8: &str = "enable f16;
enable wgpu_cooperative_matrix;
alias Left = coop_mat8x8<f16, A>;
alias Right = coop_mat8x8<f16, B>;
alias Sums = coop_mat8x8<f32, C>;
const SIDE: u32 = 8u;
const SUBGROUP: u32 = 8u;
const SUBGROUPS: u32 = 4u;
const SHARE: u32 = 4u;
";
const SIDE_16_DIM_64: &str = "const DIM: u32 = 64u;
const PARTS: u32 = 4u;
const HALF: u32 = 2u;
const ACROSS: u32 = 2u;
const LOADS: u32 = 4u;
";
const SIDE_16_DIM_128: &str = "const DIM: u32 = 128u;
const PARTS: u32 = 8u;
const HALF: u32 = 4u;
const ACROSS: u32 = 2u;
const LOADS: u32 = 8u;
";
const SIDE_8_DIM_64: &str = "const DIM: u32 = 64u;
const PARTS: u32 = 8u;
const HALF: u32 = 4u;
const ACROSS: u32 = 2u;
const LOADS: u32 = 8u;
";
const SIDE_8_DIM_128: &str = "const DIM: u32 = 128u;
const PARTS: u32 = 16u;
const HALF: u32 = 8u;
const ACROSS: u32 = 2u;
const LOADS: u32 = 16u;
";

const GRID: &str = include_str!("../../../shaders/common/grid.wgsl");
const PLAN: &str = include_str!("../../../shaders/common/attention_plan.wgsl");
const MATRICES: &str = include_str!("../../../shaders/common/attention_matrices.wgsl");
const FORWARD: &str = include_str!("../../../shaders/attention_cooperative.wgsl");
const BACKWARD: &str = include_str!("../../../shaders/attention_backward_cooperative.wgsl");

const R: Access = Access::Read;
const W: Access = Access::Write;

const fn kernels_of(
    names: [&'static str; 3],
    forward: &'static [&'static str],
    backward: &'static [&'static str],
    [rows, rows_backward]: [usize; 2],
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
        rows,
        rows_backward,
    }
}

/// Matrices of 16 and of 8 rows, by head widths 64 and 128.
pub(crate) static KERNELS: [[Kernels; 2]; 2] = [
    [
        kernels_of(
            ["attention.forward_16_64", "attention.dq_16_64", "attention.dkv_16_64"],
            &[SIDE_16, SIDE_16_DIM_64, GRID, PLAN, MATRICES, FORWARD],
            &[SIDE_16, SIDE_16_DIM_64, GRID, PLAN, MATRICES, BACKWARD],
            [64, 32],
        ),
        kernels_of(
            ["attention.forward_16_128", "attention.dq_16_128", "attention.dkv_16_128"],
            &[SIDE_16, SIDE_16_DIM_128, GRID, PLAN, MATRICES, FORWARD],
            &[SIDE_16, SIDE_16_DIM_128, GRID, PLAN, MATRICES, BACKWARD],
            [64, 32],
        ),
    ],
    [
        kernels_of(
            ["attention.forward_8_64", "attention.dq_8_64", "attention.dkv_8_64"],
            &[SIDE_8, SIDE_8_DIM_64, GRID, PLAN, MATRICES, FORWARD],
            &[SIDE_8, SIDE_8_DIM_64, GRID, PLAN, MATRICES, BACKWARD],
            [32, 16],
        ),
        kernels_of(
            ["attention.forward_8_128", "attention.dq_8_128", "attention.dkv_8_128"],
            &[SIDE_8, SIDE_8_DIM_128, GRID, PLAN, MATRICES, FORWARD],
            &[SIDE_8, SIDE_8_DIM_128, GRID, PLAN, MATRICES, BACKWARD],
            [32, 16],
        ),
    ],
];

/// The kernels for these operands; none if they are to stay f32, the GPU has no such matrices or the sizes are others.
pub(super) fn kernels(gpu: &Gpu, x: &Operands, limit: u64) -> Option<&'static Kernels> {
    let side = match gpu.cooperative()? {
        16 => &KERNELS[0],
        _ => &KERNELS[1],
    };
    let widest = x.segments.tokens() as u64 * x.heads.q_width() as u64 * 4;
    match x.heads.dim {
        _ if widest > limit || !x.half => None,
        64 => Some(&side[0]),
        128 => Some(&side[1]),
        _ => None,
    }
}

pub(super) fn forward(gpu: &Gpu, kernels: &'static Kernels, x: &Operands, y: &Attended) -> Result<()> {
    let (tokens, plan) = (0..x.segments.tokens(), x.segments.plan(gpu, kernels.rows)?);
    let [q, k, v] = [x.q, x.k, x.v].map(|operand| operand.bind_all());
    let binds = [q, k, v, plan.table.bind_all(), y.out.bind_all(), y.lse.bind_all()];
    let params = Params::new(x, &plan, &tokens, &tokens);
    gpu.run(&kernels.forward, &binds, &params, plan.blocks as u64 * x.heads.query as u64)
}

pub(super) fn backward(
    gpu: &Gpu,
    kernels: &'static Kernels,
    x: &Operands,
    y: &Attended,
    dout: &Buffer,
    gradients: &Gradients,
) -> Result<()> {
    let (tokens, plan) = (0..x.segments.tokens(), x.segments.plan(gpu, kernels.rows_backward)?);
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
