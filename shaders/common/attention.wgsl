// What the attention kernels share: parameters, the plan of the segments, and 4 x 4 register tiles.
//   plan   u32: blocks of rows (segment, first token), then segments (start, length, prefix start, prefix length),
//          then for each segment the first of its ranges, then ranges (first, end) of tokens that see its keys
//   tiles  TY * 4 rows of the workgroup's block by TX * 4 of the other side, 4 x 4 for each invocation. Output columns
//          are taken TX * 8 at a time, from p.column on.
//   pieces bound spans may be pieces of the T axis, queries [query_lo, query_hi) and keys [key_lo, key_hi); with
//          p.accumulate a dispatch adds to what the dispatches before it left.
struct Params {
    heads: u32, kv_heads: u32, dim: u32, blocks: u32,
    segments: u32, seen_at: u32, seen_by: u32, column: u32,
    query_lo: u32, query_hi: u32, key_lo: u32, key_hi: u32,
    accumulate: u32, scale: f32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> q: array<f32>;
@group(0) @binding(1) var<storage, read> k: array<f32>;
@group(0) @binding(2) var<storage, read> v: array<f32>;
@group(0) @binding(3) var<storage, read> plan: array<u32>;

override TX: u32 = 16u;
override TY: u32 = 8u;
// elements of the summed dimension staged at a time
const DEPTH = 16u;
// no token
const NONE = 0xffffffffu;
// below every score
const LOWEST = -3.0e38;

// staged operands, [depth][4 rows] and [depth][4 columns]; one more column against bank conflicts
var<workgroup> row_tile: array<vec4<f32>, DEPTH * (TY + 1u)>;
var<workgroup> col_tile: array<vec4<f32>, DEPTH * (TX + 1u)>;
// probabilities or their gradients, [4 TX of the other side][4 rows]
var<workgroup> weights: array<vec4<f32>, 4u * TX * TY>;

// The workgroup's block: tokens [first, end) of a segment that starts at `start`, and the heads it works on.
struct Block {
    segment: u32, first: u32, end: u32,
    start: u32, prefix_start: u32, prefix_len: u32,
    head: u32, kv_head: u32,
}
var<private> block: Block;

fn open_block(index: u32) {
    block.segment = plan[2u * index];
    block.first = plan[2u * index + 1u];
    let at = p.segments + 4u * block.segment;
    block.start = plan[at];
    block.end = min(block.first + 4u * TY, block.start + plan[at + 1u]);
    block.prefix_start = plan[at + 2u];
    block.prefix_len = plan[at + 3u];
}

// The j-th key that the block's queries may see: first the prefix, then the own segment. NONE past the last of them
// and outside the bound piece.
fn key_token(j: u32) -> u32 {
    let own = block.start + j - block.prefix_len;
    let token = select(own, block.prefix_start + j, j < block.prefix_len);
    return select(NONE, token, token < block.end && token >= p.key_lo && token < p.key_hi);
}

fn key_tokens(j: u32) -> vec4<u32> {
    return vec4(key_token(j), key_token(j + 1u), key_token(j + 2u), key_token(j + 3u));
}

fn q_at(token: u32, d: u32) -> f32 {
    if (token < p.query_lo || token >= p.query_hi || d >= p.dim) { return 0.0; }
    return q[((token - p.query_lo) * p.heads + block.head) * p.dim + d];
}

fn k_at(token: u32, d: u32) -> f32 {
    if (token < p.key_lo || token >= p.key_hi || d >= p.dim) { return 0.0; }
    return k[((token - p.key_lo) * p.kv_heads + block.kv_head) * p.dim + d];
}

fn v_at(token: u32, d: u32) -> f32 {
    if (token < p.key_lo || token >= p.key_hi || d >= p.dim) { return 0.0; }
    return v[((token - p.key_lo) * p.kv_heads + block.kv_head) * p.dim + d];
}

// s[row] += row_tile[..][row] * col_tile over one staged depth.
fn multiply(s: ptr<function, mat4x4<f32>>, tx: u32, ty: u32) {
    for (var d = 0u; d < DEPTH; d++) {
        let a = row_tile[d * (TY + 1u) + ty];
        let b = col_tile[d * (TX + 1u) + tx];
        (*s)[0] = fma(vec4(a.x), b, (*s)[0]);
        (*s)[1] = fma(vec4(a.y), b, (*s)[1]);
        (*s)[2] = fma(vec4(a.z), b, (*s)[2]);
        (*s)[3] = fma(vec4(a.w), b, (*s)[3]);
    }
}

// o[row] += weights[from ..][row] * col_tile, which holds 4 TX output columns of DEPTH tokens. Returns the sum of the
// weights of each row.
fn gather(o: ptr<function, mat4x4<f32>>, start: u32, tx: u32, ty: u32) -> vec4<f32> {
    var total = vec4<f32>();
    for (var d = 0u; d < DEPTH; d++) {
        let a = weights[(start + d) * TY + ty];
        let b = col_tile[d * (TX + 1u) + tx];
        (*o)[0] = fma(vec4(a.x), b, (*o)[0]);
        (*o)[1] = fma(vec4(a.y), b, (*o)[1]);
        (*o)[2] = fma(vec4(a.z), b, (*o)[2]);
        (*o)[3] = fma(vec4(a.w), b, (*o)[3]);
        total += a;
    }
    return total;
}

// Puts a 4 x 4 tile of rows where `gather` finds it.
fn put_weights(s: mat4x4<f32>, tx: u32, ty: u32) {
    let t = transpose(s);
    weights[(4u * tx) * TY + ty] = t[0];
    weights[(4u * tx + 1u) * TY + ty] = t[1];
    weights[(4u * tx + 2u) * TY + ty] = t[2];
    weights[(4u * tx + 3u) * TY + ty] = t[3];
}
