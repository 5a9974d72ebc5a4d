// common/row_values.wgsl, each lane reading all of them.
fn own(i: u32) -> f32 { return 0.0; }
fn of_row_{LANES}(x: f32, i: u32) -> f32 { return a[i]; }
