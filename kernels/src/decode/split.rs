//! Decoding attention on a GPU with many lanes: the tokens of each row in parts that run side by side, and a second
//! kernel that joins them where a row has several.

use super::gpu::Part;
use super::plan::{Dealing, Plan};
use super::{DecodeDims, DecodeRows};
use crate::attention::Heads;
use crate::buffer::{Buffer, Dtype};
use crate::device::{Access, Constant, Gpu, Kernel, REDUCE, split_rows};
use crate::error::Result;
use crate::narrow::{F16, STORED_F16, STORED_F32};
use std::ops::Range;
use std::sync::Arc;

const OP: &str = "decode";
const R: Access = Access::Read;
const W: Access = Access::Write;
const GRID: &str = include_str!("../../../shaders/common/grid.wgsl");
const SPLIT: &str = include_str!("../../../shaders/decode_split.wgsl");

const fn split(name: &'static str, sources: &'static [&'static str]) -> Kernel {
    const BINDINGS: &[Access] = &[R, R, R, R, R, R, W, W];
    Kernel { name, sources, entry: "split", bindings: BINDINGS, constants: &[], params: size_of::<SplitParams>() }
}

macro_rules! of_queries {
    ($n:literal) => {{
        const QUERIES: &str = concat!("const QUERIES: u32 = ", $n, "u;\n");
        [
            split(concat!("decode.split_", $n), &[GRID, STORED_F32, QUERIES, SPLIT]),
            split(concat!("decode.split_", $n, ".f16"), &[GRID, F16, STORED_F16, QUERIES, SPLIT]),
        ]
    }};
}

/// By the logarithm of the queries of a workgroup, for caches in f32 and in f16.
pub(crate) static SPLITS: [[Kernel; 2]; 4] = [of_queries!(1), of_queries!(2), of_queries!(4), of_queries!(8)];
/// Queries of a workgroup at most.
const QUERIES: usize = 8;
/// Head widths that the kernel has room for: multiples of `QUAD`.
const WIDEST: usize = 256;
const QUAD: usize = 4;

pub(crate) static MERGE: Kernel = Kernel {
    name: "decode.merge",
    sources: &[GRID, REDUCE, include_str!("../../../shaders/decode_merge.wgsl")],
    entry: "merge",
    bindings: &[R, R, R, W],
    constants: &[Constant { name: "WG", wide: 128.0, small: 8.0 }],
    params: size_of::<MergeParams>(),
};
/// Columns of one of its workgroups.
const SLAB: usize = 32;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct SplitParams {
    heads: u32,
    kv_heads: u32,
    dim: u32,
    heads_each: u32,
    items: u32,
    count: u32,
    scale: f32,
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct MergeParams {
    rows: u32,
    heads: u32,
    dim: u32,
}

/// What a plan depends on besides the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sizes {
    heads: Heads,
    capacity: usize,
    prompt: usize,
    suffix: usize,
    /// Bytes of a token's keys.
    token: usize,
    limit: u64,
}

impl Sizes {
    fn pieces(&self, tokens: usize) -> Result<Vec<Range<usize>>> {
        split_rows(OP, tokens, &[self.token], self.limit)
    }

    /// Query heads of a workgroup.
    fn heads_each(&self) -> usize {
        self.heads.group().min(QUERIES)
    }

    /// Workgroups of an item.
    fn groups(&self) -> usize {
        self.heads.kv * self.heads.group().div_ceil(self.heads_each())
    }
}

/// A plan as the kernels read it.
pub(super) struct Planned {
    sizes: Sizes,
    table: Buffer,
    /// The first number of each dispatch's items in the table, and how many there are.
    items: Vec<(usize, usize)>,
    /// Rows of an item at most.
    rows: usize,
    /// Parts of all rows.
    parts: usize,
}

impl Planned {
    fn new(q: &Buffer, rows: &DecodeRows, sizes: Sizes) -> Result<Arc<Planned>> {
        let (prompt, suffix) = (sizes.pieces(sizes.prompt)?, sizes.pieces(sizes.suffix)?);
        let plan = Plan::new(
            &rows.list,
            &Dealing {
                capacity: sizes.capacity,
                groups: sizes.groups(),
                rows: QUERIES / sizes.heads_each(),
                prompt: &prompt,
                suffix: &suffix,
            },
        );
        let mut numbers: Vec<usize> = vec![];
        let mut parts = 0;
        for &count in &plan.parts {
            numbers.extend([parts, count]);
            parts += count;
        }
        let mut items = vec![];
        for dispatch in &plan.dispatches {
            items.push((numbers.len(), dispatch.len()));
            numbers.extend(dispatch.iter().flat_map(|i| {
                [i.rows.start, i.rows.len(), i.part, i.prompt.start, i.prompt.len(), i.suffix.start, i.suffix.len()]
            }));
        }
        let numbers: Vec<u32> = numbers.into_iter().map(|x| x as u32).collect();
        let table = Buffer::from_slice(q.device(), &numbers)?;
        let rows = plan.dispatches.iter().flatten().map(|i| i.rows.len()).max().unwrap_or(1);
        Ok(Arc::new(Planned { sizes, table, items, rows, parts }))
    }

    /// Whether its operands fit one binding each, keys and values aside.
    fn fits(&self) -> bool {
        let outputs = self.parts * self.sizes.heads.q_width();
        (outputs.max(self.table.len()) * 4) as u64 <= self.sizes.limit
    }
}

/// Attends, or returns false where the heads or the sizes are not for this way.
pub(super) fn decode<'a>(
    gpu: &Gpu,
    (q, out): (&'a Buffer, &Buffer),
    [prompt, suffix]: &[Part<'a>; 2],
    rows: &DecodeRows,
    dims: DecodeDims,
    limit: u64,
) -> Result<bool> {
    let heads = dims.heads;
    if !heads.dim.is_multiple_of(QUAD) || heads.dim > WIDEST || (q.len() * 4) as u64 > limit {
        return Ok(false);
    }
    let tokens = |part: &Part| part.keys.len() / heads.kv_width();
    let sizes = Sizes {
        heads,
        capacity: dims.capacity,
        prompt: tokens(prompt),
        suffix: tokens(suffix),
        token: prompt.token(dims),
        limit,
    };
    let mut plan = rows.plans.get(gpu, || Planned::new(q, rows, sizes))?;
    if plan.sizes != sizes {
        plan = Planned::new(q, rows, sizes)?;
    }
    if !plan.fits() {
        return Ok(false);
    }
    let lse = Buffer::uninit(q.device(), OP, Dtype::F32, plan.parts * heads.query)?;
    // one part to each row is the result
    let whole = plan.parts == rows.list.len();
    let parts = match whole {
        true => out.clone(),
        false => Buffer::uninit(q.device(), OP, Dtype::F32, plan.parts * heads.q_width())?,
    };
    let (prompt_pieces, suffix_pieces) = (sizes.pieces(sizes.prompt)?, sizes.pieces(sizes.suffix)?);
    let queries = plan.rows * sizes.heads_each();
    let kernel = &SPLITS[queries.next_power_of_two().ilog2() as usize][prompt.stored()];
    for (d, &(items, count)) in plan.items.iter().enumerate() {
        // no item reads a part of the cache that is not there; the queries stand in for it
        let bind = |x: &'a Buffer, pieces: &[Range<usize>]| match pieces.get(d) {
            Some(piece) => x.bind(piece.start * heads.kv_width()..piece.end * heads.kv_width()),
            None => q.bind_all(),
        };
        let binds = [
            q.bind_all(),
            bind(prompt.keys, &prompt_pieces),
            bind(prompt.values, &prompt_pieces),
            bind(suffix.keys, &suffix_pieces),
            bind(suffix.values, &suffix_pieces),
            plan.table.bind_all(),
            parts.bind_all(),
            lse.bind_all(),
        ];
        let params = SplitParams {
            heads: heads.query as u32,
            kv_heads: heads.kv as u32,
            dim: heads.dim as u32,
            heads_each: sizes.heads_each() as u32,
            items: items as u32,
            count: count as u32,
            scale: dims.scale as f32,
        };
        gpu.run(kernel, &binds, &params, (count * sizes.groups()) as u64)?;
    }
    if !whole {
        let params = MergeParams { rows: rows.list.len() as u32, heads: heads.query as u32, dim: heads.dim as u32 };
        let binds = [plan.table.bind_all(), parts.bind_all(), lse.bind_all(), out.bind_all()];
        let groups = rows.list.len() * heads.query * heads.dim.div_ceil(SLAB);
        gpu.run(&MERGE, &binds, &params, groups as u64)?;
    }
    Ok(true)
}
