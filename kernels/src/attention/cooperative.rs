//! Attention on matrix units: q, k, v, dout and what is made of the scores are rounded to f16 for the products; sums,
//! softmax statistics and results are f32.
//!
//! For head widths 64 and 128 and operands that fit one binding each.

#[cfg(test)]
mod tests;

use super::gpu::{Params, run_stats};
use super::{Attended, Gradients, Heads, Operands, Segments};
use crate::buffer::{Buffer, Dtype};
use crate::device::{Access, Device, Gpu, Kernel, MATRICES, Matrices};
use crate::error::Result;

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
    let widest = x.segments.tokens() as u64 * x.heads.q_width() as u64 * 4;
    let kernels = match x.heads.dim {
        _ if widest > limit => return None,
        64 => &KERNELS[0],
        128 => &KERNELS[1],
        _ => return None,
    };
    let matrices = gpu.matrices_for("attention", |matrices| work(gpu, matrices))?;
    Some((kernels, matrices.side as usize))
}

/// Whether the kernels can run on such matrices, and agree with the twin on a small case.
fn work(gpu: &Gpu, Matrices { side, subgroup }: Matrices) -> bool {
    // one lane of a subgroup to a row of a matrix, or two
    matches!(subgroup / side, 1 | 2)
        && KERNELS
            .iter()
            .zip([64, 128])
            .all(|(kernels, dim)| agrees(gpu, (kernels, side as usize), dim).unwrap_or(false))
}

fn agrees(gpu: &Gpu, kernels: (&'static Kernels, usize), dim: usize) -> Result<bool> {
    let (heads, segments) = (Heads { query: 2, kv: 1, dim }, Segments::packed(&[70, 5])?);
    let (device, tokens) = (Device::Gpu(gpu.clone()), segments.tokens());
    let values = |step: usize, width: usize| (0..tokens * width).map(|i| (i * step % 31) as f32 / 16.0 - 1.0).collect();
    let values: [Vec<f32>; 4] = [
        values(5, heads.q_width()),
        values(7, heads.kv_width()),
        values(11, heads.kv_width()),
        values(13, heads.q_width()),
    ];
    let on =
        |device: &Device| -> Result<Vec<Buffer>> { values.iter().map(|x| Buffer::from_slice(device, x)).collect() };
    let (here, there) = (on(&Device::Cpu)?, on(&device)?);
    fn operands<'a>(x: &'a [Buffer], segments: &'a Segments, heads: Heads) -> Operands<'a> {
        Operands { q: &x[0], k: &x[1], v: &x[2], segments, heads, scale: heads.scale() }
    }
    let (on_cpu, on_gpu) = (operands(&here, &segments, heads), operands(&there, &segments, heads));

    let expected = super::forward(&on_cpu)?;
    let slopes = super::backward(&on_cpu, &expected, &here[3])?;
    let new = |like: &Buffer| Buffer::uninit(&device, "attention", Dtype::F32, like.len());
    let found = Attended { out: new(&expected.out)?, lse: new(&expected.lse)? };
    forward(gpu, kernels, &on_gpu, &found)?;
    let gradients = Gradients { dq: new(&slopes.dq)?, dk: new(&slopes.dk)?, dv: new(&slopes.dv)? };
    backward(gpu, kernels, &on_gpu, &found, &there[3], &gradients)?;

    let near = |found: &Buffer, expected: &Buffer| -> Result<bool> {
        let (found, expected) = (found.to_vec::<f32>()?, expected.to_vec::<f32>()?);
        let largest = expected.iter().fold(0.0f32, |m, x| m.max(x.abs()));
        // a wrong place or factor is off by far more, roundings to f16 by less
        Ok(found.iter().zip(&expected).all(|(f, e)| (f - e).abs() < 0.02 * largest))
    };
    Ok(near(&found.out, &expected.out)?
        && near(&found.lse, &expected.lse)?
        && near(&gradients.dq, &slopes.dq)?
        && near(&gradients.dk, &slopes.dk)?
        && near(&gradients.dv, &slopes.dv)?)
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
