// common/reduce.wgsl by halves, through workgroup memory.
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

