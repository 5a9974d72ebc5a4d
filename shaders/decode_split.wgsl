// decode: attention of one query per row, its tokens in parts that run side by side; decode_merge.wgsl joins them.
//   q       (R, H, D)         f32, as vec4: D a multiple of 4 up to 256
//   keys and values (tokens, K, D)      f32 or f16, four at a time
//   table   u32: per row its first part and how many it has; from p.items on 7 numbers per item: first row, rows, which
//           part of these rows; first token and tokens in the prompts bound, and in the suffixes
//   out     (parts, H, D)     attention to the tokens of one part
//   lse     (parts, H)        log-sum-exp of their scores
//   an item is a part of one row, or of several that share a prompt. One workgroup per item, key/value head and
//   p.heads_each of its query heads, which reads keys and values once for its rows x heads = QUERIES queries at most,
//   TILE tokens at a time: scores with SPREAD lanes to a token, outputs with a lane to 4 columns of a subset of tokens.
//   uses    common/grid.wgsl, common/stored_f32.wgsl or common/stored_f16.wgsl; QUERIES is a constant before this text
struct Params {
    heads: u32, kv_heads: u32, dim: u32, heads_each: u32,
    items: u32, count: u32, scale: f32,
}
var<immediate> p: Params;

const LANES = 128u;
const TILE = 64u;
// vec4 of the longest head
const QUADS = 64u;
const SPREAD: u32 = 8u;
const SLOTS = LANES / SPREAD;
// one more than needed, so that neighbouring tokens fall into different banks
const PITCH = SPREAD + 1u;
// weights of one query, and a zero
const WEIGHTS = TILE + 1u;
// keys of a lane's tokens, vec4 of each, and values in flight
const TOKENS: u32 = 4u;
const STEPS: u32 = 2u;
const LOADS: u32 = 8u;
const LOWEST = -3.0e38;

@group(0) @binding(0) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> prompt_k: array<Four>;
@group(0) @binding(2) var<storage, read> prompt_v: array<Four>;
@group(0) @binding(3) var<storage, read> suffix_k: array<Four>;
@group(0) @binding(4) var<storage, read> suffix_v: array<Four>;
@group(0) @binding(5) var<storage, read> table: array<u32>;
@group(0) @binding(6) var<storage, read_write> out: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> lse: array<f32>;

var<workgroup> queries: array<vec4<f32>, QUERIES * QUADS>;
// a lane's part of a score each; in the end the outputs of each subset
var<workgroup> sums: array<f32, QUERIES * TILE * PITCH>;
var<workgroup> weights: array<f32, QUERIES * WEIGHTS>;
var<workgroup> peaks: array<f32, QUERIES * SPREAD>;
var<workgroup> tops: array<f32, QUERIES>;
var<workgroup> rescales: array<f32, QUERIES>;
var<workgroup> totals: array<f32, QUERIES * TILE>;

fn add_dot(a: vec4<f32>, b: vec4<f32>, sum: f32) -> f32 {
    return fma(a.x, b.x, fma(a.y, b.y, fma(a.z, b.z, fma(a.w, b.w, sum))));
}

