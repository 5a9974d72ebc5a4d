// Elements of an operand stored in f32: one in a word, and four at a time.
alias Word = f32;
const IN_WORD = 1u;
fn element(word: Word, i: u32) -> f32 { return word; }

alias Four = vec4<f32>;
fn opened(x: Four) -> vec4<f32> { return x; }
