// Two f16 of a word as f32, the first in the lower half.
fn widened(word: u32) -> vec2<f32> { return unpack2x16float(word); }
