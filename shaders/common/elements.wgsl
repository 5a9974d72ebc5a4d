// Element-wise kernels: every invocation makes ELEMENTS accesses to each operand, WG apart, so that a workgroup reads whole
// lines. All loads come first, at clamped places: a store that may alias them would hold back those after it.
// Uses common/grid.wgsl; places count accesses of common/ones.wgsl or common/fours.wgsl.
override WG: u32 = 256u;
const ELEMENTS: u32 = 2u;

fn first_element(group: vec3<u32>, groups: vec3<u32>, lane: u32) -> u32 {
    return group_index(group, groups) * (WG * ELEMENTS) + lane;
}

// True for all of a workgroup whose accesses are all below n: its stores need no branch each, which would take the loads in
// behind it.
fn whole_group(first: u32, lane: u32, n: u32) -> bool {
    return first - lane + WG * ELEMENTS <= n;
}
