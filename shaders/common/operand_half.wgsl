// b of a product in two bytes an element, four to a load; its elements, and those of a, in packs of four for kernels that
// read neighbours along k, where rows are whole packs.
//   uses    common/f16.wgsl or common/bf16.wgsl
@group(0) @binding(1) var<storage, read> b: array<vec2<u32>>;
@group(0) @binding(0) var<storage, read> a_packs: array<vec4<f32>>;

const PACK: u32 = 4u;
alias Pack = vec4<f32>;
// what one access of b reads: a pack as it is stored
alias Load = vec2<u32>;

fn b_at(i: u32) -> f32 {
    let four = b[i / 4u];
    let two = widened(select(four.x, four.y, i % 4u >= 2u));
    return select(two.x, two.y, i % 2u == 1u);
}

fn pack_of(x: Load) -> Pack { return vec4(widened(x.x), widened(x.y)); }

fn a_pack(i: u32) -> Pack { return a_packs[i / 4u]; }
fn added(sum: f32, x: Pack, y: Pack) -> f32 { return sum + dot(x, y); }