@compute @workgroup_size(LANES)
fn split(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
         @builtin(local_invocation_index) lane: u32) {
    let sharing = p.heads / p.kv_heads;
    let across = (sharing + p.heads_each - 1u) / p.heads_each;
    let at = group_index(group, groups);
    let number = at / (across * p.kv_heads);
    if (number >= p.count) { return; }
    let kv = at / across % p.kv_heads;
    let head = kv * sharing + at % across * p.heads_each;
    let heads = min(p.heads_each, (kv + 1u) * sharing - head);
    let item = p.items + number * 7u;
    let row = table[item];
    let rows = table[item + 1u];
    let prompt_tokens = table[item + 4u];
    let suffix_tokens = table[item + 6u];
    let prompt_tiles = (prompt_tokens + TILE - 1u) / TILE;
    let tiles = prompt_tiles + (suffix_tokens + TILE - 1u) / TILE;

    let quads = p.dim / 4u;
    for (var i = lane; i < QUERIES * QUADS; i += LANES) {
        let query = i / QUADS;
        let quad = i % QUADS;
        var x = vec4(0.0);
        if (query < rows * heads && quad < quads) {
            x = p.scale * q[((row + query / heads) * p.heads + head + query % heads) * quads + quad];
        }
        queries[i] = x;
    }
    if (lane < QUERIES) {
        tops[lane] = LOWEST;
        weights[lane * WEIGHTS + TILE] = 0.0;
    }
    workgroupBarrier();

    let stride = p.kv_heads * quads;
    let slot = lane / SPREAD;
    let spread = lane % SPREAD;
    let subsets = min(LANES / quads, TILE);
    let subset = lane / quads;
    let column = lane % quads;
    var sum{QUERIES} = vec4(0.0);
    var total{QUERIES} = 0.0;
    for (var tile = 0u; tile < tiles; tile++) {
        let in_prompt = tile < prompt_tiles;
        let t0 = select(tile - prompt_tiles, tile, in_prompt) * TILE;
        let count = min(select(suffix_tokens, prompt_tokens, in_prompt) - t0, TILE);
        let first = table[item + select(5u, 3u, in_prompt)] + t0;
        // tokens past the last repeat it, with no weight
        let key{TOKENS} = (first + min(slot + {TOKENS}u * SLOTS, count - 1u)) * stride + kv * quads;
        var score{TOKENS}_{QUERIES} = 0.0;
        for (var quad = spread; quad < quads; quad += STEPS * SPREAD) {
            // vec4 past the last repeat it, and those of the queries are zero
            let quad{STEPS} = min(quad + {STEPS}u * SPREAD, quads - 1u);
            var k{TOKENS}_{STEPS}: Four;
            if (in_prompt) {
                k{TOKENS}_{STEPS} = prompt_k[key{TOKENS} + quad{STEPS}];
            } else {
                k{TOKENS}_{STEPS} = suffix_k[key{TOKENS} + quad{STEPS}];
            }
            let key{TOKENS}_{STEPS} = opened(k{TOKENS}_{STEPS});
            let x{STEPS}_{QUERIES} = queries[{QUERIES}u * QUADS + quad + {STEPS}u * SPREAD];
            score{TOKENS}_{QUERIES} = add_dot(x{STEPS}_{QUERIES}, key{TOKENS}_{STEPS}, score{TOKENS}_{QUERIES});
        }
        sums[({QUERIES}u * TILE + slot + {TOKENS}u * SLOTS) * PITCH + spread] = score{TOKENS}_{QUERIES};
        workgroupBarrier();
        for (var i = lane; i < QUERIES * TILE; i += LANES) {
            var score = 0.0;
            score += sums[i * PITCH + {SPREAD}u];
            weights[i / TILE * WEIGHTS + i % TILE] = select(LOWEST, score, i % TILE < count);
        }
        workgroupBarrier();
        if (lane < QUERIES * SPREAD) {
            let start = lane / SPREAD * WEIGHTS + lane % SPREAD;
            var top = LOWEST;
            top = max(top, weights[start + {SPREAD}u * (TILE / SPREAD)]);
            peaks[lane] = top;
        }
        workgroupBarrier();
        if (lane < QUERIES) {
            let before = tops[lane];
            var top = before;
            top = max(top, peaks[lane * SPREAD + {SPREAD}u]);
            tops[lane] = top;
            rescales[lane] = exp(before - top);
        }
        workgroupBarrier();
        for (var i = lane; i < QUERIES * TILE; i += LANES) {
            let place = i / TILE * WEIGHTS + i % TILE;
            weights[place] = select(0.0, exp(weights[place] - tops[i / TILE]), i % TILE < count);
        }
        workgroupBarrier();
        sum{QUERIES} *= rescales[{QUERIES}u];
        total{QUERIES} *= rescales[{QUERIES}u];
        if (subset < subsets) {
            for (var j = subset; j < count; j += LOADS * subsets) {
                let token{LOADS} = min(j + {LOADS}u * subsets, TILE);
                let value{LOADS} = (first + min(token{LOADS}, count - 1u)) * stride + kv * quads + column;
                var v{LOADS}: Four;
                if (in_prompt) {
                    v{LOADS} = prompt_v[value{LOADS}];
                } else {
                    v{LOADS} = suffix_v[value{LOADS}];
                }
                let wide{LOADS} = opened(v{LOADS});
                let w{LOADS}_{QUERIES} = weights[{QUERIES}u * WEIGHTS + token{LOADS}];
                sum{QUERIES} = fma(vec4(w{LOADS}_{QUERIES}), wide{LOADS}, sum{QUERIES});
                total{QUERIES} += w{LOADS}_{QUERIES};
            }
        }
    }

    if (subset < subsets) {
        let to{QUERIES} = (({QUERIES}u * subsets + subset) * quads + column) * 4u;
        sums[to{QUERIES}] = sum{QUERIES}.x;
        sums[to{QUERIES} + 1u] = sum{QUERIES}.y;
        sums[to{QUERIES} + 2u] = sum{QUERIES}.z;
        sums[to{QUERIES} + 3u] = sum{QUERIES}.w;
        if (column == 0u) {
            totals[{QUERIES}u * TILE + subset] = total{QUERIES};
        }
    }
    workgroupBarrier();
    for (var i = lane; i < rows * heads * quads; i += LANES) {
        let query = i / quads;
        let quad = i % quads;
        var y = vec4(0.0);
        var total = 0.0;
        for (var s = 0u; s < subsets; s++) {
            let start = ((query * subsets + s) * quads + quad) * 4u;
            y += vec4(sums[start], sums[start + 1u], sums[start + 2u], sums[start + 3u]);
            total += totals[query * TILE + s];
        }
        let part = table[(row + query / heads) * 2u] + table[item + 2u];
        let to = part * p.heads + head + query % heads;
        out[to * quads + quad] = y / total;
        if (quad == 0u) { lse[to] = tops[query] + log(total); }
    }
}
