// gather: y[t] = x[index[t]], rows of C elements of four bytes, copied as bits.
//   x       (rows first … first + V of the source, C)    one piece of a source that may exceed a binding
//   index   (T)     u32    rows of the whole source
//   y       (T, C)         one invocation per access; rows of other pieces are left alone
//   An index past the whole source gives NaN, so that it shows.
//   uses    common/grid.wgsl, common/ones.wgsl or common/fours.wgsl
override WG: u32 = 256u;
struct Params { count: u32, cols: u32, first: u32, rows: u32, total: u32 }
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> x: array<Index>;
@group(0) @binding(1) var<storage, read> index: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<Index>;

@compute @workgroup_size(WG)
fn gather(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
          @builtin(local_invocation_index) lane: u32) {
    let i = group_index(group, groups) * WG + lane;
    let cols = p.cols / WIDTH;
    let t = i / cols;
    if (t >= p.count) { return; }
    let row = index[t];
    if (row >= p.first && row - p.first < p.rows) {
        y[i] = x[(row - p.first) * cols + i % cols];
    } else if (row >= p.total) {
        y[i] = Index(0x7fc00000u);
    }
}
