// dropout: y = x scale where an element is kept, else 0; what is kept depends on its index and the seed only, so that the
// way back is the same kernel over dy.
//   x, y       (n)  f32
//   uses       common/grid.wgsl, common/elements.wgsl
struct Params { n: u32, first: u32, low: u32, high: u32, threshold: u32, scale: f32 }
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

// PCG's output permutation of one step of its generator: Jarzynski and Olano 2020, "Hash Functions for GPU Rendering".
fn pcg(v: u32) -> u32 {
    let state = v * 747796405u + 2891336453u;
    let word = ((state >> ((state >> 28u) + 4u)) ^ state) * 277803737u;
    return (word >> 22u) ^ word;
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let first = first_element(group, groups, lane);
    for (var e = 0u; e < ELEMENTS; e++) {
        let i = first + e * WG;
        if (i < p.n) {
            let drawn = pcg(pcg(pcg(p.first + i) ^ p.low) ^ p.high);
            y[i] = select(0.0, x[i] * p.scale, drawn >= p.threshold);
        }
    }
}
