// b of a product in f32; its elements, and those of a, in packs of one for kernels that read neighbours along k.
//   uses    common/product_f32.wgsl
@group(0) @binding(1) var<storage, read> b: array<f32>;

const PACK: u32 = 1u;
alias Pack = f32;

fn b_at(i: u32) -> f32 { return b[i]; }
fn b_pack(i: u32) -> Pack { return b[i]; }
fn a_pack(i: u32) -> Pack { return a[i]; }
fn sum_of(x: Pack) -> f32 { return x; }
