// relu: y = max(x, 0), NaN kept.
//   x, y, dy, dx   (n)  f32
//   backward   dx = dy where y > 0, else 0
//   uses       common/grid.wgsl, common/elements.wgsl
struct Params { n: u32 }
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
           @builtin(local_invocation_index) lane: u32) {
    let first = first_element(group, groups, lane);
    for (var e = 0u; e < ELEMENTS; e++) {
        let i = first + e * WG;
        if (i < p.n) { y[i] = select(x[i], 0.0, x[i] < 0.0); }
    }
}

@group(0) @binding(0) var<storage, read> saved: array<f32>;
@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
            @builtin(local_invocation_index) lane: u32) {
    let first = first_element(group, groups, lane);
    for (var e = 0u; e < ELEMENTS; e++) {
        let i = first + e * WG;
        if (i < p.n) { dx[i] = select(0.0, dy[i], saved[i] > 0.0); }
    }
}
