//! Decoding attention on a GPU: in parts side by side (`split.rs`) where that is made for the sizes and the adapter;
//! else one dispatch for each part of the cache and each piece of it that fits a binding, which merges with the ones
//! before it by their log-sum-exps.

use super::split;
use super::{DecodeDims, DecodeRows};
use crate::buffer::{Buffer, Dtype};
use crate::device::{Access, Constant, Gpu, Kernel, REDUCE, limit_of_rows, split_rows};
use crate::error::Result;
use crate::narrow::{F16, STORED_F16, STORED_F32};

const WIDTH: Constant = Constant { name: "WG", wide: 64.0, small: 8.0 };
const R: Access = Access::Read;
const W: Access = Access::Write;

const GRID: &str = include_str!("../../../shaders/common/grid.wgsl");
const DECODE: &str = include_str!("../../../shaders/decode.wgsl");

const fn part(name: &'static str, sources: &'static [&'static str]) -> Kernel {
    const BINDINGS: &[Access] = &[R, R, R, R, W, W];
    Kernel { name, sources, entry: "part", bindings: BINDINGS, constants: &[WIDTH], params: size_of::<Params>() }
}

/// For caches in f32 and in f16.
pub(crate) static PARTS: [Kernel; 2] = [
    part("decode.part", &[GRID, REDUCE, STORED_F32, DECODE]),
    part("decode.part.f16", &[GRID, REDUCE, F16, STORED_F16, DECODE]),
];

/// Output columns of one dispatch: `COLUMNS` of the shader.
const COLUMNS: usize = 512;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    heads: u32,
    kv_heads: u32,
    dim: u32,
    part: u32,
    capacity: u32,
    key_lo: u32,
    key_hi: u32,
    column: u32,
    accumulate: u32,
    scale: f32,
}

/// Keys and values of one part, and the offset of its columns in the table of rows.
pub(super) struct Part<'a> {
    pub(super) keys: &'a Buffer,
    pub(super) values: &'a Buffer,
    pub(super) table: u32,
}

impl Part<'_> {
    /// Which of two kernels reads it, the one for f32 or the one for f16.
    pub(super) fn stored(&self) -> usize {
        self.keys.dtype().is_half() as usize
    }

    /// Bytes of a token's keys.
    pub(super) fn token(&self, dims: DecodeDims) -> usize {
        dims.heads.kv_width() * self.keys.dtype().size()
    }
}

/// Tokens of one dispatch, at most, if one dispatch of the longest row would take more turns than the adapter's loops do.
fn longest(gpu: &Gpu, rows: &DecodeRows, dim: usize) -> Option<usize> {
    let lanes = WIDTH.on(gpu);
    // of a lane for as many tokens as there are lanes: a score, and its columns of the output
    let turns = dim + dim.min(COLUMNS).div_ceil(lanes) * (lanes + 1) + 1;
    let most = (gpu.turns() / 2 / turns).saturating_mul(lanes);
    let fits = rows.list.iter().all(|r| r.prompt_len.max(r.suffix_len) as usize <= most);
    (!fits).then_some(most)
}

pub(super) fn decode(
    gpu: &Gpu,
    (q, out): (&Buffer, &Buffer),
    parts: [Part; 2],
    rows: &DecodeRows,
    dims: DecodeDims,
    limit: u64,
) -> Result<()> {
    const OP: &str = "decode";
    if !gpu.small_simd() && split::decode(gpu, (q, out), &parts, rows, dims, limit)? {
        return Ok(());
    }
    let (heads, count) = (dims.heads, rows.list.len());
    let table = rows.tables.get(gpu, || {
        let fields = rows.list.iter().flat_map(|r| [r.prompt_start, r.prompt_len, r.slot, r.suffix_len]);
        Buffer::from_slice(q.device(), &fields.collect::<Vec<u32>>())
    })?;
    let lse = Buffer::uninit(q.device(), OP, Dtype::F32, count * heads.query)?;
    let (width, kv_width) = (heads.q_width(), heads.kv_width());
    let (kernel, token) = (&PARTS[parts[0].stored()], parts[0].token(dims));
    let key_limit = longest(gpu, rows, heads.dim).map_or(limit, |most| limit_of_rows(limit, most, token));
    for r in split_rows(OP, count, &[width * 4, 16], limit)? {
        let mut accumulate = 0;
        for part in &parts {
            for tokens in split_rows(OP, part.keys.len() / kv_width, &[token], key_limit)? {
                let keys = tokens.start * kv_width..tokens.end * kv_width;
                let binds = [
                    q.bind(r.start * width..r.end * width),
                    part.keys.bind(keys.clone()),
                    part.values.bind(keys),
                    table.bind(r.start * 4..r.end * 4),
                    out.bind(r.start * width..r.end * width),
                    lse.bind(r.start * heads.query..r.end * heads.query),
                ];
                // descending: the dispatch of the first columns writes the log-sum-exp that the others still read
                for column in (0..heads.dim).step_by(COLUMNS).rev() {
                    let params = Params {
                        rows: r.len() as u32,
                        heads: heads.query as u32,
                        kv_heads: heads.kv as u32,
                        dim: heads.dim as u32,
                        part: part.table,
                        capacity: dims.capacity as u32,
                        key_lo: tokens.start as u32,
                        key_hi: tokens.end as u32,
                        column: column as u32,
                        accumulate,
                        scale: dims.scale as f32,
                    };
                    gpu.run(kernel, &binds, &params, (r.len() * heads.query) as u64)?;
                }
                accumulate = 1;
            }
        }
    }
    Ok(())
}
