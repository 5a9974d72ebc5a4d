// gather of rows in two bytes an element: y[t] = x[index[t]] in f32.
//   x       (rows first … first + V of the source, C)    one piece of a source that may exceed a binding
//   index   (T)     u32    rows of the whole source
//   y       (T, C)  f32    one invocation per element; rows of other pieces are left alone
//   An index past the whole source gives NaN, so that it shows.
//   uses    common/grid.wgsl, common/f16.wgsl or common/bf16.wgsl
override WG: u32 = 256u;
struct Params { count: u32, cols: u32, first: u32, rows: u32, total: u32 }
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read> index: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WG)
fn gather_narrow(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
                 @builtin(local_invocation_index) lane: u32) {
    let i = group_index(group, groups) * WG + lane;
    let t = i / p.cols;
    if (t >= p.count) { return; }
    let row = index[t];
    if (row >= p.first && row - p.first < p.rows) {
        let e = (row - p.first) * p.cols + i % p.cols;
        let two = widened(x[e / 2u]);
        y[i] = select(two.x, two.y, e % 2u == 1u);
    } else if (row >= p.total) {
        y[i] = bitcast<f32>(0x7fc00000u);
    }
}
