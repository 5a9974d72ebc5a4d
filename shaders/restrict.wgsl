// restrict: bars every token of a row but those on its list; a row with an empty list keeps all.
//   logits     (R, V)    f32    changed in place, one workgroup per TURNS WG columns of a row
//   offsets    (R + 1)   u32    row r's list is tokens[offsets[r] .. offsets[r + 1]]
//   tokens     (N)       u32    ascending within a list
//   uses       common/grid.wgsl, WG of common/reduce.wgsl
struct Params { rows: u32, cols: u32 }
var<immediate> p: Params;

const TURNS: u32 = 16u;
// Logits from here on down are masked.
const MASKED: f32 = -3e38;

@group(0) @binding(0) var<storage, read_write> logits: array<f32>;
@group(0) @binding(1) var<storage, read> offsets: array<u32>;
@group(0) @binding(2) var<storage, read> tokens: array<u32>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let index = group_index(group, groups);
    let spans = (p.cols + TURNS * WG - 1u) / (TURNS * WG);
    let row = index / spans;
    if (row >= p.rows) { return; }
    let first = offsets[row];
    let end = offsets[row + 1u];
    if (first >= end) { return; }
    let start = index % spans * TURNS * WG;
    for (var c = start + lane; c < min(start + TURNS * WG, p.cols); c += WG) {
        // the first list entry that is not below c
        var low = first;
        var high = end;
        while (low < high) {
            let middle = (low + high) / 2u;
            if (tokens[middle] < c) { low = middle + 1u; } else { high = middle; }
        }
        if (low == end || tokens[min(low, end - 1u)] != c) { logits[row * p.cols + c] = MASKED; }
    }
}
