// common/reduce.wgsl by subgroups: their results meet in workgroup memory, unless a workgroup is ONE_SUBGROUP. How lanes are
// dealt to subgroups does not matter.
fn group_sum(lane: u32, x: f32) -> f32 {
    let sum = subgroupAdd(x);
    if (ONE_SUBGROUP) { return sum; }
    let rank = subgroupExclusiveAdd(1u);
    partial[lane] = select(0.0, sum, rank == 0u);
    workgroupBarrier();
    var total = 0.0;
    let size = subgroupAdd(1u);
    for (var i = rank; i < WG; i += size) { total += partial[i]; }
    total = subgroupAdd(total);
    workgroupBarrier();
    return total;
}

fn group_max(lane: u32, x: f32) -> f32 {
    let largest = subgroup_max(x);
    if (ONE_SUBGROUP) { return largest; }
    let rank = subgroupExclusiveAdd(1u);
    partial[lane] = largest;
    workgroupBarrier();
    var top = largest;
    let size = subgroupAdd(1u);
    for (var i = rank; i < WG; i += size) { top = nan_max(top, partial[i]); }
    top = subgroup_max(top);
    workgroupBarrier();
    return top;
}

// The largest as integers in the order of the numbers they stand for, NaN above all.
fn subgroup_max(x: f32) -> f32 {
    let bits = bitcast<u32>(x);
    let negative = (bits >> 31u) == 1u;
    let key = select(bits | 0x80000000u, ~bits, negative);
    let top = subgroupMax(select(key, 0xffffffffu, is_nan(x)));
    return bitcast<f32>(select(~top, top & 0x7fffffffu, (top >> 31u) == 1u));
}
