// Rows of a as they are; what few_rows.wgsl asks of a text about them.
fn weighed(x: Pack, l: u32) -> Pack { return x; }
fn with_square(squares: f32, x: Pack) -> f32 { return squares; }
fn keep_squares(row: u32, lane: u32, squares: f32) {}
fn join_squares(lane: u32) {}
fn factor_of(row: u32) -> f32 { return 1.0; }
