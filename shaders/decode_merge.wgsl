// decode: what the parts of each row make together, weighted by their log-sum-exps.
//   table   u32: per row its first part and how many it has
//   parts   (parts, H, D)   lse (parts, H)   out (R, H, D)   f32, parts and out as vec4: D a multiple of 4
//   one workgroup per row, query head and SLAB vec4 of it; lanes side by side along the parts
//   uses    common/grid.wgsl, common/reduce.wgsl
struct Params { rows: u32, heads: u32, dim: u32 }
var<immediate> p: Params;

const SLAB = 8u;
const LOADS: u32 = 4u;
const LOWEST = -3.0e38;

@group(0) @binding(0) var<storage, read> table: array<u32>;
@group(0) @binding(1) var<storage, read> parts: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> lse: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<vec4<f32>>;

var<workgroup> sums: array<vec4<f32>, WG>;
var<workgroup> totals: array<f32, WG>;

@compute @workgroup_size(WG)
fn merge(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
         @builtin(local_invocation_index) lane: u32) {
    let quads = p.dim / 4u;
    let slabs = (quads + SLAB - 1u) / SLAB;
    let at = group_index(group, groups);
    let row = at / slabs / p.heads;
    if (row >= p.rows) { return; }
    let head = at / slabs % p.heads;
    let first = table[row * 2u];
    let count = table[row * 2u + 1u];
    var mine = LOWEST;
    for (var i = lane; i < count; i += WG) { mine = nan_max(mine, lse[(first + i) * p.heads + head]); }
    let top = group_max(lane, mine);

    let sets = WG / SLAB;
    let quad = at % slabs * SLAB + lane % SLAB;
    var sum = vec4(0.0);
    var total = 0.0;
    for (var i = lane / SLAB; i < count; i += LOADS * sets) {
        // parts past the last repeat it, with no weight
        let part{LOADS} = (first + min(i + {LOADS}u * sets, count - 1u)) * p.heads + head;
        let x{LOADS} = parts[part{LOADS} * quads + min(quad, quads - 1u)];
        let w{LOADS} = select(0.0, exp(lse[part{LOADS}] - top), i + {LOADS}u * sets < count);
        sum = fma(vec4(w{LOADS}), x{LOADS}, sum);
        total += w{LOADS};
    }
    sums[lane] = sum;
    totals[lane] = total;
    workgroupBarrier();
    if (lane < SLAB && quad < quads) {
        for (var s = 1u; s < sets; s++) {
            sum += sums[s * SLAB + lane];
            total += totals[s * SLAB + lane];
        }
        out[(row * p.heads + head) * quads + quad] = sum / total;
    }
}
