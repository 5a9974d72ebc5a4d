// Element-wise arithmetic over n elements.
//   a, b, x, y     (n)     f32     y = a + b, a - b, a * b; y += s x; y = s x; y *= s; y = s
//   factor         (1)     f32     y = s factor x; y = s factor
//   bias           (cols)  f32     y = x + bias, x and y (R, cols)
//   uses           common/grid.wgsl, common/elements.wgsl
struct Params { n: u32, cols: u32, first: u32, s: f32 }
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WG)
fn add(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
       @builtin(local_invocation_index) lane: u32) {
    let first = first_element(group, groups, lane);
    for (var e = 0u; e < ELEMENTS; e++) {
        let i = first + e * WG;
        if (i < p.n) { y[i] = a[i] + b[i]; }
    }
}

@compute @workgroup_size(WG)
fn sub(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
       @builtin(local_invocation_index) lane: u32) {
    let first = first_element(group, groups, lane);
    for (var e = 0u; e < ELEMENTS; e++) {
        let i = first + e * WG;
        if (i < p.n) { y[i] = a[i] - b[i]; }
    }
}

@compute @workgroup_size(WG)
fn mul(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
       @builtin(local_invocation_index) lane: u32) {
    let first = first_element(group, groups, lane);
    for (var e = 0u; e < ELEMENTS; e++) {
        let i = first + e * WG;
        if (i < p.n) { y[i] = a[i] * b[i]; }
    }
}

// b is the bias here; p.first is the column of the first element
@compute @workgroup_size(WG)
fn add_bias(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
            @builtin(local_invocation_index) lane: u32) {
    let first = first_element(group, groups, lane);
    for (var e = 0u; e < ELEMENTS; e++) {
        let i = first + e * WG;
        if (i < p.n) { y[i] = a[i] + b[(p.first + i) % p.cols]; }
    }
}

// b is the factor here
@compute @workgroup_size(WG)
fn scale_by(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
            @builtin(local_invocation_index) lane: u32) {
    let first = first_element(group, groups, lane);
    let s = p.s * b[0];
    for (var e = 0u; e < ELEMENTS; e++) {
        let i = first + e * WG;
        if (i < p.n) { y[i] = s * a[i]; }
    }
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(WG)
fn scale(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
         @builtin(local_invocation_index) lane: u32) {
    let first = first_element(group, groups, lane);
    for (var e = 0u; e < ELEMENTS; e++) {
        let i = first + e * WG;
        if (i < p.n) { out[i] = p.s * x[i]; }
    }
}

@compute @workgroup_size(WG)
fn axpy(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let first = first_element(group, groups, lane);
    for (var e = 0u; e < ELEMENTS; e++) {
        let i = first + e * WG;
        if (i < p.n) { out[i] = out[i] + p.s * x[i]; }
    }
}

// x is the factor here
@compute @workgroup_size(WG)
fn broadcast(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
             @builtin(local_invocation_index) lane: u32) {
    let first = first_element(group, groups, lane);
    let s = p.s * x[0];
    for (var e = 0u; e < ELEMENTS; e++) {
        let i = first + e * WG;
        if (i < p.n) { out[i] = s; }
    }
}

@group(0) @binding(0) var<storage, read_write> z: array<f32>;

@compute @workgroup_size(WG)
fn scale_assign(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
                @builtin(local_invocation_index) lane: u32) {
    let first = first_element(group, groups, lane);
    for (var e = 0u; e < ELEMENTS; e++) {
        let i = first + e * WG;
        if (i < p.n) { z[i] = p.s * z[i]; }
    }
}

@compute @workgroup_size(WG)
fn fill(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let first = first_element(group, groups, lane);
    for (var e = 0u; e < ELEMENTS; e++) {
        let i = first + e * WG;
        if (i < p.n) { z[i] = p.s; }
    }
}
