// ceiling: what a device can do at most, for benchmarks.
//   multiply_add   8 chains of 4 lanes and 512 multiply-adds in registers per invocation
//                  out (n)  vec4<f32>
//   copy           y = x, each invocation 4 vectors, WG apart
//                  x, y (n)  vec4<f32>
//   uses           common/grid.wgsl
struct Params { n: u32, s: f32 }
var<immediate> p: Params;

override WG: u32 = 256u;
const CHAIN: u32 = 64u;
const VECTORS: u32 = 4u;

@group(0) @binding(0) var<storage, read_write> out: array<vec4<f32>>;

@compute @workgroup_size(WG)
fn multiply_add(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
                @builtin(local_invocation_index) lane: u32) {
    let i = group_index(group, groups) * WG + lane;
    let s = vec4(p.s);
    var a = vec4(f32(lane)); var b = a + 1.0; var c = a + 2.0; var d = a + 3.0;
    var e = a + 4.0; var f = a + 5.0; var g = a + 6.0; var h = a + 7.0;
    // eight times each per turn, so that the loop itself does not count
    for (var t = 0u; t < CHAIN; t++) {
        a = fma(a, s, s); b = fma(b, s, s); c = fma(c, s, s); d = fma(d, s, s);
        e = fma(e, s, s); f = fma(f, s, s); g = fma(g, s, s); h = fma(h, s, s);
        a = fma(a, s, s); b = fma(b, s, s); c = fma(c, s, s); d = fma(d, s, s);
        e = fma(e, s, s); f = fma(f, s, s); g = fma(g, s, s); h = fma(h, s, s);
        a = fma(a, s, s); b = fma(b, s, s); c = fma(c, s, s); d = fma(d, s, s);
        e = fma(e, s, s); f = fma(f, s, s); g = fma(g, s, s); h = fma(h, s, s);
        a = fma(a, s, s); b = fma(b, s, s); c = fma(c, s, s); d = fma(d, s, s);
        e = fma(e, s, s); f = fma(f, s, s); g = fma(g, s, s); h = fma(h, s, s);
        a = fma(a, s, s); b = fma(b, s, s); c = fma(c, s, s); d = fma(d, s, s);
        e = fma(e, s, s); f = fma(f, s, s); g = fma(g, s, s); h = fma(h, s, s);
        a = fma(a, s, s); b = fma(b, s, s); c = fma(c, s, s); d = fma(d, s, s);
        e = fma(e, s, s); f = fma(f, s, s); g = fma(g, s, s); h = fma(h, s, s);
        a = fma(a, s, s); b = fma(b, s, s); c = fma(c, s, s); d = fma(d, s, s);
        e = fma(e, s, s); f = fma(f, s, s); g = fma(g, s, s); h = fma(h, s, s);
        a = fma(a, s, s); b = fma(b, s, s); c = fma(c, s, s); d = fma(d, s, s);
        e = fma(e, s, s); f = fma(f, s, s); g = fma(g, s, s); h = fma(h, s, s);
    }
    if (i < p.n) { out[i] = a + b + c + d + e + f + g + h; }
}

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(WG)
fn copy(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let first = group_index(group, groups) * (WG * VECTORS) + lane;
    for (var e = 0u; e < VECTORS; e++) {
        let i = first + e * WG;
        if (i < p.n) { y[i] = x[i]; }
    }
}
