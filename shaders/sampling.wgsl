// sampling: one token per row of logits, so that only tokens leave the device.
//   logits     (B, V)  f32    one workgroup per row
//   uniforms   (B)     f32    in [0, 1)
//   tokens     (B)     u32    NO_TOKEN for a row with a NaN or without a finite logit
//   logp       (B)     f32    log softmax(logits inverse)[token]
//   argmax     the lowest index of the largest logit
//   sample     the first token whose cumulative probability exceeds the uniform, in index order. The row is cut in WG
//              spans; the span that holds the answer is cut in WG again, until spans are single tokens.
//   uses       common/grid.wgsl, common/reduce.wgsl, common/best.wgsl
struct Params { rows: u32, cols: u32, inverse: f32 }
var<immediate> p: Params;

const NO_TOKEN: u32 = 0xffffffffu;
// Logits from here on down are masked; the largest finite f32 is 3.4e38.
const MASKED: f32 = -3e38;
const LOWEST: f32 = -1e4;

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
    for (var c = lane; c < p.cols; c += WG) {
        let x = logits[start + c];
        if (is_nan(x)) { poison = 1.0; }
        if (x > mine.value) { mine = Best(x, c); }
    }
    let found = group_best(lane, mine);
    poison = group_max(lane, poison);
    if (lane == 0u) { best[row] = select(found.index, NO_TOKEN, poison > 0.0 || found.value >= -MASKED); }
}

@group(0) @binding(1) var<storage, read> uniforms: array<f32>;
@group(0) @binding(2) var<storage, read_write> tokens: array<u32>;
@group(0) @binding(3) var<storage, read_write> logp: array<f32>;

var<workgroup> span_start: u32;
var<workgroup> remainder: f32;
var<workgroup> row_total: f32;

fn weight(i: u32, top: f32) -> f32 {
    let x = logits[i];
    return select(0.0, exp(max((x - top) * p.inverse, LOWEST)), x > MASKED);
}

@compute @workgroup_size(WG)
fn sample(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
          @builtin(local_invocation_index) lane: u32) {
    let row = group_index(group, groups);
    if (row >= p.rows) { return; }
    let start = row * p.cols;
    var top = MASKED;
    for (var c = lane; c < p.cols; c += WG) { top = nan_max(top, logits[start + c]); }
    top = group_max(lane, top);
    if (lane == 0u) {
        span_start = 0u;
        remainder = -1.0;
    }
    workgroupBarrier();
    // `width` tokens from span_start on hold the answer
    var width = p.cols;
    loop {
        let step = (width + WG - 1u) / WG;
        let end = min(span_start + width, p.cols);
        let first = span_start + lane * step;
        var sum = 0.0;
        for (var c = first; c < min(first + step, end); c++) { sum += weight(start + c, top); }
        partial[lane] = sum;
        workgroupBarrier();
        if (lane == 0u) {
            if (remainder < 0.0) {
                var total = 0.0;
                for (var i = 0u; i < WG; i++) { total += partial[i]; }
                row_total = total;
                remainder = uniforms[row] * total;
            }
            // the last span with any weight, should rounding leave none that exceeds the remainder
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
            span_start += chosen * step;
        }
        workgroupBarrier();
        if (step <= 1u) { break; }
        width = step;
    }
    if (lane == 0u) {
        let valid = !is_nan(top) && top > MASKED && top < -MASKED;
        tokens[row] = select(NO_TOKEN, span_start, valid);
        logp[row] = (logits[start + min(span_start, p.cols - 1u)] - top) * p.inverse - log(row_total);
    }
}
