// decode: attention of one query per row to one part of its cache, merged with what earlier dispatches left.
//   q, out (R, H, D)   lse (R, H)   f32   k, v (tokens, K, D)   f32 or f16     one workgroup per (row, head)
//   table  (R, 4) u32: first prompt token, prompt tokens, suffix slot, suffix tokens
//   part   the prompt (p.part = 0), or the suffix (2), whose slots have p.capacity tokens. The bound keys are tokens
//          [p.key_lo, p.key_hi); output columns are taken COLUMNS at a time, from p.column on.
//   uses   common/grid.wgsl, common/reduce.wgsl, common/stored_f32.wgsl or common/stored_f16.wgsl
struct Params {
    rows: u32, heads: u32, kv_heads: u32, dim: u32,
    part: u32, capacity: u32, key_lo: u32, key_hi: u32,
    column: u32, accumulate: u32, scale: f32,
}
var<immediate> p: Params;

const COLUMNS = 512u;
const LOWEST = -3.0e38;

@group(0) @binding(0) var<storage, read> q: array<f32>;
@group(0) @binding(1) var<storage, read> k: array<Word>;
@group(0) @binding(2) var<storage, read> v: array<Word>;
@group(0) @binding(3) var<storage, read> table: array<u32>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;
@group(0) @binding(5) var<storage, read_write> lse: array<f32>;

var<workgroup> weights: array<f32, WG>;
// each invocation has its own columns of the output
var<workgroup> sums: array<f32, COLUMNS>;

@compute @workgroup_size(WG)
fn part(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let at = group_index(group, groups);
    if (at >= p.rows * p.heads) { return; }
    let entry = at / p.heads * 4u + p.part;
    let first = table[entry] * select(1u, p.capacity, p.part == 2u);
    let begin = max(first, p.key_lo);
    let end = min(first + table[entry + 1u], p.key_hi);
    if (p.accumulate != 0u && begin >= end) { return; }
    let stride = p.kv_heads * p.dim;
    let base = at % p.heads / (p.heads / p.kv_heads) * p.dim;
    var before = LOWEST;
    if (p.accumulate != 0u) { before = lse[at]; }

    let columns = min(p.dim - p.column, COLUMNS);
    for (var c = lane; c < columns; c += WG) { sums[c] = 0.0; }
    var largest = LOWEST;
    var total = 0.0;
    for (var j0 = begin; j0 < end; j0 += WG) {
        let token = j0 + lane;
        var score = LOWEST;
        if (token < end) {
            let key = (token - p.key_lo) * stride + base;
            score = 0.0;
            for (var d = 0u; d < p.dim; d++) {
                score = fma(q[at * p.dim + d], element(k[(key + d) / IN_WORD], key + d), score);
            }
            score *= p.scale;
        }
        let here = group_max(lane, nan_max(score, largest));
        let rescale = exp(largest - here);
        largest = here;
        let weight = select(0.0, exp(score - here), token < end);
        weights[lane] = weight;
        total = total * rescale + group_sum(lane, weight);
        for (var c = lane; c < columns; c += WG) {
            var sum = sums[c] * rescale;
            for (var j = j0; j < min(j0 + WG, end); j++) {
                let value = (j - p.key_lo) * stride + base + p.column + c;
                sum = fma(weights[j - j0], element(v[value / IN_WORD], value), sum);
            }
            sums[c] = sum;
        }
        workgroupBarrier();
    }

    var sum = LOWEST;
    var scale = 0.0;
    if (total != 0.0) {
        sum = largest + log(total);
        scale = 1.0 / total;
    }
    var keep = 0.0;
    if (p.accumulate != 0u) {
        let top = nan_max(sum, before);
        let old = exp(before - top);
        let fresh = exp(sum - top);
        keep = old / (old + fresh);
        scale *= fresh / (old + fresh);
        sum = top + log(old + fresh);
    }
    // columns go from the last dispatch to the first, so that every one of them finds the old sum; the barrier keeps
    // this one's invocations from finding the new one
    workgroupBarrier();
    if (lane == 0u && p.column == 0u) { lse[at] = sum; }
    for (var c = lane; c < columns; c += WG) {
        let place = at * p.dim + p.column + c;
        var y = scale * sums[c];
        if (p.accumulate != 0u) { y += keep * out[place]; }
        out[place] = y;
    }
}
