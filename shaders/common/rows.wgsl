// Rows, each shared by `span` lanes (a power of two, p.span), WG / span rows in a workgroup. In a turn a lane takes BATCH
// accesses, span apart, and loads all of them first. Kernels walk a row forward to reduce it and backward to write, so that
// the last turn, which is the only one of most rows, stays in registers.
// Uses common/reduce.wgsl and a text with BATCH; places count accesses of common/ones.wgsl or common/fours.wgsl.

// The row of this lane; lanes past the last row repeat it and write nothing.
fn row_of(group: u32, lane: u32) -> u32 {
    return group * (WG / p.span) + lane / p.span;
}

// The sum over the lanes of a row, in a fixed order. Every invocation must call it.
fn row_sum(lane: u32, x: f32) -> f32 {
    if (ONE_SUBGROUP || p.span == WG) { return group_sum(lane, x); }
    let i = lane & (p.span - 1u);
    partial[lane] = x;
    workgroupBarrier();
    for (var half = p.span / 2u; half > 0u; half = half / 2u) {
        if (i < half) { partial[lane] = partial[lane] + partial[lane + half]; }
        workgroupBarrier();
    }
    let total = partial[lane - i];
    workgroupBarrier();
    return total;
}

// The largest over the lanes of a row, NaN if any is. As row_sum.
fn row_max(lane: u32, x: f32) -> f32 {
    if (ONE_SUBGROUP || p.span == WG) { return group_max(lane, x); }
    let i = lane & (p.span - 1u);
    partial[lane] = x;
    workgroupBarrier();
    for (var half = p.span / 2u; half > 0u; half = half / 2u) {
        if (i < half) { partial[lane] = nan_max(partial[lane], partial[lane + half]); }
        workgroupBarrier();
    }
    let largest = partial[lane - i];
    workgroupBarrier();
    return largest;
}
