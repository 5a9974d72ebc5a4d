//! Text in and out of token ids.
//!
//! | file | holds |
//! |---|---|
//! | `tokenizer.rs` | [`Tokenizer`]: a `tokenizer.json`, encode, decode, vocabulary and its gaps, control tokens |
//! | `plain.rs` | text of data, in which nothing is an added token |
//! | `checkpoint.rs` | reading and writing the tokenizer's files of a Hugging Face directory |
//! | `stream.rs` | [`TextStream`]: decoding token by token without ever splitting a character |
//! | `bpe.rs` | [`train_bpe`]: a byte-level BPE of our own, in Qwen's manner |
//! | `sid_tokens.rs` | [`SidShape`], [`SidTokens`]: how a semantic id is spelt, as text and as token ids |
//! | `chat.rs` | [`ChatTemplate`]: Jinja chat templates, and `chatml.jinja`, the one used when a model brings none |
//! | `spans.rs` | [`EncodedChat`]: a chat as token ids, with the token range of every assistant answer |
//!
//! Losses, rewards and metrics work on token ids; text is for people and for teachers.

mod bpe;
mod byte_level;
mod chat;
mod checkpoint;
mod plain;
mod sid_tokens;
mod spans;
mod stream;
mod tokenizer;

pub use bpe::{BPE_MIN_VOCAB, train_bpe};
pub use chat::{ChatTemplate, Message};
pub use sid_tokens::{SID_BEGIN, SID_END, SidShape, SidTokens, level_letter, sid_token};
pub use spans::{AssistantSpan, EncodedChat};
pub use stream::TextStream;
pub use tokenizer::{ENDOFTEXT, IM_END, IM_START, THINK, THINK_END, Tokenizer};

use crate::error::Error;

fn refusal(what: impl ToString, problem: impl ToString) -> Error {
    Error::Text { what: what.to_string(), problem: problem.to_string(), hint: None }
}

fn refusal_with_hint(what: impl ToString, problem: impl ToString, hint: impl ToString) -> Error {
    Error::Text { what: what.to_string(), problem: problem.to_string(), hint: Some(hint.to_string()) }
}
