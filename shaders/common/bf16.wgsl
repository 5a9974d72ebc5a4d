// Two bf16 of a word as f32, the first in the lower half: they are the upper halves of f32.
fn widened(word: u32) -> vec2<f32> { return bitcast<vec2<f32>>(vec2(word << 16u, word & 0xffff0000u)); }
