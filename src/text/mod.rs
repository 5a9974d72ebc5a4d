//! Text in and out of token ids.
//!
//! | file | holds |
//! |---|---|
//! | `tokenizer.rs` | [`Tokenizer`]: a `tokenizer.json`, encode, decode, vocabulary and its gaps, control tokens |
//! | `plain.rs` | text of data, in which nothing is an added token |
//! | `probe.rs` | using a tokenizer once, to find what is wrong with its file |
//! | `checkpoint.rs` | reading and writing the tokenizer's files of a Hugging Face directory |
//! | `stream.rs` | [`TextStream`]: decoding token by token without ever splitting a character |
//! | `bpe.rs` | [`train_bpe`]: a byte-level BPE of our own, in Qwen's manner |
//! | `sid_tokens.rs` | [`SidShape`], [`SidTokens`]: how a semantic id is spelt, as text and as token ids |
//! | `chat.rs` | [`ChatTemplate`]: Jinja chat templates, and `chatml.jinja`, the one used when a model brings none |
//! | `jinja.rs` | the Jinja that chat templates are written in |
//! | `turn_end.rs` | the token that a template ends an answer with |
//! | `spans.rs` | [`EncodedChat`]: a chat as token ids, with the token range of every assistant answer |
//!
//! Losses, rewards and metrics work on token ids; text is for people and for teachers.

mod bpe;
mod byte_level;
mod chat;
mod checkpoint;
mod jinja;
mod plain;
mod probe;
mod sid_tokens;
mod spans;
mod stream;
mod tokenizer;
mod turn_end;

pub use bpe::{BPE_MIN_VOCAB, train_bpe};
pub use chat::{ChatTemplate, Message};
pub use checkpoint::eos_of_files;
pub use sid_tokens::{MAX_LEVELS, SID_BEGIN, SID_END, SidShape, SidTokens, level_letter, sid_token};
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

/// The beginning of a text that others wrote, on one line, for a message.
fn clipped(text: &str, characters: usize) -> String {
    let line = |c: char| if c.is_control() { ' ' } else { c };
    let mut clipped: String = text.chars().take(characters).map(line).collect();
    if text.chars().nth(characters).is_some() {
        clipped.push('…');
    }
    clipped
}
