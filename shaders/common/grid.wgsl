// The launcher folds a long row of workgroups to a 2-D grid; this is its position in the row again. The grid may be
// a little larger than asked for: every kernel returns for positions past its last row.
fn group_index(group: vec3<u32>, groups: vec3<u32>) -> u32 {
    return group.y * groups.x + group.x;
}
