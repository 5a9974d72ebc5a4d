// The gated activation of a few normalised rows: c = silu(y gateᵀ) (y upᵀ), y = rms_norm(a) norm, silu(x) = x / (1 + exp(-x)).
//   a (m, k), norm (k)   f32        gate, up   (n, k)   rows of one kind        c   (m, n)   f32
//   uses    common/grid.wgsl, common/few_rows_several.wgsl, common/sigmoid.wgsl
//   workgroup = ROWS x PAIRS of c, its columns those of gate, then of up
struct Params { m: u32, k: u32, n: u32, eps: f32 }
var<immediate> p: Params;

const PAIRS = COLS / 2u;
alias Elem = f32;

@group(0) @binding(3) var<storage, read> up: array<Load>;
@group(0) @binding(4) var<storage, read> norm: array<Pack>;

struct Place { i: u32, j: u32, k: u32 }

fn column_of(at: Place, c: u32) -> u32 { return min(at.j + c % PAIRS, p.n - 1u); }

fn b_load(at: Place, column: u32, i: u32) -> Load {
    if (column < PAIRS) { return b[i / PACK]; }
    return up[i / PACK];
}

@compute @workgroup_size(LANES)
fn swiglu(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
          @builtin(local_invocation_index) lane: u32) {
    let index = group_index(group, groups);
    let across = (p.m + ROWS - 1u) / ROWS;
    let at = Place(index % across * ROWS, index / across * PAIRS, p.k);
    if (at.j >= p.n) { return; }
    let total = few_rows(at, lane);
    workgroupBarrier();
    if (lane < RESULTS) { sums[lane] = total; }
    workgroupBarrier();
    let i = at.i + lane / PAIRS;
    let j = at.j + lane % PAIRS;
    if (lane < ROWS * PAIRS && i < p.m && j < p.n) {
        let first = lane / PAIRS * COLS + lane % PAIRS;
        let gate = sums[first];
        c[i * p.n + j] = gate * sigmoid(gate) * sums[first + PAIRS];
    }
}
