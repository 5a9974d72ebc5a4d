// What the attention kernels on matrix units share: operands as vectors of four, and how they lie in workgroup memory.
//   q (T, H, D)   k, v (T, K, D)   f32, D = DIM
//   uses   common/attention_plan.wgsl, and the constants of kernels/src/attention/cooperative.rs
const GROUP: u32 = SUBGROUPS * SUBGROUP;
// columns of a tile of scores
const COLUMNS: u32 = ACROSS * SIDE;
// From one row to the next, with some to spare so that rows start in different banks: in vectors of four, and in elements.
const PITCH: u32 = (DIM + 8u) / 4u;
const WEIGHT_PITCH: u32 = (COLUMNS + 8u) / 4u;
const SCORE_PITCH: u32 = COLUMNS + 4u;
// lanes that share a row of scores
const LANES: u32 = SUBGROUP / SIDE;
const LOG2_E = 1.4426950408889634;

// sums of matrices on their way to the lanes that have their rows
var<workgroup> scores: array<f32, ROWS * SCORE_PITCH>;

fn four_scores(at: u32) -> vec4<f32> {
    return vec4(scores[at], scores[at + 1u], scores[at + 2u], scores[at + 3u]);
}

@group(0) @binding(0) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> k: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> v: array<vec4<f32>>;

// Where a query's head is, and a key's, in vectors.
fn query_at(token: u32, column: u32) -> u32 {
    return (token * p.heads + block.head) * (DIM / 4u) + column;
}
fn key_at(token: u32, column: u32) -> u32 {
    return (token * p.kv_heads + block.kv_head) * (DIM / 4u) + column;
}

// The last key that the block sees: there always is one.
fn last_key() -> u32 {
    return block.prefix_len + block.end - block.start - 1u;
}
// The j-th key that the block sees. Tiles are filled up with the last one again: what its scores give has no weight.
fn key_token(j: u32) -> u32 {
    let i = min(j, last_key());
    return select(block.start + i - block.prefix_len, block.prefix_start + i, i < block.prefix_len);
}

// The e-th vector of four of a block's rows: its place in a tile, and where it comes from. The last row fills a block up.
fn tile_at(e: u32) -> u32 {
    return e / (DIM / 4u) * PITCH + e % (DIM / 4u);
}
fn own_query(e: u32) -> u32 {
    return query_at(min(block.first + e / (DIM / 4u), block.end - 1u), e % (DIM / 4u));
}
