// swiglu: y = silu(gate) up, silu(x) = x / (1 + exp(-x)).
//   gate, up, y, dy, dgate, dup   (n)  f32
//   backward   dgate = dy up s (1 + gate (1 - s)), dup = dy gate s, s = 1 / (1 + exp(-gate))
//   uses       common/grid.wgsl, common/elements.wgsl
struct Params { n: u32 }
var<immediate> p: Params;

// exp is cut off where 1 / exp is zero to f32's precision beside any gate, so that nothing becomes infinite
fn sigmoid(x: f32) -> f32 {
    return 1.0 / (1.0 + exp(min(-x, 80.0)));
}

@group(0) @binding(0) var<storage, read> gate: array<f32>;
@group(0) @binding(1) var<storage, read> up: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
           @builtin(local_invocation_index) lane: u32) {
    let first = first_element(group, groups, lane);
    for (var e = 0u; e < ELEMENTS; e++) {
        let i = first + e * WG;
        if (i < p.n) {
            let g = gate[i];
            y[i] = g * sigmoid(g) * up[i];
        }
    }
}

@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> dgate: array<f32>;
@group(0) @binding(4) var<storage, read_write> dup: array<f32>;

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
            @builtin(local_invocation_index) lane: u32) {
    let first = first_element(group, groups, lane);
    for (var e = 0u; e < ELEMENTS; e++) {
        let i = first + e * WG;
        if (i < p.n) {
            let g = gate[i];
            let s = sigmoid(g);
            dgate[i] = dy[i] * up[i] * s * (1.0 + g * (1.0 - s));
            dup[i] = dy[i] * g * s;
        }
    }
}
