// softmax: y = exp(x - max(x)) / sum(exp(x - max(x))) along the last dimension.
//   x, y, dy, dx   (R, C)  f32     one workgroup per row
//   backward       dx = y (dy - sum(y dy))
//   uses           common/grid.wgsl, common/reduce.wgsl
struct Params { rows: u32, cols: u32 }
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
           @builtin(local_invocation_index) lane: u32) {
    let row = group_index(group, groups);
    if (row >= p.rows) { return; }
    let start = row * p.cols;
    // each lane keeps the sum of its own elements relative to its own largest: one load finds both
    var mine = -3.4e38;
    var sum = 0.0;
    for (var c = lane; c < p.cols; c += WG) {
        let here = x[start + c];
        let before = mine;
        mine = nan_max(mine, here);
        sum = sum * exp(before - mine) + exp(here - mine);
    }
    let largest = group_max(lane, mine);
    let scale = 1.0 / group_sum(lane, sum * exp(mine - largest));
    for (var c = lane; c < p.cols; c += WG) { y[start + c] = exp(x[start + c] - largest) * scale; }
}

@group(0) @binding(0) var<storage, read> saved: array<f32>;
@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
            @builtin(local_invocation_index) lane: u32) {
    let row = group_index(group, groups);
    if (row >= p.rows) { return; }
    let start = row * p.cols;
    var total = 0.0;
    for (var c = lane; c < p.cols; c += WG) { total += saved[start + c] * dy[start + c]; }
    total = group_sum(lane, total);
    for (var c = lane; c < p.cols; c += WG) { dx[start + c] = saved[start + c] * (dy[start + c] - total); }
}
