// common/row_values.wgsl by a subgroup, whose lanes are numbered as those of its workgroup.
fn own(i: u32) -> f32 { return a[i]; }
fn of_row_{LANES}(x: f32, i: u32) -> f32 { return subgroupBroadcast(x, {LANES}u); }
