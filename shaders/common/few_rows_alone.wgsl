// Rows of a as they are; what few_rows.wgsl asks of a text about them.
fn weighed(x: Pack, l: u32) -> Pack { return x; }
fn with_square(squares: Pack, x: Pack) -> Pack { return squares; }
fn keep_squares(row: u32, lane: u32, squares: Pack) {}
fn join_squares(lane: u32) {}
fn factor_of(row: u32) -> f32 { return 1.0; }
