// reduce: sums in two passes and a fixed order; the second pass is the same kernel over the first one's results.
//   x        (n)           f32   sum, sum_squares: out[p.out + g] = sum of x, x^2 over the span of workgroup g
//   x        (rows, cols)  f32   columns: row p.out + g of out = column sums of rows [g span, (g + 1) span)
//   math     f32
//   uses     common/grid.wgsl, common/reduce.wgsl
struct Params { n: u32, cols: u32, span: u32, start: u32, out: u32 }
var<immediate> p: Params;

// loads in flight of an invocation
const LOADS: u32 = 8u;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(WG)
fn sum(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
       @builtin(local_invocation_index) lane: u32) {
    let g = group_index(group, groups);
    let first = g * p.span;
    if (first >= p.n) { return; }
    let end = min(first + p.span, p.n);
    var total = 0.0;
    for (var i = first + lane; i < end; i += WG * LOADS) {
        let v{LOADS} = x[min(i + {LOADS}u * WG, end - 1u)];
        total += select(0.0, v{LOADS}, i + {LOADS}u * WG < end);
    }
    total = group_sum(lane, total);
    if (lane == 0u) { out[p.out + g] = total; }
}

@compute @workgroup_size(WG)
fn sum_squares(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
               @builtin(local_invocation_index) lane: u32) {
    let g = group_index(group, groups);
    let first = g * p.span;
    if (first >= p.n) { return; }
    let end = min(first + p.span, p.n);
    var total = 0.0;
    for (var i = first + lane; i < end; i += WG * LOADS) {
        let v{LOADS} = x[min(i + {LOADS}u * WG, end - 1u)];
        total += select(0.0, v{LOADS} * v{LOADS}, i + {LOADS}u * WG < end);
    }
    total = group_sum(lane, total);
    if (lane == 0u) { out[p.out + g] = total; }
}

// n is the number of rows here
@compute @workgroup_size(WG)
fn columns(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
           @builtin(local_invocation_index) lane: u32) {
    let g = group_index(group, groups);
    let across = (p.cols + WG - 1u) / WG;
    let first = g / across * p.span;
    let column = g % across * WG + lane;
    if (first >= p.n || column >= p.cols) { return; }
    let end = min(first + p.span, p.n);
    var total = 0.0;
    for (var r = first; r < end; r += LOADS) {
        let v{LOADS} = x[p.start + min(r + {LOADS}u, end - 1u) * p.cols + column];
        total += select(0.0, v{LOADS}, r + {LOADS}u < end);
    }
    out[(p.out + g / across) * p.cols + column] = total;
}
