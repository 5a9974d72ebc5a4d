// Elements of an operand stored in f16: one of the two in a word, and four at a time.
//   uses    common/f16.wgsl
alias Word = u32;
const IN_WORD = 2u;
fn element(word: Word, i: u32) -> f32 {
    let two = widened(word);
    return select(two.x, two.y, i % 2u == 1u);
}

alias Four = vec2<u32>;
fn opened(x: Four) -> vec4<f32> { return vec4(widened(x.x), widened(x.y)); }
