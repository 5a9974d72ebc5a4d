// Products of a few normalised rows with up to three matrices: c = y bᵀ, c1 = y b1ᵀ, c2 = y b2ᵀ, y = rms_norm(a) norm.
//   a, norm     (m, k), (k)                 f32
//   b, b1, b2   (n, k), (n1, k), (n2, k)    rows of one kind
//   c           c, then from p.c1 and p.c2 on c1 and c2    f32
//   uses    common/grid.wgsl, common/few_rows_several.wgsl; workgroup = ROWS x COLS of one of the results
struct Params { m: u32, k: u32, n: u32, n1: u32, n2: u32, c1: u32, c2: u32, eps: f32 }
var<immediate> p: Params;

@group(0) @binding(3) var<storage, read> b1: array<Load>;
@group(0) @binding(4) var<storage, read> b2: array<Load>;
@group(0) @binding(5) var<storage, read> norm: array<Pack>;

// Rows and columns from i and j on of c[number], which starts at c and has n columns.
struct Place { i: u32, j: u32, k: u32, number: u32, n: u32, c: u32 }

fn column_of(at: Place, c: u32) -> u32 { return min(at.j + c, at.n - 1u); }

fn b_load(at: Place, column: u32, i: u32) -> Load {
    if (at.number == 0u) { return b[i / PACK]; }
    if (at.number == 1u) { return b1[i / PACK]; }
    return b2[i / PACK];
}

fn tiles_of(n: u32) -> u32 { return (n + COLS - 1u) / COLS; }

@compute @workgroup_size(LANES)
fn each(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let index = group_index(group, groups);
    let across = (p.m + ROWS - 1u) / ROWS;
    let tile = index / across;
    let tiles = tiles_of(p.n);
    let tiles1 = tiles + tiles_of(p.n1);
    if (tile >= tiles1 + tiles_of(p.n2)) { return; }
    var at = Place(index % across * ROWS, tile * COLS, p.k, 0u, p.n, 0u);
    if (tile >= tiles1) {
        at = Place(at.i, (tile - tiles1) * COLS, p.k, 2u, p.n2, p.c2);
    } else if (tile >= tiles) {
        at = Place(at.i, (tile - tiles) * COLS, p.k, 1u, p.n1, p.c1);
    }
    let total = few_rows(at, lane);
    let i = at.i + lane / COLS;
    let j = at.j + lane % COLS;
    if (lane < RESULTS && i < p.m && j < at.n) { c[at.c + i * at.n + j] = total; }
}
