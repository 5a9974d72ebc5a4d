// sampling: one token per row of logits, so that only tokens leave the device.
//   logits     (B, V)     f32
//   measured   (B, S, 2)  f32    of each span of TURNS WG logits: the largest, and the sum of the weights beside it
//   uniforms   (B)        f32    in [0, 1)
//   tokens     (B)        u32    NO_TOKEN for a row with a NaN or without a finite logit
//   logp       (B)        f32    log softmax(logits inverse)[token]
//   argmax     one workgroup per row: the lowest index of the largest logit
//   measure    one workgroup per span
//   sample     one workgroup per row: the first token whose cumulative probability exceeds the uniform, in index order; first
//              the span that has it, then its place there
//   uses       common/grid.wgsl, common/reduce.wgsl, common/best.wgsl
struct Params { rows: u32, cols: u32, inverse: f32 }
var<immediate> p: Params;

const NO_TOKEN: u32 = 0xffffffffu;
// Logits from here on down are masked; the largest finite f32 is 3.4e38.
const MASKED: f32 = -3e38;
const LOWEST: f32 = -1e4;
// Logits of a lane in a span, whose loads come first.
const TURNS: u32 = 16u;

@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read_write> best: array<u32>;

@compute @workgroup_size(WG)
fn argmax(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
          @builtin(local_invocation_index) lane: u32) {
    let row = group_index(group, groups);
    if (row >= p.rows) { return; }
    let start = row * p.cols;
    var mine = Best(MASKED, NO_TOKEN);
    var poison = 0.0;
    for (var c = lane; c < p.cols; c += TURNS * WG) {
        // past the end the last logit again
        let x{TURNS} = logits[start + min(c + {TURNS}u * WG, p.cols - 1u)];
        if (is_nan(x{TURNS})) { poison = 1.0; }
        if (x{TURNS} > mine.value) { mine = Best(x{TURNS}, min(c + {TURNS}u * WG, p.cols - 1u)); }
    }
    let found = group_best(lane, mine);
    poison = group_max(lane, poison);
    if (lane == 0u) { best[row] = select(found.index, NO_TOKEN, poison > 0.0 || found.value >= -MASKED); }
}

fn weight(x: f32, top: f32) -> f32 {
    return select(0.0, exp(max((x - top) * p.inverse, LOWEST)), x > MASKED);
}

@group(0) @binding(1) var<storage, read_write> measured: array<vec2<f32>>;

@compute @workgroup_size(WG)
fn measure(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
           @builtin(local_invocation_index) lane: u32) {
    let index = group_index(group, groups);
    let spans = (p.cols + TURNS * WG - 1u) / (TURNS * WG);
    if (index >= p.rows * spans) { return; }
    let start = index / spans * p.cols;
    let first = index % spans * TURNS * WG + lane;
    let x{TURNS} = logits[start + min(first + {TURNS}u * WG, p.cols - 1u)];
    var top = MASKED;
    top = nan_max(top, x{TURNS});
    top = group_max(lane, top);
    var sum = 0.0;
    sum += select(0.0, weight(x{TURNS}, top), first + {TURNS}u * WG < p.cols);
    sum = group_sum(lane, sum);
    if (lane == 0u) { measured[index] = vec2(top, sum); }
}

@group(0) @binding(1) var<storage, read> uniforms: array<f32>;
@group(0) @binding(2) var<storage, read_write> tokens: array<u32>;
@group(0) @binding(3) var<storage, read_write> logp: array<f32>;
@group(0) @binding(4) var<storage, read> spans_of: array<vec2<f32>>;

var<workgroup> found: u32;
// what of the uniform's share of the row lies past `found`; below zero before the first search, which makes it
var<workgroup> remainder: f32;
var<workgroup> row_total: f32;

// Weight of an item of a search: of a logit, or of a span, beside the row's largest logit.
fn item(i: u32, among_tokens: bool, top: f32) -> f32 {
    if (among_tokens) { return weight(logits[i], top); }
    let span = spans_of[i];
    return span.y * exp(max((span.x - top) * p.inverse, LOWEST));
}

// Leaves in `found` the place among `count` items from the start-th on where their cumulative weight exceeds the remainder.
// They are cut in WG parts; the part that holds the answer is cut in WG again, until parts are single items.
fn search(start: u32, count: u32, among_tokens: bool, top: f32, uniform_number: f32, lane: u32) {
    if (lane == 0u) { found = 0u; }
    workgroupBarrier();
    var width = count;
    loop {
        let step = (width + WG - 1u) / WG;
        let end = min(found + width, count);
        let first = found + lane * step;
        var sum = 0.0;
        for (var i = first; i < min(first + step, end); i++) { sum += item(start + i, among_tokens, top); }
        partial[lane] = sum;
        workgroupBarrier();
        if (lane == 0u) {
            if (remainder < 0.0) {
                var total = 0.0;
                for (var i = 0u; i < WG; i++) { total += partial[i]; }
                row_total = total;
                remainder = uniform_number * total;
            }
            // the last part with any weight, should rounding leave none that exceeds the remainder
            var chosen = 0u;
            var before = 0.0;
            var cumulative = 0.0;
            for (var i = 0u; i < WG; i++) {
                if (partial[i] > 0.0 && (cumulative <= remainder)) {
                    chosen = i;
                    before = cumulative;
                    cumulative += partial[i];
                }
            }
            remainder = max(remainder - before, 0.0);
            found += chosen * step;
        }
        workgroupBarrier();
        if (step <= 1u) { break; }
        width = step;
    }
}

@compute @workgroup_size(WG)
fn sample(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
          @builtin(local_invocation_index) lane: u32) {
    let row = group_index(group, groups);
    if (row >= p.rows) { return; }
    let spans = (p.cols + TURNS * WG - 1u) / (TURNS * WG);
    var top = MASKED;
    for (var s = lane; s < spans; s += WG) { top = nan_max(top, spans_of[row * spans + s].x); }
    top = group_max(lane, top);
    if (lane == 0u) { remainder = -1.0; }
    search(row * spans, spans, false, top, uniforms[row], lane);
    let first = found * TURNS * WG;
    // every lane has read `found` before the next search writes it
    workgroupBarrier();
    let start = row * p.cols;
    search(start + first, min(TURNS * WG, p.cols - first), true, top, 0.0, lane);
    if (lane == 0u) {
        let token = first + found;
        let valid = !is_nan(top) && top > MASKED && top < -MASKED;
        tokens[row] = select(NO_TOKEN, token, valid);
        logp[row] = (logits[start + min(token, p.cols - 1u)] - top) * p.inverse - log(row_total);
    }
}
