// What a product on matrix units stages of b in f32 or f16: eights as they are, and their halves in f16.
//   uses    a text with EightOfB: mat2x4<f32>, in two loads of 16 bytes, or mat2x4<f16>
fn first_half(x: EightOfB) -> vec4<f16> { return vec4<f16>(x[0]); }
fn second_half(x: EightOfB) -> vec4<f16> { return vec4<f16>(x[1]); }
