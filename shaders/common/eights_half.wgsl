// What a product on matrix units stages of b in two bytes an element: eights, each in one load, and their halves in f16.
//   uses    common/f16.wgsl or common/bf16.wgsl
alias EightOfB = vec4<u32>;

fn first_half(x: EightOfB) -> vec4<f16> { return vec4<f16>(vec4(widened(x.x), widened(x.y))); }
fn second_half(x: EightOfB) -> vec4<f16> { return vec4<f16>(vec4(widened(x.z), widened(x.w))); }
