// logprob: what a row of logits says of its target, and the way back, with z = logit * inverse (1 / temperature).
//   logits    (R, V)  f32    a chunk of rows; the gradient overwrites it
//   targets   (R)     u32
//   logp      (R)     f32    z[target] - log sum exp z
//   entropy   (R)     f32    of softmax(z)
//   norm      (R, 2)  f32    max logit, log sum exp (z - max z): kept for the way back
//   g         (R)     f32    gradient of logp
//   stats     one workgroup per row, one pass: running maximum, sum of e^d and of d e^d, d = z - max z; f32, in blocks
//   gradient  logits = g inverse (onehot(target) - softmax(z)), ELEMENTS elements per invocation
//   uses      common/grid.wgsl, common/reduce.wgsl
struct Params { rows: u32, cols: u32, inverse: f32 }
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read> targets: array<u32>;
@group(0) @binding(2) var<storage, read_write> logp: array<f32>;
@group(0) @binding(3) var<storage, read_write> entropy: array<f32>;
@group(0) @binding(4) var<storage, read_write> norm: array<f32>;

// e^d is 0 from here on down, and nothing below stays finite for certain.
const LOWEST: f32 = -1e4;
// Elements a lane adds up before they join its sum: thousands of additions to one number would drift.
const BLOCK: u32 = 64u;

@compute @workgroup_size(WG)
fn stats(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
         @builtin(local_invocation_index) lane: u32) {
    let row = group_index(group, groups);
    if (row >= p.rows) { return; }
    let start = row * p.cols;
    var poison = logits[start + min(lane, p.cols - 1u)];
    // a masked logit may be minus infinity
    var largest = max(poison, -3.4e38);
    var total = 0.0;
    var slope = 0.0;
    for (var block = lane; block < p.cols; block += WG * BLOCK) {
        var block_total = 0.0;
        var block_slope = 0.0;
        for (var c = block; c < min(block + WG * BLOCK, p.cols); c += WG) {
            let x = logits[start + c];
            if (is_nan(x)) { poison = x; }
            let d = max(-abs(x - largest) * p.inverse, LOWEST);
            let e = exp(d);
            if (x > largest) {
                slope = e * (slope + d * total);
                total = e * total;
                block_slope = e * (block_slope + d * block_total);
                block_total = fma(block_total, e, 1.0);
                largest = x;
            } else {
                block_slope = fma(e, d, block_slope);
                block_total += e;
            }
        }
        slope += block_slope;
        total += block_total;
    }
    let top = group_max(lane, select(largest, poison, is_nan(poison)));
    let d = max((largest - top) * p.inverse, LOWEST);
    slope = group_sum(lane, exp(d) * (slope + d * total));
    total = group_sum(lane, exp(d) * total);
    if (lane == 0u) {
        let log_sum = log(total);
        let target_logit = logits[start + min(targets[row], p.cols - 1u)];
        logp[row] = (target_logit - top) * p.inverse - log_sum;
        entropy[row] = select(log_sum - slope / total, top, is_nan(top));
        norm[row * 2u] = top;
        norm[row * 2u + 1u] = log_sum;
    }
}

@group(0) @binding(0) var<storage, read_write> chunk: array<f32>;
@group(0) @binding(2) var<storage, read> saved_norm: array<f32>;
@group(0) @binding(3) var<storage, read> g: array<f32>;

const ELEMENTS: u32 = 4u;

@compute @workgroup_size(WG)
fn gradient(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
            @builtin(local_invocation_index) lane: u32) {
    let first = group_index(group, groups) * (WG * ELEMENTS) + lane;
    for (var k = 0u; k < ELEMENTS; k++) {
        let i = first + k * WG;
        let row = i / p.cols;
        if (row < p.rows) {
            let share = exp((chunk[i] - saved_norm[row * 2u]) * p.inverse - saved_norm[row * 2u + 1u]);
            let hit = select(0.0, 1.0, i % p.cols == targets[row]);
            chunk[i] = g[row] * p.inverse * (hit - share);
        }
    }
}
