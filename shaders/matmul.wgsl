// matmul: a product through workgroup memory.
//   tiled   workgroup = TILE x TILE of c, 16 x 16 invocations of 8 x 8 (or 4 x 4) each, K in steps of 16 through
//           workgroup memory, the next step's loads in flight during the products
//   uses    common/product.wgsl
// four rows of a, or four columns of b, at one l
fn load_a4(at: Place, i: u32, l: u32) -> vec4<f32> {
    return vec4(load_a(at, i, l), load_a(at, i + 1u, l), load_a(at, i + 2u, l), load_a(at, i + 3u, l));
}

fn load_b4(at: Place, l: u32, j: u32) -> vec4<f32> {
    return vec4(load_b(at, l, j), load_b(at, l, j + 1u), load_b(at, l, j + 2u), load_b(at, l, j + 3u));
}

const STEP: u32 = 16u;
// vec4 per step and tile row, one more than needed so that stores fall into different banks
const PITCH_LARGE: u32 = 33u;
const PITCH: u32 = 17u;
var<workgroup> a_large: array<vec4<f32>, STEP * PITCH_LARGE>;
var<workgroup> b_large: array<vec4<f32>, STEP * PITCH_LARGE>;
var<workgroup> a_tile: array<vec4<f32>, STEP * PITCH>;
var<workgroup> b_tile: array<vec4<f32>, STEP * PITCH>;

// Position (l, vec4) of a lane's v-th load: neighbouring lanes read neighbouring addresses of a row.
fn load_position(lane: u32, quads: u32, rows_are_l: bool) -> vec2<u32> {
    if (rows_are_l) { return vec2(lane / quads, lane % quads); }
    return vec2(lane % STEP, lane / STEP);
}

@compute @workgroup_size(256)
fn tiled_128(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
             @builtin(local_invocation_index) lane: u32) {
    let at = place(group_index(group, groups), 128u, 128u);
    if (!at.inside) { return; }
    let a0 = load_position(lane, 32u, A_ROWS_ARE_K);
    let a1 = load_position(lane + 256u, 32u, A_ROWS_ARE_K);
    let b0 = load_position(lane, 32u, !B_ROWS_ARE_N);
    let b1 = load_position(lane + 256u, 32u, !B_ROWS_ARE_N);
    let ty = lane / 16u;
    let tx = lane % 16u;
    // rows 4 ty … and 64 + 4 ty …, columns 4 tx … and 64 + 4 tx …: r0 left half, s0 right half of row 0
    var r0 = vec4(0.0); var r1 = vec4(0.0); var r2 = vec4(0.0); var r3 = vec4(0.0);
    var r4 = vec4(0.0); var r5 = vec4(0.0); var r6 = vec4(0.0); var r7 = vec4(0.0);
    var s0 = vec4(0.0); var s1 = vec4(0.0); var s2 = vec4(0.0); var s3 = vec4(0.0);
    var s4 = vec4(0.0); var s5 = vec4(0.0); var s6 = vec4(0.0); var s7 = vec4(0.0);
    var na0 = load_a4(at, at.i + 4u * a0.y, a0.x);
    var na1 = load_a4(at, at.i + 4u * a1.y, a1.x);
    var nb0 = load_b4(at, b0.x, at.j + 4u * b0.y);
    var nb1 = load_b4(at, b1.x, at.j + 4u * b1.y);
    for (var l = 0u; l < at.k; l += STEP) {
        workgroupBarrier();
        a_large[a0.x * PITCH_LARGE + a0.y] = na0;
        a_large[a1.x * PITCH_LARGE + a1.y] = na1;
        b_large[b0.x * PITCH_LARGE + b0.y] = nb0;
        b_large[b1.x * PITCH_LARGE + b1.y] = nb1;
        workgroupBarrier();
        let next = l + STEP;
        if (next < at.k) {
            na0 = load_a4(at, at.i + 4u * a0.y, next + a0.x);
            na1 = load_a4(at, at.i + 4u * a1.y, next + a1.x);
            nb0 = load_b4(at, next + b0.x, at.j + 4u * b0.y);
            nb1 = load_b4(at, next + b1.x, at.j + 4u * b1.y);
        }
        for (var e = 0u; e < STEP; e++) {
            let x0 = a_large[e * PITCH_LARGE + ty];
            let x1 = a_large[e * PITCH_LARGE + 16u + ty];
            let y0 = b_large[e * PITCH_LARGE + tx];
            let y1 = b_large[e * PITCH_LARGE + 16u + tx];
            r0 = fma(vec4(x0.x), y0, r0); s0 = fma(vec4(x0.x), y1, s0);
            r1 = fma(vec4(x0.y), y0, r1); s1 = fma(vec4(x0.y), y1, s1);
            r2 = fma(vec4(x0.z), y0, r2); s2 = fma(vec4(x0.z), y1, s2);
            r3 = fma(vec4(x0.w), y0, r3); s3 = fma(vec4(x0.w), y1, s3);
            r4 = fma(vec4(x1.x), y0, r4); s4 = fma(vec4(x1.x), y1, s4);
            r5 = fma(vec4(x1.y), y0, r5); s5 = fma(vec4(x1.y), y1, s5);
            r6 = fma(vec4(x1.z), y0, r6); s6 = fma(vec4(x1.z), y1, s6);
            r7 = fma(vec4(x1.w), y0, r7); s7 = fma(vec4(x1.w), y1, s7);
        }
    }
    let i = at.i + 4u * ty;
    let j = at.j + 4u * tx;
    store4(at.c, i, j, r0); store4(at.c, i, j + 64u, s0);
    store4(at.c, i + 1u, j, r1); store4(at.c, i + 1u, j + 64u, s1);
    store4(at.c, i + 2u, j, r2); store4(at.c, i + 2u, j + 64u, s2);
    store4(at.c, i + 3u, j, r3); store4(at.c, i + 3u, j + 64u, s3);
    store4(at.c, i + 64u, j, r4); store4(at.c, i + 64u, j + 64u, s4);
    store4(at.c, i + 65u, j, r5); store4(at.c, i + 65u, j + 64u, s5);
    store4(at.c, i + 66u, j, r6); store4(at.c, i + 66u, j + 64u, s6);
    store4(at.c, i + 67u, j, r7); store4(at.c, i + 67u, j + 64u, s7);
}

