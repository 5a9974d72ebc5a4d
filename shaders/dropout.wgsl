// dropout: y = x scale where an element is kept, else 0; what is kept depends on its index and the seed only, so that the
// way back is the same kernel over dy.
//   x, y       (n)  f32
//   uses       common/grid.wgsl, common/ones.wgsl or common/fours.wgsl, common/elements.wgsl
struct Params { n: u32, first: u32, low: u32, high: u32, threshold: u32, scale: f32 }
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> x: array<Elem>;
@group(0) @binding(1) var<storage, read_write> y: array<Elem>;

// PCG's output permutation of one step of its generator: Jarzynski and Olano 2020, "Hash Functions for GPU Rendering".
fn pcg(v: Index) -> Index {
    let state = v * 747796405u + 2891336453u;
    let word = ((state >> ((state >> Index(28u)) + 4u)) ^ state) * 277803737u;
    return (word >> Index(22u)) ^ word;
}

// Which elements of access i are kept.
fn kept(x: Elem, i: u32) -> Elem {
    let drawn = pcg(pcg(pcg(p.first + i * WIDTH + PLACES) ^ Index(p.low)) ^ Index(p.high));
    return select(Elem(), x * p.scale, drawn >= Index(p.threshold));
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let first = first_element(group, groups, lane);
    let n = p.n / WIDTH;
    let i{ELEMENTS} = first + {ELEMENTS}u * WG;
    let v{ELEMENTS} = x[min(i{ELEMENTS}, n - 1u)];
    if (i{ELEMENTS} < n) { y[i{ELEMENTS}] = kept(v{ELEMENTS}, i{ELEMENTS}); }
}
