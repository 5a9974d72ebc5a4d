// swiglu: y = silu(gate) up, silu(x) = x / (1 + exp(-x)).
//   gate, up, y, dy, dgate, dup   (n)  f32
//   backward   dgate = dy up s (1 + gate (1 - s)), dup = dy gate s, s = 1 / (1 + exp(-gate))
//   uses       common/grid.wgsl, common/ones.wgsl or common/fours.wgsl, common/elements.wgsl, common/sigmoid.wgsl
struct Params { n: u32 }
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> gate: array<Elem>;
@group(0) @binding(1) var<storage, read> up: array<Elem>;
@group(0) @binding(2) var<storage, read_write> y: array<Elem>;

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
           @builtin(local_invocation_index) lane: u32) {
    let first = first_element(group, groups, lane);
    let n = p.n / WIDTH;
    let i{ELEMENTS} = first + {ELEMENTS}u * WG;
    let g{ELEMENTS} = gate[min(i{ELEMENTS}, n - 1u)];
    let u{ELEMENTS} = up[min(i{ELEMENTS}, n - 1u)];
    let r{ELEMENTS} = g{ELEMENTS} * sigmoid(g{ELEMENTS}) * u{ELEMENTS};
    if (whole_group(first, lane, n)) {
        y[i{ELEMENTS}] = r{ELEMENTS};
    } else {
        if (i{ELEMENTS} < n) { y[i{ELEMENTS}] = r{ELEMENTS}; }
    }
}

@group(0) @binding(2) var<storage, read> dy: array<Elem>;
@group(0) @binding(3) var<storage, read_write> dgate: array<Elem>;
@group(0) @binding(4) var<storage, read_write> dup: array<Elem>;

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
            @builtin(local_invocation_index) lane: u32) {
    let first = first_element(group, groups, lane);
    let n = p.n / WIDTH;
    let i{ELEMENTS} = first + {ELEMENTS}u * WG;
    let g{ELEMENTS} = gate[min(i{ELEMENTS}, n - 1u)];
    let u{ELEMENTS} = up[min(i{ELEMENTS}, n - 1u)];
    let d{ELEMENTS} = dy[min(i{ELEMENTS}, n - 1u)];
    let s{ELEMENTS} = sigmoid(g{ELEMENTS});
    let dg{ELEMENTS} = d{ELEMENTS} * u{ELEMENTS} * s{ELEMENTS} * (1.0 + g{ELEMENTS} * (1.0 - s{ELEMENTS}));
    let du{ELEMENTS} = d{ELEMENTS} * g{ELEMENTS} * s{ELEMENTS};
    if (whole_group(first, lane, n)) {
        dgate[i{ELEMENTS}] = dg{ELEMENTS};
        dup[i{ELEMENTS}] = du{ELEMENTS};
    } else {
        if (i{ELEMENTS} < n) { dgate[i{ELEMENTS}] = dg{ELEMENTS}; }
        if (i{ELEMENTS} < n) { dup[i{ELEMENTS}] = du{ELEMENTS}; }
    }
}