@compute @workgroup_size(256)
fn tiled_64(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
            @builtin(local_invocation_index) lane: u32) {
    let at = place(group_index(group, groups), 64u, 64u);
    if (!at.inside) { return; }
    let a0 = load_position(lane, 16u, A_ROWS_ARE_K);
    let b0 = load_position(lane, 16u, !B_ROWS_ARE_N);
    let ty = lane / 16u;
    let tx = lane % 16u;
    var r0 = vec4(0.0); var r1 = vec4(0.0); var r2 = vec4(0.0); var r3 = vec4(0.0);
    var na = load_a4(at, at.i + 4u * a0.y, a0.x);
    var nb = load_b4(at, b0.x, at.j + 4u * b0.y);
    for (var l = 0u; l < at.k; l += STEP) {
        workgroupBarrier();
        a_tile[a0.x * PITCH + a0.y] = na;
        b_tile[b0.x * PITCH + b0.y] = nb;
        workgroupBarrier();
        let next = l + STEP;
        if (next < at.k) {
            na = load_a4(at, at.i + 4u * a0.y, next + a0.x);
            nb = load_b4(at, next + b0.x, at.j + 4u * b0.y);
        }
        for (var e = 0u; e < STEP; e++) {
            let x = a_tile[e * PITCH + ty];
            let y = b_tile[e * PITCH + tx];
            r0 = fma(vec4(x.x), y, r0);
            r1 = fma(vec4(x.y), y, r1);
            r2 = fma(vec4(x.z), y, r2);
            r3 = fma(vec4(x.w), y, r3);
        }
    }
    let i = at.i + 4u * ty;
    let j = at.j + 4u * tx;
    store4(at.c, i, j, r0);
    store4(at.c, i + 1u, j, r1);
    store4(at.c, i + 2u, j, r2);
    store4(at.c, i + 3u, j, r3);
}
