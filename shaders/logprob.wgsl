// logprob: what a row of logits says of its target, and the way back, with z = logit * inverse (1 / temperature).
//   logits    (R, V)  f32    a chunk of rows; the gradient overwrites it
//   targets   (R)     u32
//   logp      (R)     f32    z[target] - log sum exp z
//   entropy   (R)     f32    of softmax(z)
//   norm      (R, 2)  f32    max logit, log sum exp (z - max z): kept for the way back
//   g         (R)     f32    gradient of logp
//   stats     one workgroup per row, one pass: running maximum, sum of e^d and of d e^d, d = z - max z; f32, in batches
//   gradient  logits = g inverse (onehot(target) - softmax(z)), ELEMENTS accesses per invocation
//   uses      common/grid.wgsl, common/ones.wgsl or common/fours.wgsl, common/reduce.wgsl
struct Params { rows: u32, cols: u32, inverse: f32 }
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> logits: array<Elem>;
@group(0) @binding(1) var<storage, read> targets: array<u32>;
@group(0) @binding(2) var<storage, read_write> logp: array<f32>;
@group(0) @binding(3) var<storage, read_write> entropy: array<f32>;
@group(0) @binding(4) var<storage, read_write> norm: array<f32>;

// e^d is 0 from here on down, and nothing below stays finite for certain.
const LOWEST: f32 = -1e4;
// Accesses of a lane in a turn: all loads come first, and what they hold is added up before it joins the lane's sums, because
// thousands of additions to one number would drift.
const BATCH: u32 = 8u;

@compute @workgroup_size(WG)
fn stats(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
         @builtin(local_invocation_index) lane: u32) {
    let row = group_index(group, groups);
    if (row >= p.rows) { return; }
    let cols = p.cols / WIDTH;
    let start = row * cols;
    // a masked logit may be minus infinity
    var largest = -3.4e38;
    var total = 0.0;
    var slope = 0.0;
    // max() and exp() may drop a NaN; its bits are above all others
    var bits = Index();
    for (var c = lane; c < cols; c += WG * BATCH) {
        let v{BATCH} = logits[start + min(c + {BATCH}u * WG, cols - 1u)];
        let before = largest;
        largest = max(largest, max_of(v{BATCH}));
        bits = max(bits, bitcast<Index>(v{BATCH}) & Index(0x7fffffffu));
        // to the new largest
        let shift = max((before - largest) * p.inverse, LOWEST);
        let shrink = exp(shift);
        slope = shrink * (slope + shift * total);
        total = shrink * total;
        let d{BATCH} = max((v{BATCH} - largest) * p.inverse, Elem(LOWEST));
        let e{BATCH} = select(Elem(), exp(d{BATCH}), c + {BATCH}u * WG < cols);
        var batch_total = Elem();
        var batch_slope = Elem();
        batch_total += e{BATCH};
        batch_slope += e{BATCH} * d{BATCH};
        total += sum_of(batch_total);
        slope += sum_of(batch_slope);
    }
    let poison = bitcast<f32>(top_of(bits));
    let top = group_max(lane, select(largest, poison, is_nan(poison)));
    let d = max((largest - top) * p.inverse, LOWEST);
    slope = group_sum(lane, exp(d) * (slope + d * total));
    total = group_sum(lane, exp(d) * total);
    if (lane == 0u) {
        let log_sum = log(total);
        let at = min(targets[row], p.cols - 1u);
        let target_logit = sum_of(select(Elem(), logits[start + at / WIDTH], Index(at % WIDTH) == PLACES));
        logp[row] = (target_logit - top) * p.inverse - log_sum;
        entropy[row] = select(log_sum - slope / total, top, is_nan(top));
        norm[row * 2u] = top;
        norm[row * 2u + 1u] = log_sum;
    }
}

@group(0) @binding(0) var<storage, read_write> chunk: array<Elem>;
@group(0) @binding(2) var<storage, read> saved_norm: array<f32>;
@group(0) @binding(3) var<storage, read> g: array<f32>;

const ELEMENTS: u32 = 2u;

// The gradient of access i, whose logits are x.
fn gradient_of(x: Elem, i: u32) -> Elem {
    let row = i / (p.cols / WIDTH);
    let column = i % (p.cols / WIDTH) * WIDTH + PLACES;
    let share = exp((x - saved_norm[row * 2u]) * p.inverse - saved_norm[row * 2u + 1u]);
    let hit = select(Elem(), Elem(1.0), column == Index(targets[row]));
    return g[row] * p.inverse * (hit - share);
}

@compute @workgroup_size(WG)
fn gradient(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
            @builtin(local_invocation_index) lane: u32) {
    let n = p.rows * (p.cols / WIDTH);
    let i{ELEMENTS} = group_index(group, groups) * (WG * ELEMENTS) + lane + {ELEMENTS}u * WG;
    let x{ELEMENTS} = chunk[min(i{ELEMENTS}, n - 1u)];
    if (i{ELEMENTS} < n) { chunk[i{ELEMENTS}] = gradient_of(x{ELEMENTS}, i{ELEMENTS}); }
}
