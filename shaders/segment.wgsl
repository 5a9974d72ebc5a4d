// segment: y[target] = weight * sum of x[member[j]] over the span j of a record, in order.
//   x         (rows first … of the source, C)  f32    one piece of a source that may exceed a binding
//   members   (M)        u32      rows of the whole source
//   records   (S)        vec4     start, end (a span of members), target, bits of the weight
//   y         (rows base … of the result, C)   f32    one invocation per record and column
//   uses      common/grid.wgsl
override WG: u32 = 256u;
struct Params { records: u32, skip: u32, cols: u32, first: u32, base: u32 }
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> members: array<u32>;
@group(0) @binding(2) var<storage, read> records: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WG)
fn sum(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
       @builtin(local_invocation_index) lane: u32) {
    let i = group_index(group, groups) * WG + lane;
    let s = i / p.cols;
    if (s >= p.records) { return; }
    let c = i % p.cols;
    let record = records[p.skip + s];
    var total = 0.0;
    for (var j = record.x; j < record.y; j++) { total += x[(members[j] - p.first) * p.cols + c]; }
    y[(record.z - p.base) * p.cols + c] = total * bitcast<f32>(record.w);
}
