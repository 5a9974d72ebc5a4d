// Reductions over one workgroup of WG invocations, WG a power of two. Every invocation must call them, in uniform
// control flow; all of them get the result. Sums are made in a fixed order.
override WG: u32 = 256u;
var<workgroup> partial: array<f32, WG>;

fn group_sum(lane: u32, x: f32) -> f32 {
    partial[lane] = x;
    workgroupBarrier();
    for (var half = WG / 2u; half > 0u; half = half / 2u) {
        if (lane < half) {
            partial[lane] = partial[lane] + partial[lane + half];
        }
        workgroupBarrier();
    }
    let total = partial[0];
    workgroupBarrier();
    return total;
}

// NaN if any x is NaN: max() alone may drop it.
fn group_max(lane: u32, x: f32) -> f32 {
    partial[lane] = x;
    workgroupBarrier();
    for (var half = WG / 2u; half > 0u; half = half / 2u) {
        if (lane < half) {
            partial[lane] = nan_max(partial[lane], partial[lane + half]);
        }
        workgroupBarrier();
    }
    let largest = partial[0];
    workgroupBarrier();
    return largest;
}

fn is_nan(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}

fn nan_max(a: f32, b: f32) -> f32 {
    if (is_nan(a)) { return a; }
    if (is_nan(b)) { return b; }
    return max(a, b);
}
