// f32 to f16 in memory, to the nearest, for products on matrix units.
//   x       (rows, cols)    f32    from element `start` on
//   y       f16
//   keep    y as x; workgroup = TILE * TILE elements, in order
//   turn    y (cols, rows), x transposed; workgroup = TILE rows and columns, through workgroup memory
//   uses    common/grid.wgsl, f16
struct Params { rows: u32, cols: u32, start: u32 }
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f16>;

const TILE: u32 = 32u;
const WG: u32 = 256u;
const EACH: u32 = TILE * TILE / WG;
// one more to a row, so that columns lie in different banks
var<workgroup> tile: array<f32, TILE * (TILE + 1u)>;

@compute @workgroup_size(WG)
fn keep(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let first = group_index(group, groups) * (TILE * TILE) + lane;
    for (var e = 0u; e < EACH; e++) {
        let i = first + e * WG;
        if (i < p.rows * p.cols) { y[i] = f16(x[p.start + i]); }
    }
}

@compute @workgroup_size(WG)
fn turn(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let index = group_index(group, groups);
    let across = (p.cols + TILE - 1u) / TILE;
    let row = index / across * TILE;
    let column = index % across * TILE;
    let along = lane % TILE;
    let down = lane / TILE;
    for (var e = 0u; e < TILE; e += WG / TILE) {
        let i = row + down + e;
        let j = column + along;
        if (i < p.rows && j < p.cols) { tile[(down + e) * (TILE + 1u) + along] = x[p.start + i * p.cols + j]; }
    }
    workgroupBarrier();
    for (var e = 0u; e < TILE; e += WG / TILE) {
        let i = row + along;
        let j = column + down + e;
        if (i < p.rows && j < p.cols) { y[j * p.rows + i] = f16(tile[along * (TILE + 1u) + down + e]); }
    }
}
