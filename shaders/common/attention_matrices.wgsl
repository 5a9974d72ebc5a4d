// What the attention kernels on matrix units share: operands as vectors of four, and how they lie in workgroup memory.
//   q (T, H, D)   k, v (T, K, D)   f32, D = DIM
//   uses   common/attention_plan.wgsl, and the constants of kernels/src/attention/cooperative.rs
const GROUP: u32 = SUBGROUPS * SUBGROUP;
// columns of a tile of scores
const COLUMNS: u32 = ACROSS * SIDE;
// Vectors of four from one row to the next, with some to spare: rows then start in different banks.
const PITCH: u32 = (DIM + 8u) / 4u;
const SCORE_PITCH: u32 = (COLUMNS + 4u) / 4u;
const WEIGHT_PITCH: u32 = (COLUMNS + 8u) / 4u;
// lanes that share a row of scores
const LANES: u32 = SUBGROUP / SIDE;
const LOG2_E = 1.4426950408889634;

@group(0) @binding(0) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> k: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> v: array<vec4<f32>>;

// Where a query's head is, in vectors.
fn query_at(token: u32, column: u32) -> u32 {
    return (token * p.heads + block.head) * (DIM / 4u) + column;
}
fn load_q(token: u32, end: u32, column: u32) -> vec4<f32> {
    if (token >= end) { return vec4(0.0); }
    return q[query_at(token, column)];
}

// Where the j-th key that the block sees is, in vectors.
fn key_at(j: u32, column: u32) -> u32 {
    let token = select(block.start + j - block.prefix_len, block.prefix_start + j, j < block.prefix_len);
    return (token * p.kv_heads + block.kv_head) * (DIM / 4u) + column;
}
fn load_k(j: u32, keys: u32, column: u32) -> vec4<f32> {
    if (j >= keys) { return vec4(0.0); }
    return k[key_at(j, column)];
}
fn load_v(j: u32, keys: u32, column: u32) -> vec4<f32> {
    if (j >= keys) { return vec4(0.0); }
    return v[key_at(j, column)];
}
