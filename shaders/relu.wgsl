// relu: y = max(x, 0), NaN kept.
//   x, y, dy, dx   (n)  f32
//   backward   dx = dy where y > 0, else 0
//   uses       common/grid.wgsl, common/ones.wgsl or common/fours.wgsl, common/elements.wgsl
struct Params { n: u32 }
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> x: array<Elem>;
@group(0) @binding(1) var<storage, read_write> y: array<Elem>;

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
           @builtin(local_invocation_index) lane: u32) {
    let first = first_element(group, groups, lane);
    let n = p.n / WIDTH;
    let i{ELEMENTS} = first + {ELEMENTS}u * WG;
    let v{ELEMENTS} = x[min(i{ELEMENTS}, n - 1u)];
    if (i{ELEMENTS} < n) { y[i{ELEMENTS}] = select(v{ELEMENTS}, Elem(), v{ELEMENTS} < Elem()); }
}

@group(0) @binding(0) var<storage, read> saved: array<Elem>;
@group(0) @binding(1) var<storage, read> dy: array<Elem>;
@group(0) @binding(2) var<storage, read_write> dx: array<Elem>;

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
            @builtin(local_invocation_index) lane: u32) {
    let first = first_element(group, groups, lane);
    let n = p.n / WIDTH;
    let i{ELEMENTS} = first + {ELEMENTS}u * WG;
    let v{ELEMENTS} = saved[min(i{ELEMENTS}, n - 1u)];
    let d{ELEMENTS} = dy[min(i{ELEMENTS}, n - 1u)];
    if (i{ELEMENTS} < n) { dx[i{ELEMENTS}] = select(Elem(), d{ELEMENTS}, v{ELEMENTS} > Elem()); }
}
