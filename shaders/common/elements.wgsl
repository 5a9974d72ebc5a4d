// Element-wise kernels: every invocation takes ELEMENTS elements, WG apart, so that a workgroup reads whole lines.
// Uses common/grid.wgsl.
override WG: u32 = 256u;
const ELEMENTS: u32 = 4u;

fn first_element(group: vec3<u32>, groups: vec3<u32>, lane: u32) -> u32 {
    return group_index(group, groups) * (WG * ELEMENTS) + lane;
}
