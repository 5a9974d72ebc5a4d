// The largest value of a workgroup of WG invocations and the lowest index that has it. Every invocation must call
// group_best, in uniform control flow. Uses WG of common/reduce.wgsl.
struct Best { value: f32, index: u32 }
var<workgroup> candidates: array<Best, WG>;

fn better(a: Best, b: Best) -> Best {
    if (b.value > a.value || (b.value == a.value && b.index < a.index)) { return b; }
    return a;
}

fn group_best(lane: u32, mine: Best) -> Best {
    candidates[lane] = mine;
    workgroupBarrier();
    for (var half = WG / 2u; half > 0u; half = half / 2u) {
        if (lane < half) { candidates[lane] = better(candidates[lane], candidates[lane + half]); }
        workgroupBarrier();
    }
    let best = candidates[0];
    workgroupBarrier();
    return best;
}
