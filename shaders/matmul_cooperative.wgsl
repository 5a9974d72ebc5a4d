// matmul on matrix units: f16 products, f32 sums.
//   cooperative  workgroup = SUBGROUPS_DOWN x SUBGROUPS_ACROSS subgroups, each DOWN x ACROSS matrices of SIDE x SIDE of c;
//                k in steps of STEP through workgroup memory, rows as they lie in a and b, the next step's loads in flight
//                during the products
//   a, b         a f32 and b f32, f16 or bf16, rounded to f16 as they are staged, or both f16; rows start at multiples of eight
//                elements, and have such a number
//   c            f32
//   uses    common/grid.wgsl, common/matrices.wgsl, common/product.wgsl, common/eights.wgsl or common/eights_half.wgsl, a text
//           with EightOfA, mat2x4<f32> or mat2x4<f16>, and one with the constants of the tile

@group(0) @binding(0) var<storage, read> a: array<EightOfA>;
@group(0) @binding(1) var<storage, read> b: array<EightOfB>;
@group(0) @binding(2) var<storage, read_write> c: array<f32>;

const GROUP: u32 = SUBGROUPS_DOWN * SUBGROUPS_ACROSS * SUBGROUP;
const ROWS: u32 = SUBGROUPS_DOWN * DOWN * SIDE;
const COLUMNS: u32 = SUBGROUPS_ACROSS * ACROSS * SIDE;

const A_LOADS: u32 = ROWS * STEP / 8u / GROUP;
const B_LOADS: u32 = COLUMNS * STEP / 8u / GROUP;

// Vectors of four from one row of a tile to the next, two more than needed, so that rows start in different banks. A tile has
// rows of k or of the other axis, as its operand has.
const K_PITCH: u32 = STEP / 4u + 2u;
const M_PITCH: u32 = ROWS / 4u + 2u;
const N_PITCH: u32 = COLUMNS / 4u + 2u;
const A_TILE: u32 = max(ROWS * K_PITCH, STEP * M_PITCH);
const B_TILE: u32 = max(COLUMNS * K_PITCH, STEP * N_PITCH);
var<workgroup> a_tile: array<vec4<f16>, A_TILE>;
var<workgroup> b_tile: array<vec4<f16>, B_TILE>;
var<workgroup> edge: array<f32, GROUP / SUBGROUP * SIDE * SIDE>;

// Row and first column of the v-th eight of a tile.
fn a_position(v: u32) -> vec2<u32> {
    let eights = select(STEP / 8u, ROWS / 8u, A_ROWS_ARE_K);
    return vec2(v / eights, v % eights * 8u);
}

fn b_position(v: u32) -> vec2<u32> {
    let eights = select(COLUMNS / 8u, STEP / 8u, B_ROWS_ARE_N);
    return vec2(v / eights, v % eights * 8u);
}

// The eight at `v` of the tile that starts at l: an eight is inside or outside as a whole.
fn load_a(at: Place, l: u32, v: vec2<u32>) -> EightOfA {
    let il = vec2(at.i, l) + select(v, v.yx, A_ROWS_ARE_K);
    var x = EightOfA();
    if (il.x < p.m && il.y < at.k) { x = a[a_index(at, il.x, il.y) / 8u]; }
    return x;
}

fn load_b(at: Place, l: u32, v: vec2<u32>) -> EightOfB {
    let lj = vec2(l, at.j) + select(v, v.yx, B_ROWS_ARE_N);
    var x = EightOfB();
    if (lj.x < at.k && lj.y < p.n) { x = b[b_index(at, lj.x, lj.y) / 8u]; }
    return x;
}

