// quantize: the nearest code of each row by squared distance sum (x - e)², the lowest index on a tie.
//   x          (R, D)  f32    one workgroup per row, its lanes over the codes
//   codes      (N, D)  f32    codes first … of the codebook; a later piece continues from what an earlier one found
//   index      (R)     u32    NO_CODE for a row with a NaN
//   distance   (R)     f32
//   uses       common/grid.wgsl, common/reduce.wgsl (WG), common/best.wgsl
struct Params { rows: u32, width: u32, codes: u32, first: u32 }
var<immediate> p: Params;

const NO_CODE: u32 = 0xffffffffu;
const FARTHEST: f32 = 3.4e38;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> codes: array<f32>;
@group(0) @binding(2) var<storage, read_write> index: array<u32>;
@group(0) @binding(3) var<storage, read_write> distance: array<f32>;

@compute @workgroup_size(WG)
fn nearest(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
           @builtin(local_invocation_index) lane: u32) {
    let row = group_index(group, groups);
    if (row >= p.rows) { return; }
    var mine = Best(-FARTHEST, NO_CODE);
    if (p.first > 0u && lane == 0u) { mine = Best(-distance[row], index[row]); }
    for (var n = lane; n < p.codes; n += WG) {
        var sum = 0.0;
        for (var d = 0u; d < p.width; d++) {
            let apart = x[row * p.width + d] - codes[n * p.width + d];
            sum = fma(apart, apart, sum);
        }
        if (-sum > mine.value) { mine = Best(-sum, p.first + n); }
    }
    let best = group_best(lane, mine);
    if (lane == 0u) {
        index[row] = best.index;
        distance[row] = -best.value;
    }
}
