//! The table: shapes of small models, of Qwen3 0.6B and 1.7B, and of a gigabyte for bandwidth.

mod attention;
mod decode;
mod elementwise;
mod logprob;
mod matmul;
mod projections;
mod rows;

use super::Case;

/// Sizes of a model's layers, from which cases are named and shaped.
#[derive(Clone, Copy)]
struct Model {
    name: &'static str,
    hidden: usize,
    ffn: usize,
}

/// Qwen/Qwen3-0.6B and Qwen/Qwen3-1.7B: 16 query and 8 key/value heads of 128, a vocabulary of 151,936.
const QWEN3: [Model; 2] =
    [Model { name: "0.6b", hidden: 1024, ffn: 3072 }, Model { name: "1.7b", hidden: 2048, ffn: 6144 }];
/// Width of all query heads, and of all key heads.
const QUERIES: usize = 16 * 128;
const KEYS: usize = 8 * 128;
const VOCABULARY: usize = 151_936;
/// Elements of an operand of one gibibyte.
const GIBIBYTE: usize = 1 << 28;

/// Every case.
pub fn cases() -> Vec<Case> {
    let mut all = matmul::cases();
    all.extend(attention::cases());
    all.extend(logprob::cases());
    all.extend(rows::cases());
    all.extend(elementwise::cases());
    all.extend(decode::cases());
    all.extend(projections::cases());
    all
}

/// Bytes of `elements` 4-byte elements.
fn bytes(elements: usize) -> u64 {
    4 * elements as u64
}
