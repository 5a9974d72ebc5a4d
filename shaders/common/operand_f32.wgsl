// b of a product in f32; its elements, and those of a, in packs of one for kernels that read neighbours along k.
//   uses    a: array<f32>
@group(0) @binding(1) var<storage, read> b: array<f32>;

const PACK: u32 = 1u;
alias Pack = f32;
// what one access of b reads: a pack as it is stored
alias Load = f32;

fn b_at(i: u32) -> f32 { return b[i]; }
fn pack_of(x: Load) -> Pack { return x; }
fn a_pack(i: u32) -> Pack { return a[i]; }
fn added(sum: f32, x: Pack, y: Pack) -> f32 { return fma(x, y, sum); }
