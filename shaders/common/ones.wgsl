// What an access moves, for operands of any length: one element. common/fours.wgsl has the other way.
alias Elem = f32;
alias Index = u32;
const WIDTH = 1u;
// the place of each element in its access
const PLACES: Index = 0u;

fn sum_of(x: Elem) -> f32 { return x; }
fn max_of(x: Elem) -> f32 { return x; }
fn top_of(x: Index) -> u32 { return x; }
