// What a product on matrix units stages of b in f32: eights, each in two loads of 16 bytes, and their halves in f16.
alias EightOfB = mat2x4<f32>;

fn first_half(x: EightOfB) -> vec4<f16> { return vec4<f16>(x[0]); }
fn second_half(x: EightOfB) -> vec4<f16> { return vec4<f16>(x[1]); }
