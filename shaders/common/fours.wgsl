// What an access moves, for operands whose rows are whole multiples of it: four elements. common/ones.wgsl has the other way.
alias Elem = vec4<f32>;
alias Index = vec4<u32>;
const WIDTH = 4u;
// the place of each element in its access
const PLACES: Index = vec4(0u, 1u, 2u, 3u);

fn sum_of(x: Elem) -> f32 { return (x.x + x.y) + (x.z + x.w); }
fn max_of(x: Elem) -> f32 { return max(max(x.x, x.y), max(x.z, x.w)); }
fn top_of(x: Index) -> u32 { return max(max(x.x, x.y), max(x.z, x.w)); }
