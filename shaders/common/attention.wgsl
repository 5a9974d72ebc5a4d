// What the attention kernels of f32 share: operands, and 4 x 4 register tiles.
//   tiles  TY * 4 rows of the workgroup's block by TX * 4 of the other side, 4 x 4 for each invocation. Output columns
//          are taken TX * 8 at a time, from p.column on.
//   uses   common/attention_plan.wgsl
@group(0) @binding(0) var<storage, read> q: array<f32>;
@group(0) @binding(1) var<storage, read> k: array<f32>;
@group(0) @binding(2) var<storage, read> v: array<f32>;

override TX: u32 = 16u;
override TY: u32 = 8u;
// elements of the summed dimension staged at a time
const DEPTH = 16u;

// staged operands, [depth][4 rows] and [depth][4 columns]; one more column against bank conflicts
var<workgroup> row_tile: array<vec4<f32>, DEPTH * (TY + 1u)>;
var<workgroup> col_tile: array<vec4<f32>, DEPTH * (TX + 1u)>;
// probabilities or their gradients, [4 TX of the other side][4 rows]
var<workgroup> weights: array<vec4<f32>, 4u * TX * TY>;

// The j-th key that the block's queries may see: first the prefix, then the own segment. NONE past the last of them
// and outside the bound piece.
fn key_token(j: u32) -> u32 {
    let own = block.start + j - block.prefix_len;
    let token = select(own, block.prefix_start + j, j < block.prefix_len);
    return select(NONE, token, token < block.end && token >= p.key_lo && token < p.key_hi);
}

// False if none of the n keys from the j-th on lies in the bound piece.
fn keys_in_piece(j: u32, n: u32) -> bool {
    let end = j + n;
    let prefix_end = block.prefix_start + min(end, block.prefix_len);
    let in_prefix = j < block.prefix_len && block.prefix_start + j < p.key_hi && prefix_end > p.key_lo;
    let own = block.start + max(j, block.prefix_len) - block.prefix_len;
    let own_end = block.start + end - block.prefix_len;
    return in_prefix || (end > block.prefix_len && own < p.key_hi && own_end > p.key_lo);
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
