//! Attention on a GPU: which dispatches cover the operands.
//!
//! Queries and keys are bound in pieces of the T axis where they exceed one binding; every (query piece, key piece)
//! pair is one dispatch, which merges its result with the ones before it. Output columns past what one workgroup
//! holds in registers take further dispatches.

use super::segments::Plan;
use super::{Attended, Gradients, Operands};
use crate::buffer::{Bind, Buffer, Dtype};
use crate::device::{Access, Constant, Gpu, Kernel, limit_of_rows, split_rows};
use crate::error::Result;
use std::ops::Range;

const FORWARD_SOURCES: &[&str] = &[
    include_str!("../../../shaders/common/grid.wgsl"),
    include_str!("../../../shaders/common/attention_plan.wgsl"),
    include_str!("../../../shaders/common/attention.wgsl"),
    include_str!("../../../shaders/attention.wgsl"),
];
const BACKWARD_SOURCES: &[&str] = &[
    include_str!("../../../shaders/common/grid.wgsl"),
    include_str!("../../../shaders/common/attention_plan.wgsl"),
    include_str!("../../../shaders/common/attention.wgsl"),
    include_str!("../../../shaders/attention_backward.wgsl"),
];
/// Invocations along the keys (or output columns), and along the rows of a block; each has a 4 x 4 tile. `TX` is a
/// multiple of 4 and at most 16, for which the shader's staging is laid out.
const TX: Constant = Constant { name: "TX", wide: 16.0, small: 8.0 };
const TY: Constant = Constant { name: "TY", wide: 8.0, small: 4.0 };
/// Elements of the summed dimension staged at a time: `DEPTH` of the shaders.
const DEPTH: usize = 16;
const STATS_WIDTH: Constant = Constant { name: "WG", wide: 64.0, small: 8.0 };

const R: Access = Access::Read;
const W: Access = Access::Write;

pub(crate) static FORWARD: Kernel = Kernel {
    name: "attention.forward",
    sources: FORWARD_SOURCES,
    entry: "forward",
    bindings: &[R, R, R, R, W, W],
    constants: &[TX, TY],
    params: size_of::<Params>(),
};

pub(crate) static STATS: Kernel = Kernel {
    name: "attention.stats",
    sources: BACKWARD_SOURCES,
    entry: "make_stats",
    bindings: &[R, R, R, W],
    constants: &[STATS_WIDTH],
    params: size_of::<Params>(),
};

pub(crate) static DQ: Kernel = Kernel {
    name: "attention.dq",
    sources: BACKWARD_SOURCES,
    entry: "backward_dq",
    bindings: &[R, R, R, R, R, R, W],
    constants: &[TX, TY],
    params: size_of::<Params>(),
};

