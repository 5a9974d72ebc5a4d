// matmul: c = a b, or c += a b, per matrix of a batch.
//   a   (m, k), or (k, m) if A_ROWS_ARE_K     f32    a(i, l)
//   b   (k, n), or (n, k) if B_ROWS_ARE_N     f32    b(l, j)
//   c   (m, n)                                f32    rows ldc apart, so that c may be a block of columns
//   tiled   workgroup = TILE x TILE of c, 16 x 16 invocations of 8 x 8 (or 4 x 4) each, K in steps of 16 through
//           workgroup memory, the next step's loads in flight during the products
//   direct  for small vectors and no workgroup memory: workgroup = 8 rows by 4 WG columns, row loads uniform
//   few_rows  for a few rows against the rows of b: workgroup = 4 x 4 of c, lanes along k
//   math    f32; a batch may also be slices of one sum of sum_k products, k to a slice, the last one shorter
//   uses    common/grid.wgsl
struct Params {
    m: u32, n: u32, k: u32, batch: u32,
    lda: u32, ldb: u32, ldc: u32,
    a_start: u32, b_start: u32, c_start: u32,
    a_stride: u32, b_stride: u32, c_stride: u32,
    accumulate: u32,
    sum_k: u32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> c: array<f32>;

override A_ROWS_ARE_K: bool = false;
override B_ROWS_ARE_N: bool = false;

fn load_a(at: Place, i: u32, l: u32) -> f32 {
    var x = 0.0;
    if (i < p.m && l < at.k) {
        if (A_ROWS_ARE_K) { x = a[at.a + l * p.lda + i]; } else { x = a[at.a + i * p.lda + l]; }
    }
    return x;
}

fn load_b(at: Place, l: u32, j: u32) -> f32 {
    var x = 0.0;
    if (j < p.n && l < at.k) {
        if (B_ROWS_ARE_N) { x = b[at.b + j * p.ldb + l]; } else { x = b[at.b + l * p.ldb + j]; }
    }
    return x;
}

// four rows of a, or four columns of b, at one l
fn load_a4(at: Place, i: u32, l: u32) -> vec4<f32> {
    return vec4(load_a(at, i, l), load_a(at, i + 1u, l), load_a(at, i + 2u, l), load_a(at, i + 3u, l));
}

fn load_b4(at: Place, l: u32, j: u32) -> vec4<f32> {
    return vec4(load_b(at, l, j), load_b(at, l, j + 1u), load_b(at, l, j + 2u), load_b(at, l, j + 3u));
}

fn store(start: u32, i: u32, j: u32, x: f32) {
    if (i < p.m && j < p.n) {
        let at = start + i * p.ldc + j;
        if (p.accumulate == 0u) { c[at] = x; } else { c[at] = c[at] + x; }
    }
}

fn store4(start: u32, i: u32, j: u32, x: vec4<f32>) {
    store(start, i, j, x.x);
    store(start, i, j + 1u, x.y);
    store(start, i, j + 2u, x.z);
    store(start, i, j + 3u, x.w);
}

// Which tile of which matrix a workgroup computes; rows vary fastest, so that neighbours share columns of b.
struct Place { a: u32, b: u32, c: u32, i: u32, j: u32, k: u32, inside: bool }

fn place(group: u32, rows: u32, cols: u32) -> Place {
    let across = (p.m + rows - 1u) / rows;
    let down = (p.n + cols - 1u) / cols;
    let matrix = group / (across * down);
    let tile = group % (across * down);
    var at: Place;
    at.a = p.a_start + matrix * p.a_stride;
    at.b = p.b_start + matrix * p.b_stride;
    at.c = p.c_start + matrix * p.c_stride;
    at.i = tile % across * rows;
    at.j = tile / across * cols;
    at.inside = matrix < p.batch;
    if (at.inside) { at.k = min(p.k, p.sum_k - matrix * p.k); }
    return at;
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

const LANES: u32 = 16u;

@compute @workgroup_size(LANES)
fn direct(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
          @builtin(local_invocation_index) lane: u32) {
    let at = place(group_index(group, groups), 8u, 4u * LANES);
    if (!at.inside) { return; }
    let j = at.j + 4u * lane;
    // rows and columns past the end are clamped to the last one: computed, not stored
    let last = p.m - 1u;
    var rows: array<u32, 8>;
    for (var e = 0u; e < 8u; e++) {
        let i = min(at.i + e, last);
        rows[e] = at.a + select(i * p.lda, i, A_ROWS_ARE_K);
    }
    let a_step = select(1u, p.lda, A_ROWS_ARE_K);
    let columns = min(vec4(j, j + 1u, j + 2u, j + 3u), vec4(p.n - 1u));
    let starts = at.b + select(columns, columns * p.ldb, vec4(B_ROWS_ARE_N));
    let b_step = select(p.ldb, 1u, B_ROWS_ARE_N);
    var r0 = vec4(0.0); var r1 = vec4(0.0); var r2 = vec4(0.0); var r3 = vec4(0.0);
    var r4 = vec4(0.0); var r5 = vec4(0.0); var r6 = vec4(0.0); var r7 = vec4(0.0);
    for (var l = 0u; l < at.k; l++) {
        let t = l * b_step;
        let y = vec4(b[starts.x + t], b[starts.y + t], b[starts.z + t], b[starts.w + t]);
        let s = l * a_step;
        r0 = fma(vec4(a[rows[0] + s]), y, r0);
        r1 = fma(vec4(a[rows[1] + s]), y, r1);
        r2 = fma(vec4(a[rows[2] + s]), y, r2);
        r3 = fma(vec4(a[rows[3] + s]), y, r3);
        r4 = fma(vec4(a[rows[4] + s]), y, r4);
        r5 = fma(vec4(a[rows[5] + s]), y, r5);
        r6 = fma(vec4(a[rows[6] + s]), y, r6);
        r7 = fma(vec4(a[rows[7] + s]), y, r7);
    }
    store4(at.c, at.i, j, r0);
    store4(at.c, at.i + 1u, j, r1);
    store4(at.c, at.i + 2u, j, r2);
    store4(at.c, at.i + 3u, j, r3);
    store4(at.c, at.i + 4u, j, r4);
    store4(at.c, at.i + 5u, j, r5);
    store4(at.c, at.i + 6u, j, r6);
    store4(at.c, at.i + 7u, j, r7);
}

const FEW_LANES: u32 = 64u;
var<workgroup> sums: array<vec4<f32>, 4u * FEW_LANES>;

@compute @workgroup_size(FEW_LANES)
fn few_rows(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
            @builtin(local_invocation_index) lane: u32) {
    let at = place(group_index(group, groups), 4u, 4u);
    if (!at.inside) { return; }
    var r0 = vec4(0.0); var r1 = vec4(0.0); var r2 = vec4(0.0); var r3 = vec4(0.0);
    for (var l = lane; l < at.k; l += FEW_LANES) {
        let x = load_a4(at, at.i, l);
        let y = load_b4(at, l, at.j);
        r0 = fma(vec4(x.x), y, r0);
        r1 = fma(vec4(x.y), y, r1);
        r2 = fma(vec4(x.z), y, r2);
        r3 = fma(vec4(x.w), y, r3);
    }
    sums[lane] = r0;
    sums[FEW_LANES + lane] = r1;
    sums[2u * FEW_LANES + lane] = r2;
    sums[3u * FEW_LANES + lane] = r3;
    workgroupBarrier();
    for (var half = FEW_LANES / 2u; half > 0u; half = half / 2u) {
        if (lane < half) {
            for (var r = 0u; r < 4u; r++) {
                let to = r * FEW_LANES + lane;
                sums[to] = sums[to] + sums[to + half];
            }
        }
        workgroupBarrier();
    }
    if (lane < 4u) { store4(at.c, at.i + lane, at.j, sums[lane * FEW_LANES]); }
}
