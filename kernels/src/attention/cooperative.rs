//! Attention on matrix units: q, k, v, dout and what is made of the scores are rounded to f16 for the products; sums,
//! softmax statistics and results are f32.
//!
//! For head widths 64 and 128 and operands that fit one binding each.

#[cfg(test)]
mod tests;

use super::gpu::Params;
use super::{Attended, Operands};
use crate::device::{Access, Gpu, Kernel};
use crate::error::Result;

/// The kernels for one kind of matrix and one head width.
#[derive(Debug)]
pub(crate) struct Kernels {
    forward: Kernel,
    /// Query rows of one workgroup of `forward`.
    rows: usize,
}

impl Kernels {
    pub(crate) fn all(&'static self) -> [&'static Kernel; 1] {
        [&self.forward]
    }
}

/// Matrices of 16 x 16 with subgroups of 32.
const SIDE_16: &str = "enable f16;
enable wgpu_cooperative_matrix;
alias Left = coop_mat16x16<f16, A>;
alias Right = coop_mat16x16<f16, B>;
alias Sums = coop_mat16x16<f32, C>;
const SIDE: u32 = 16u;
const SUBGROUP: u32 = 32u;
const SUBGROUPS: u32 = 4u;
const KEYS: u32 = 32u;
const ACROSS: u32 = 2u;
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
const KEYS: u32 = 16u;
const ACROSS: u32 = 2u;
const SHARE: u32 = 4u;
";
const SIDE_16_DIM_64: &str = "const DIM: u32 = 64u;\nconst PARTS: u32 = 4u;\nconst LOADS: u32 = 4u;\n";
const SIDE_16_DIM_128: &str = "const DIM: u32 = 128u;\nconst PARTS: u32 = 8u;\nconst LOADS: u32 = 8u;\n";
const SIDE_8_DIM_64: &str = "const DIM: u32 = 64u;\nconst PARTS: u32 = 8u;\nconst LOADS: u32 = 8u;\n";
const SIDE_8_DIM_128: &str = "const DIM: u32 = 128u;\nconst PARTS: u32 = 16u;\nconst LOADS: u32 = 16u;\n";

const GRID: &str = include_str!("../../../shaders/common/grid.wgsl");
const PLAN: &str = include_str!("../../../shaders/common/attention_plan.wgsl");
const FORWARD: &str = include_str!("../../../shaders/attention_cooperative.wgsl");

const R: Access = Access::Read;
const W: Access = Access::Write;

const fn forward_kernel(name: &'static str, sources: &'static [&'static str]) -> Kernel {
    Kernel {
        name,
        sources,
        entry: "forward",
        bindings: &[R, R, R, R, W, W],
        constants: &[],
        params: size_of::<Params>(),
    }
}

/// Matrices of 16 and of 8 rows, by head widths 64 and 128.
pub(crate) static KERNELS: [[Kernels; 2]; 2] = [
    [
        Kernels {
            forward: forward_kernel("attention.forward_16_64", &[SIDE_16, SIDE_16_DIM_64, GRID, PLAN, FORWARD]),
            rows: 64,
        },
        Kernels {
            forward: forward_kernel("attention.forward_16_128", &[SIDE_16, SIDE_16_DIM_128, GRID, PLAN, FORWARD]),
            rows: 64,
        },
    ],
    [
        Kernels {
            forward: forward_kernel("attention.forward_8_64", &[SIDE_8, SIDE_8_DIM_64, GRID, PLAN, FORWARD]),
            rows: 32,
        },
        Kernels {
            forward: forward_kernel("attention.forward_8_128", &[SIDE_8, SIDE_8_DIM_128, GRID, PLAN, FORWARD]),
            rows: 32,
        },
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