pub(crate) static DKV: Kernel = Kernel {
    name: "attention.dkv",
    sources: BACKWARD_SOURCES,
    entry: "backward_dkv",
    bindings: &[R, R, R, R, R, R, W, W],
    constants: &[TX, TY],
    params: size_of::<Params>(),
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct Params {
    heads: u32,
    kv_heads: u32,
    dim: u32,
    blocks: u32,
    segments: u32,
    seen_at: u32,
    seen_by: u32,
    column: u32,
    query_lo: u32,
    query_hi: u32,
    key_lo: u32,
    key_hi: u32,
    accumulate: u32,
    scale: f32,
}

impl Params {
    pub(super) fn new(x: &Operands, plan: &Plan, queries: &Range<usize>, keys: &Range<usize>) -> Params {
        Params {
            heads: x.heads.query as u32,
            kv_heads: x.heads.kv as u32,
            dim: x.heads.dim as u32,
            blocks: plan.blocks,
            segments: plan.segments,
            seen_at: plan.seen_at,
            seen_by: plan.seen_by,
            column: 0,
            query_lo: queries.start as u32,
            query_hi: queries.end as u32,
            key_lo: keys.start as u32,
            key_hi: keys.end as u32,
            accumulate: 0,
            scale: x.scale as f32,
        }
    }
}

/// How the operands are bound: pieces of the T axis, and the first columns of the dispatches.
struct Cover {
    plan: Plan,
    queries: Vec<Range<usize>>,
    keys: Vec<Range<usize>>,
    columns: Vec<usize>,
}

impl Cover {
    fn new(op: &'static str, gpu: &Gpu, x: &Operands, limit: u64) -> Result<Cover> {
        let (heads, tokens) = (x.heads, x.segments.tokens());
        // the least piece, of 64 tokens, is few enough for heads of 256 that share their keys with 31 others
        let most = longest(gpu, heads.dim);
        let query_limit = limit_of_rows(limit, most / heads.group(), heads.q_width() * 4);
        let key_limit = limit_of_rows(limit, most, heads.kv_width() * 4);
        Ok(Cover {
            plan: x.segments.plan(gpu, 4 * TY.on(gpu))?,
            // a query row is bound as q, out or dout, and as its two statistics; its keys see it once for each head
            queries: split_rows(op, tokens, &[heads.q_width() * 4, heads.query * 8], query_limit)?,
            keys: split_rows(op, tokens, &[heads.kv_width() * 4], key_limit)?,
            // descending: the dispatch of the first columns writes the log-sum-exp that the others still read
            columns: (0..heads.dim).step_by(8 * TX.on(gpu)).rev().collect(),
        })
    }

    fn params(&self, x: &Operands, queries: &Range<usize>, keys: &Range<usize>) -> Params {
        Params::new(x, &self.plan, queries, keys)
    }
}

/// Tokens that the loops of one dispatch go over, at most, within the turns of the adapter's.
fn longest(gpu: &Gpu, dim: usize) -> usize {
    let (tx, ty) = (TX.on(gpu), TY.on(gpu));
    // of a lane for a tile of 4 TX tokens: two products over the depth, and two gatherings of two column tiles
    let stage = DEPTH.div_ceil(tx) + DEPTH.div_ceil(ty) + DEPTH + 1;
    let turns = (2 * dim.div_ceil(DEPTH) + 4 * (4 * tx).div_ceil(DEPTH)) * stage + tx + 1;
    (gpu.turns() / turns).saturating_mul(4 * tx)
}

/// The span of `tokens` in an operand of `width` elements per token.
fn span(tokens: &Range<usize>, width: usize) -> Range<usize> {
    tokens.start * width..tokens.end * width
}

pub(super) fn forward(gpu: &Gpu, x: &Operands, y: &Attended, limit: u64) -> Result<()> {
    let (heads, cover) = (x.heads, Cover::new("attention", gpu, x, limit)?);
    for queries in &cover.queries {
        for (i, keys) in cover.keys.iter().enumerate() {
            let (of_q, of_kv) = (span(queries, heads.q_width()), span(keys, heads.kv_width()));
            let binds = [
                x.q.bind(of_q.clone()),
                x.k.bind(of_kv.clone()),
                x.v.bind(of_kv),
                cover.plan.table.bind_all(),
                y.out.bind(of_q),
                y.lse.bind(span(queries, heads.query)),
            ];
            for &column in &cover.columns {
                let params =
                    Params { column: column as u32, accumulate: (i > 0) as u32, ..cover.params(x, queries, keys) };
                gpu.run(&FORWARD, &binds, &params, cover.plan.blocks as u64 * heads.query as u64)?;
            }
        }
    }
    Ok(())
}

/// Binds: out, dout, lse, result; `rows` of lse.
pub(super) fn run_stats(gpu: &Gpu, binds: [Bind; 4], params: &Params, rows: usize) -> Result<()> {
    gpu.run(&STATS, &binds, params, rows.div_ceil(STATS_WIDTH.on(gpu)) as u64)
}

pub(super) fn backward(
    gpu: &Gpu,
    x: &Operands,
    y: &Attended,
    dout: &Buffer,
    gradients: &Gradients,
    limit: u64,
) -> Result<()> {
    const OP: &str = "attention backward";
    let (heads, cover) = (x.heads, Cover::new(OP, gpu, x, limit)?);
    let stats = Buffer::uninit(x.q.device(), OP, Dtype::F32, 2 * y.lse.len())?;
    for queries in &cover.queries {
        let (of_q, of_lse) = (span(queries, heads.q_width()), span(queries, heads.query));
        let result = stats.bind(span(queries, 2 * heads.query));
        let binds = [y.out.bind(of_q.clone()), dout.bind(of_q), y.lse.bind(of_lse.clone()), result];
        run_stats(gpu, binds, &cover.params(x, queries, &(0..0)), of_lse.len())?;
    }
    for (a, queries) in cover.queries.iter().enumerate() {
        for (b, keys) in cover.keys.iter().enumerate() {
            let (of_q, of_kv) = (span(queries, heads.q_width()), span(keys, heads.kv_width()));
            let read = [
                x.q.bind(of_q.clone()),
                x.k.bind(of_kv.clone()),
                x.v.bind(of_kv.clone()),
                cover.plan.table.bind_all(),
                dout.bind(of_q.clone()),
                stats.bind(span(queries, 2 * heads.query)),
            ];
            let [q, k, v, plan, dout, stats] = read;
            let binds_dq = [q, k, v, plan, dout, stats, gradients.dq.bind(of_q)];
            let (dk, dv) = (gradients.dk.bind(of_kv.clone()), gradients.dv.bind(of_kv));
            let binds_dkv = [q, k, v, plan, dout, stats, dk, dv];
            let blocks = cover.plan.blocks as u64;
            for &column in &cover.columns {
                let params = Params { column: column as u32, ..cover.params(x, queries, keys) };
                let params_dq = Params { accumulate: (b > 0) as u32, ..params };
                gpu.run(&DQ, &binds_dq, &params_dq, blocks * heads.query as u64)?;
                let params_dkv = Params { accumulate: (a > 0) as u32, ..params };
                gpu.run(&DKV, &binds_dkv, &params_dkv, blocks * heads.kv as u64)?;
            }
        }
    }
    Ok(())
}
