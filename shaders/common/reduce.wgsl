// Reductions over one workgroup of WG invocations, WG a power of two:
//   group_sum(lane, x)   a sum, in a fixed order
//   group_max(lane, x)   the largest, NaN if any x is NaN: max() alone may drop it
// Every invocation must call them, in uniform control flow; all of them get the result. They are in reduce_tree.wgsl or
// reduce_subgroups.wgsl, as the adapter allows.
override WG: u32 = 256u;
var<workgroup> partial: array<f32, WG>;

fn is_nan(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}

fn nan_max(a: f32, b: f32) -> f32 {
    if (is_nan(a)) { return a; }
    if (is_nan(b)) { return b; }
    return max(a, b);
}