@compute @workgroup_size(GROUP)
fn cooperative(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
               @builtin(local_invocation_index) lane: u32, @builtin(subgroup_id) subgroup: u32) {
    let at = place(group_index(group, groups), ROWS, COLUMNS);
    let i = subgroup / SUBGROUPS_ACROSS * (DOWN * SIDE);
    let j = subgroup % SUBGROUPS_ACROSS * (ACROSS * SIDE);
    let a_pitch = select(K_PITCH, M_PITCH, A_ROWS_ARE_K);
    let b_pitch = select(N_PITCH, K_PITCH, B_ROWS_ARE_N);
    let va{A_LOADS} = a_position(lane + {A_LOADS}u * GROUP);
    let vb{B_LOADS} = b_position(lane + {B_LOADS}u * GROUP);
    let sa{A_LOADS} = va{A_LOADS}.x * a_pitch + va{A_LOADS}.y / 4u;
    let sb{B_LOADS} = vb{B_LOADS}.x * b_pitch + vb{B_LOADS}.y / 4u;
    var c{DOWN}_{ACROSS} = Sums();
    var na{A_LOADS} = load_a(at, 0u, va{A_LOADS});
    var nb{B_LOADS} = load_b(at, 0u, vb{B_LOADS});
    for (var l = 0u; l < at.k; l += STEP) {
        workgroupBarrier();
        a_tile[sa{A_LOADS}] = vec4<f16>(na{A_LOADS}[0]);
        a_tile[sa{A_LOADS} + 1u] = vec4<f16>(na{A_LOADS}[1]);
        b_tile[sb{B_LOADS}] = first_half(nb{B_LOADS});
        b_tile[sb{B_LOADS} + 1u] = second_half(nb{B_LOADS});
        workgroupBarrier();
        if (l + STEP < at.k) {
            na{A_LOADS} = load_a(at, l + STEP, va{A_LOADS});
            nb{B_LOADS} = load_b(at, l + STEP, vb{B_LOADS});
        }
        for (var e = 0u; e < STEP; e += SIDE) {
            var a{DOWN}: Left;
            var b{ACROSS}: Right;
            if (A_ROWS_ARE_K) {
                a{DOWN} = coopLoad<Left>(&a_tile[e * M_PITCH + (i + {DOWN}u * SIDE) / 4u], M_PITCH);
            } else {
                a{DOWN} = coopLoadT<Left>(&a_tile[(i + {DOWN}u * SIDE) * K_PITCH + e / 4u], K_PITCH);
            }
            if (B_ROWS_ARE_N) {
                b{ACROSS} = coopLoad<Right>(&b_tile[(j + {ACROSS}u * SIDE) * K_PITCH + e / 4u], K_PITCH);
            } else {
                b{ACROSS} = coopLoadT<Right>(&b_tile[e * N_PITCH + (j + {ACROSS}u * SIDE) / 4u], N_PITCH);
            }
            c{DOWN}_{ACROSS} = coopMultiplyAdd(a{DOWN}, b{ACROSS}, c{DOWN}_{ACROSS});
        }
    }
    // whole tiles go straight to c, where its rows start at multiples of 16 bytes
    let ldc = p.ldc;
    let whole = at.inside && at.i + ROWS <= p.m && at.j + COLUMNS <= p.n && !ACCUMULATE && (ldc | at.c) % 4u == 0u;
    if (whole) {
        let to{DOWN}_{ACROSS} = at.c + (at.i + i + {DOWN}u * SIDE) * ldc + at.j + j + {ACROSS}u * SIDE;
        coopStoreT(c{DOWN}_{ACROSS}, &c[to{DOWN}_{ACROSS}], ldc);
    } else {
        store_edge(at, vec2(i + {DOWN}u * SIDE, j + {ACROSS}u * SIDE), subgroup, lane, c{DOWN}_{ACROSS});
    }
}

// One matrix, through workgroup memory: its elements inside c alone.
fn store_edge(at: Place, first: vec2<u32>, subgroup: u32, lane: u32, sums: Sums) {
    let own = subgroup * SIDE * SIDE;
    workgroupBarrier();
    coopStoreT(sums, &edge[own], SIDE);
    workgroupBarrier();
    for (var e = lane % SUBGROUP; e < SIDE * SIDE; e += SUBGROUP) {
        let row = at.i + first.x + e / SIDE;
        let column = at.j + first.y + e % SIDE;
        if (at.inside && row < p.m && column < p.n) {
            let to = at.c + row * p.ldc + column;
            if (ACCUMULATE) { c[to] = c[to] + edge[own + e]; } else { c[to] = edge[own + e]; }
        }
    }
}
