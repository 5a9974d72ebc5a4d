//! [`TextStream`]: decoding one token at a time.

use super::Tokenizer;
use super::byte_level::token_bytes;
use super::tokenizer::NO_TOKEN;
use crate::error::Result;

/// Text of a growing sequence of ids: what [`push`](TextStream::push) and [`finish`](TextStream::finish) return, one
/// after the other, is the decoding of the whole, and no piece ends inside a character.
#[derive(Debug)]
pub struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    skip_special: bool,
    pending: Pending,
}

#[derive(Debug)]
enum Pending {
    /// Byte-level tokenizers: the bytes of a character not complete yet, three at most.
    Bytes(Vec<u8>),
    /// Others: the ids whose text may still change, as kept by `tokenizers::step_decode_stream`.
    Window { ids: Vec<u32>, prefix: String, prefix_index: usize },
}

impl<'a> TextStream<'a> {
    pub(super) fn new(tokenizer: &'a Tokenizer, skip_special: bool) -> Self {
        TextStream { tokenizer, skip_special, pending: Pending::empty(tokenizer) }
    }

    /// Text that `id` completes; empty while a character is incomplete.
    pub fn push(&mut self, id: u32) -> Result<String> {
        let Some(token) = self.tokenizer.token(id) else {
            let mut text = self.flush()?;
            text.push(NO_TOKEN);
            return Ok(text);
        };
        match &mut self.pending {
            Pending::Bytes(bytes) => {
                if !(self.skip_special && self.tokenizer.is_special(id)) {
                    bytes.extend(token_bytes(&token));
                }
                Ok(take_complete(bytes))
            }
            Pending::Window { ids, prefix, prefix_index } => {
                let (inner, skip) = (&self.tokenizer.inner, self.skip_special);
                let step =
                    || tokenizers::tokenizer::step_decode_stream(inner, vec![id], skip, ids, prefix, prefix_index);
                self.tokenizer.guarded("decoding", step).map(Option::unwrap_or_default)
            }
        }
    }

    /// What is left at the end: U+FFFD if the last character stayed incomplete.
    pub fn finish(mut self) -> Result<String> {
        self.flush()
    }

    fn flush(&mut self) -> Result<String> {
        match std::mem::replace(&mut self.pending, Pending::empty(self.tokenizer)) {
            Pending::Bytes(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Pending::Window { ids, prefix, .. } => {
                let decode = || self.tokenizer.inner.decode(&ids, self.skip_special);
                let text = self.tokenizer.guarded("decoding", decode)?;
                Ok(text.strip_prefix(&prefix).unwrap_or(&text).to_owned())
            }
        }
    }
}

impl Pending {
    fn empty(tokenizer: &Tokenizer) -> Self {
        if tokenizer.is_byte_level() {
            Pending::Bytes(Vec::new())
        } else {
            Pending::Window { ids: Vec::new(), prefix: String::new(), prefix_index: 0 }
        }
    }
}

/// Takes the complete characters off the front of `bytes`; what can no longer become one turns into U+FFFD, in the
/// same places as in `String::from_utf8_lossy` of the whole.
fn take_complete(bytes: &mut Vec<u8>) -> String {
    let mut text = String::new();
    let mut start = 0;
    for chunk in bytes.utf8_chunks() {
        text += chunk.valid();
        start += chunk.valid().len();
        let invalid = chunk.invalid();
        let at_end = start + invalid.len() == bytes.len();
        if at_end && std::str::from_utf8(invalid).is_err_and(|e| e.error_len().is_none()) {
            break;
        }
        if !invalid.is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
            start += invalid.len();
        }
    }
    bytes.drain(..start);
    text
}

#[cfg(test)]
mod tests {
    use super::super::bpe::tests::shop_tokenizer;
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn a_character_comes_out_whole() {
        let tokenizer = shop_tokenizer();
        let ids = tokenizer.encode("🖊a<|im_end|>").unwrap();
        let mut stream = tokenizer.stream(true);
        let pieces: Vec<String> = ids.iter().map(|&id| stream.push(id).unwrap()).collect();
        assert_eq!(pieces, ["", "", "", "🖊", "a", ""]);
        assert_eq!(stream.finish().unwrap(), "");
    }

    #[test]
    fn pieces_add_up_to_the_decoding_of_random_ids() {
        let tokenizer = shop_tokenizer();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for round in 0..2000 {
            // Mostly single bytes, so that broken characters of every kind occur; 340 and above have no token.
            let ids: Vec<u32> =
                (0..12).map(|_| if rng.random_bool(0.9) { rng.random_range(0..259) } else { 341 }).collect();
            let skip_special = round % 2 == 0;
            let mut stream = tokenizer.stream(skip_special);
            let mut text: String = ids.iter().map(|&id| stream.push(id).unwrap()).collect();
            text += &stream.finish().unwrap();
            assert_eq!(text, tokenizer.decode(&ids, skip_special).unwrap(), "{ids:?}");
        }
    }

    #[test]
    fn other_decoders_keep_their_spaces() {
        let json = r#"{"version": "1.0", "added_tokens": [], "normalizer": null, "post_processor": null,
            "pre_tokenizer": null, "decoder": {"type": "WordPiece", "prefix": "\u0023#", "cleanup": false},
            "model": {"type": "WordLevel", "vocab": {"pa": 0, "\u0023#per": 1, "tape": 2}, "unk_token": "pa"}}"#;
        let tokenizer = Tokenizer::from_json(json.as_bytes(), "t").unwrap();
        let mut stream = tokenizer.stream(false);
        let mut text: String = [0, 1, 2].map(|id| stream.push(id).unwrap()).concat();
        text += &stream.finish().unwrap();
        assert_eq!(text, "paper tape");
    }
}
