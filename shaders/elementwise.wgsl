// Element-wise arithmetic over n elements.
//   a, b, x, y     (n)     f32     y = a + b, a - b, a * b; y += s x; y = s x; y *= s; y = s
//   factor         (1)     f32     y = s factor x; y = s factor
//   bias           (cols)  f32     y = x + bias, x and y (R, cols)
//   uses           common/grid.wgsl, common/ones.wgsl or common/fours.wgsl, common/elements.wgsl
struct Params { n: u32, cols: u32, first: u32, s: f32 }
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> a: array<Elem>;
@group(0) @binding(1) var<storage, read> b: array<Elem>;
@group(0) @binding(2) var<storage, read_write> y: array<Elem>;

@compute @workgroup_size(WG)
fn add(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
       @builtin(local_invocation_index) lane: u32) {
    let first = first_element(group, groups, lane);
    let n = p.n / WIDTH;
    let i{ELEMENTS} = first + {ELEMENTS}u * WG;
    let u{ELEMENTS} = a[min(i{ELEMENTS}, n - 1u)];
    let v{ELEMENTS} = b[min(i{ELEMENTS}, n - 1u)];
    if (i{ELEMENTS} < n) { y[i{ELEMENTS}] = u{ELEMENTS} + v{ELEMENTS}; }
}

@compute @workgroup_size(WG)
fn sub(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
       @builtin(local_invocation_index) lane: u32) {
    let first = first_element(group, groups, lane);
    let n = p.n / WIDTH;
    let i{ELEMENTS} = first + {ELEMENTS}u * WG;
    let u{ELEMENTS} = a[min(i{ELEMENTS}, n - 1u)];
    let v{ELEMENTS} = b[min(i{ELEMENTS}, n - 1u)];
    if (i{ELEMENTS} < n) { y[i{ELEMENTS}] = u{ELEMENTS} - v{ELEMENTS}; }
}

@compute @workgroup_size(WG)
fn mul(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
       @builtin(local_invocation_index) lane: u32) {
    let first = first_element(group, groups, lane);
    let n = p.n / WIDTH;
    let i{ELEMENTS} = first + {ELEMENTS}u * WG;
    let u{ELEMENTS} = a[min(i{ELEMENTS}, n - 1u)];
    let v{ELEMENTS} = b[min(i{ELEMENTS}, n - 1u)];
    if (i{ELEMENTS} < n) { y[i{ELEMENTS}] = u{ELEMENTS} * v{ELEMENTS}; }
}

// b is the bias here; p.first is the column of the first element
@compute @workgroup_size(WG)
fn add_bias(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
            @builtin(local_invocation_index) lane: u32) {
    let first = first_element(group, groups, lane);
    let n = p.n / WIDTH;
    let i{ELEMENTS} = first + {ELEMENTS}u * WG;
    let u{ELEMENTS} = a[min(i{ELEMENTS}, n - 1u)];
    let v{ELEMENTS} = b[(p.first + min(i{ELEMENTS}, n - 1u) * WIDTH) % p.cols / WIDTH];
    if (i{ELEMENTS} < n) { y[i{ELEMENTS}] = u{ELEMENTS} + v{ELEMENTS}; }
}

@group(0) @binding(1) var<storage, read> factor: array<f32>;

@compute @workgroup_size(WG)
fn scale_by(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
            @builtin(local_invocation_index) lane: u32) {
    let first = first_element(group, groups, lane);
    let s = p.s * factor[0];
    let n = p.n / WIDTH;
    let i{ELEMENTS} = first + {ELEMENTS}u * WG;
    let u{ELEMENTS} = a[min(i{ELEMENTS}, n - 1u)];
    if (i{ELEMENTS} < n) { y[i{ELEMENTS}] = s * u{ELEMENTS}; }
}

@group(0) @binding(0) var<storage, read> x: array<Elem>;
@group(0) @binding(1) var<storage, read_write> out: array<Elem>;

@compute @workgroup_size(WG)
fn scale(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
         @builtin(local_invocation_index) lane: u32) {
    let first = first_element(group, groups, lane);
    let n = p.n / WIDTH;
    let i{ELEMENTS} = first + {ELEMENTS}u * WG;
    let u{ELEMENTS} = x[min(i{ELEMENTS}, n - 1u)];
    if (i{ELEMENTS} < n) { out[i{ELEMENTS}] = p.s * u{ELEMENTS}; }
}

@compute @workgroup_size(WG)
fn axpy(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let first = first_element(group, groups, lane);
    let n = p.n / WIDTH;
    let i{ELEMENTS} = first + {ELEMENTS}u * WG;
    let u{ELEMENTS} = x[min(i{ELEMENTS}, n - 1u)];
    let v{ELEMENTS} = out[min(i{ELEMENTS}, n - 1u)];
    if (i{ELEMENTS} < n) { out[i{ELEMENTS}] = v{ELEMENTS} + p.s * u{ELEMENTS}; }
}

@group(0) @binding(0) var<storage, read> scalar: array<f32>;

@compute @workgroup_size(WG)
fn broadcast(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
             @builtin(local_invocation_index) lane: u32) {
    let first = first_element(group, groups, lane);
    let s = Elem(p.s * scalar[0]);
    let n = p.n / WIDTH;
    let i{ELEMENTS} = first + {ELEMENTS}u * WG;
    if (i{ELEMENTS} < n) { out[i{ELEMENTS}] = s; }
}

@group(0) @binding(0) var<storage, read_write> z: array<Elem>;

@compute @workgroup_size(WG)
fn scale_assign(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
                @builtin(local_invocation_index) lane: u32) {
    let first = first_element(group, groups, lane);
    let n = p.n / WIDTH;
    let i{ELEMENTS} = first + {ELEMENTS}u * WG;
    let v{ELEMENTS} = z[min(i{ELEMENTS}, n - 1u)];
    if (i{ELEMENTS} < n) { z[i{ELEMENTS}] = p.s * v{ELEMENTS}; }
}

@compute @workgroup_size(WG)
fn fill(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let first = first_element(group, groups, lane);
    let n = p.n / WIDTH;
    let i{ELEMENTS} = first + {ELEMENTS}u * WG;
    if (i{ELEMENTS} < n) { z[i{ELEMENTS}] = Elem(p.s); }
}
