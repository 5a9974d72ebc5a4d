// rms_norm: y = x / sqrt(mean(x²) + eps) * w along the last dimension.
//   x, y, r, h, dy, dx   (R, C)  f32    `span` lanes per row, WG / span rows per workgroup
//   w                    (C)     f32
//   inv_rms              (R)     f32    1 / sqrt(mean(x²) + eps), kept for the way back
//   forward_add          h = x + r, y = rms_norm(h)
//   backward             dx = inv_rms (dy w - x̂ mean(dy w x̂)),  x̂ = x inv_rms
//   weight_partials      (blocks, C): sums of dy x̂ over blocks of rows, one invocation per block and column;
//                        reduce.columns adds them up to dw
//   uses                 common/grid.wgsl, common/reduce.wgsl
struct Params { rows: u32, cols: u32, span: u32, eps: f32, block: u32, first: u32 }
var<immediate> p: Params;

// The sum over the `span` lanes (a power of two) that share a row; every invocation must call it.
fn row_sum(lane: u32, x: f32) -> f32 {
    let i = lane & (p.span - 1u);
    partial[lane] = x;
    workgroupBarrier();
    for (var half = p.span / 2u; half > 0u; half = half / 2u) {
        if (i < half) { partial[lane] = partial[lane] + partial[lane + half]; }
        workgroupBarrier();
    }
    let total = partial[lane - i];
    workgroupBarrier();
    return total;
}

// The row of this lane; lanes past the last row repeat it and write nothing.
fn row_of(group: u32, lane: u32) -> u32 {
    return group * (WG / p.span) + lane / p.span;
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> w: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<storage, read_write> inv_rms: array<f32>;
@group(0) @binding(4) var<storage, read> r: array<f32>;
@group(0) @binding(5) var<storage, read_write> h: array<f32>;

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
           @builtin(local_invocation_index) lane: u32) {
    let row = row_of(group_index(group, groups), lane);
    let start = min(row, p.rows - 1u) * p.cols;
    let first = lane & (p.span - 1u);
    var squares = 0.0;
    for (var c = first; c < p.cols; c += p.span) { squares = fma(x[start + c], x[start + c], squares); }
    let inv = 1.0 / sqrt(row_sum(lane, squares) / f32(p.cols) + p.eps);
    if (row >= p.rows) { return; }
    for (var c = first; c < p.cols; c += p.span) { y[start + c] = x[start + c] * inv * w[c]; }
    if (first == 0u) { inv_rms[row] = inv; }
}

@compute @workgroup_size(WG)
fn forward_add(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
               @builtin(local_invocation_index) lane: u32) {
    let row = row_of(group_index(group, groups), lane);
    let start = min(row, p.rows - 1u) * p.cols;
    let first = lane & (p.span - 1u);
    var squares = 0.0;
    for (var c = first; c < p.cols; c += p.span) {
        let sum = x[start + c] + r[start + c];
        squares = fma(sum, sum, squares);
    }
    let inv = 1.0 / sqrt(row_sum(lane, squares) / f32(p.cols) + p.eps);
    if (row >= p.rows) { return; }
    for (var c = first; c < p.cols; c += p.span) {
        let sum = x[start + c] + r[start + c];
        h[start + c] = sum;
        y[start + c] = sum * inv * w[c];
    }
    if (first == 0u) { inv_rms[row] = inv; }
}

@group(0) @binding(2) var<storage, read> saved_inv: array<f32>;
@group(0) @binding(3) var<storage, read> dy: array<f32>;
@group(0) @binding(4) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
            @builtin(local_invocation_index) lane: u32) {
    let row = row_of(group_index(group, groups), lane);
    let at = min(row, p.rows - 1u);
    let start = at * p.cols;
    let first = lane & (p.span - 1u);
    let inv = saved_inv[at];
    var along = 0.0;
    for (var c = first; c < p.cols; c += p.span) { along = fma(dy[start + c] * w[c], x[start + c], along); }
    let mean = row_sum(lane, along) * inv / f32(p.cols);
    if (row >= p.rows) { return; }
    for (var c = first; c < p.cols; c += p.span) {
        dx[start + c] = inv * (dy[start + c] * w[c] - x[start + c] * inv * mean);
    }
}

@group(0) @binding(1) var<storage, read> partial_inv: array<f32>;
@group(0) @binding(2) var<storage, read> partial_dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> sums: array<f32>;

@compute @workgroup_size(WG)
fn weight_partials(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
                   @builtin(local_invocation_index) lane: u32) {
    let i = group_index(group, groups) * WG + lane;
    let block = i / p.cols;
    let c = i % p.cols;
    let start = block * p.block;
    if (start >= p.rows) { return; }
    let end = min(start + p.block, p.rows);
    var sum = 0.0;
    for (var row = start; row < end; row++) {
        sum = fma(partial_dy[row * p.cols + c], x[row * p.cols + c] * partial_inv[row], sum);
    }
    sums[(p.first + block) * p.cols + c] = sum;
}
