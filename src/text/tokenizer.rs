//! [`Tokenizer`]: the `tokenizer.json` of a model, through the `tokenizers` crate.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};
use tokenizers::{AddedToken, DecoderWrapper};

use super::plain::AddedTokens;
use super::{TextStream, clipped, refusal, refusal_with_hint};
use crate::error::Result;
use crate::files;
use crate::sandbox::{self, Limits};

/// Ends a document; Qwen pads with it.
pub const ENDOFTEXT: &str = "<|endoftext|>";
/// Opens a turn of a chat.
pub const IM_START: &str = "<|im_start|>";
/// Closes a turn of a chat.
pub const IM_END: &str = "<|im_end|>";
/// Opens the reasoning of an answer; an ordinary token.
pub const THINK: &str = "<think>";
/// Closes the reasoning of an answer; an ordinary token.
pub const THINK_END: &str = "</think>";

/// Stands for an id that has no token, so that it shows in decoded text.
pub(super) const NO_TOKEN: char = char::REPLACEMENT_CHARACTER;

/// Ids that a vocabulary may have: no model has a million, and every gap below the highest is kept.
const MOST_IDS: usize = 1 << 24;

/// A tokenizer as Hugging Face stores it: same text, same ids.
///
/// Truncation and padding settings of the file are ignored, as transformers does: no text is ever cut silently.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    pub(super) inner: tokenizers::Tokenizer,
    /// The file it was read from, for messages.
    pub(super) origin: String,
    vocab_size: usize,
    gaps: Vec<u32>,
    special: BTreeSet<u32>,
    /// The tokens that text of data must not become.
    pub(super) added: AddedTokens,
    pub(super) eos: Vec<u32>,
    pub(super) pad: Option<u32>,
    /// `tokenizer_config.json` as it was read; empty where the model brought none.
    pub(super) config: Map<String, Value>,
    /// `generation_config.json` as it was read.
    pub(super) generation: Map<String, Value>,
    /// The directory it was loaded from.
    pub(super) directory: Option<PathBuf>,
    /// `chat_template.jinja` as it was read.
    pub(super) template_file: Option<String>,
}

/// What is read from a `tokenizer.json` beside what the crate reads.
#[derive(Deserialize)]
struct Declared {
    #[serde(default)]
    added_tokens: Vec<DeclaredToken>,
}

#[derive(Deserialize)]
struct DeclaredToken {
    id: u32,
    content: String,
}

impl Tokenizer {
    /// Reads the bytes of a `tokenizer.json`; `what` names them in messages.
    ///
    /// Errors: `Text` if they are no tokenizer, if the library panics over them or takes too much memory or time, or if an
    /// added token would not get the id that the file states.
    pub fn from_json(json: &[u8], what: &str) -> Result<Self> {
        if let Some(kind) = files::not_fetched(json) {
            return Err(refusal_with_hint(what, format!("is {kind}"), files::FETCH));
        }
        // a tokenizer takes some 20 times its file while it is read
        let limits = Limits { stack: 64 << 20, memory: (256 << 20) + 100 * json.len(), time: Duration::from_secs(300) };
        let (json, name) = (json.to_vec(), what.to_string());
        let read = sandbox::run(limits, move || {
            let tokenizer = Self::read(&json, &name)?;
            tokenizer.probe()?;
            Ok(tokenizer)
        });
        read.unwrap_or_else(|overrun| Err(damaged(what, &overrun.to_string())))
    }

    fn read(json: &[u8], what: &str) -> Result<Self> {
        let mut inner = tokenizers::Tokenizer::from_bytes(json).map_err(|e| damaged(what, &e.to_string()))?;
        let declared: Declared = serde_json::from_slice(json).map_err(|e| damaged(what, &e.to_string()))?;
        for token in &declared.added_tokens {
            let id = inner.token_to_id(&token.content);
            if id != Some(token.id) {
                let given = id.map_or("none".into(), |id| id.to_string());
                return Err(refusal_with_hint(
                    what,
                    format!("added token {}: the file says id {}, loading gives {given}", token.content, token.id),
                    "ids of added tokens must follow the vocabulary without a gap",
                ));
            }
        }
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|e| refusal(what, e))?;

        let mut tokenizer = Tokenizer {
            inner,
            origin: what.to_owned(),
            vocab_size: 0,
            gaps: Vec::new(),
            special: BTreeSet::new(),
            added: AddedTokens::default(),
            eos: Vec::new(),
            pad: None,
            config: Map::new(),
            generation: Map::new(),
            directory: None,
            template_file: None,
        };
        tokenizer.survey()?;
        tokenizer.eos = tokenizer.im_end().or(tokenizer.token_id(ENDOFTEXT)).into_iter().collect();
        tokenizer.pad = tokenizer.token_id(ENDOFTEXT);
        Ok(tokenizer)
    }

    /// What the library makes of a text or ids; should it panic, an error that names the file.
    pub(super) fn guarded<T>(&self, what: &str, work: impl FnOnce() -> tokenizers::Result<T>) -> Result<T> {
        let problem = match sandbox::catch(work) {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => error.to_string(),
            Err(message) => message,
        };
        Err(damaged(&self.origin, &format!("{what}: {problem}")))
    }

    /// Takes stock of the vocabulary after it changed.
    fn survey(&mut self) -> Result<()> {
        let ids: BTreeSet<u32> = self.inner.get_vocab(true).into_values().collect();
        self.vocab_size = ids.last().map_or(0, |&last| last as usize + 1);
        if self.vocab_size > MOST_IDS {
            return Err(damaged(&self.origin, &format!("id {}: at most {MOST_IDS} are read", self.vocab_size - 1)));
        }
        self.gaps = (0..self.vocab_size as u32).filter(|id| !ids.contains(id)).collect();
        self.special =
            self.inner.get_added_tokens_decoder().into_iter().filter(|(_, t)| t.special).map(|(id, _)| id).collect();
        self.added = AddedTokens::of(&self.inner);
        Ok(())
    }

    /// Ids of `text`, with whatever the file's post-processor adds (for Qwen: nothing).
    ///
    /// Source: `tokenizers.Tokenizer.encode(text).ids`.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self.guarded("encoding", || self.inner.encode_fast(text, true))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Ids of text that already carries its control tokens, such as a rendered chat: nothing is added around it.
    pub fn encode_rendered(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self.guarded("encoding", || self.inner.encode_fast(text, false))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// As [`Tokenizer::encode_rendered`], with the bytes of `text` that each token covers.
    ///
    /// Tokens that share a character all cover the whole of it.
    pub fn encode_with_offsets(&self, text: &str) -> Result<(Vec<u32>, Vec<Range<usize>>)> {
        let encoding = self.guarded("encoding", || self.inner.encode(text, false))?;
        let offsets = encoding.get_offsets().iter().map(|&(start, end)| start..end).collect();
        Ok((encoding.get_ids().to_vec(), offsets))
    }

    /// Text of `ids`, without special tokens if `skip_special`. An id without a token shows as U+FFFD.
    ///
    /// Source: `tokenizers.Tokenizer.decode`, which drops ids without a token.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        let mut text = String::new();
        for (i, run) in ids.split(|&id| !self.has_token(id)).enumerate() {
            if i > 0 {
                text.push(NO_TOKEN);
            }
            text += &self.guarded("decoding", || self.inner.decode(run, skip_special))?;
        }
        Ok(text)
    }

    /// Decodes ids as they are generated.
    pub fn stream(&self, skip_special: bool) -> TextStream<'_> {
        TextStream::new(self, skip_special)
    }

    /// Id of a token by its exact spelling in the vocabulary.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Spelling of an id in the vocabulary (in the byte alphabet for a byte-level tokenizer).
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// Whether `id` has a token. A model's padded vocabulary has rows for more ids than that; sampling must mask them.
    pub fn has_token(&self, id: u32) -> bool {
        (id as usize) < self.vocab_size && self.gaps.binary_search(&id).is_err()
    }

    /// Highest id plus one: the rows an embedding needs.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Ids below [`Tokenizer::vocab_size`] that have no token, ascending.
    pub fn gaps(&self) -> &[u32] {
        &self.gaps
    }

    /// Whether decoding with `skip_special` drops `id`.
    pub fn is_special(&self, id: u32) -> bool {
        self.special.contains(&id)
    }

    /// Ids of the special tokens, ascending.
    pub fn special_ids(&self) -> impl Iterator<Item = u32> + '_ {
        self.special.iter().copied()
    }

    /// Spellings that are read as one token wherever they stand in a text, as far as they are no ordinary text: special
    /// tokens, and added ones in angle brackets such as `<think>` and the codes of semantic ids.
    pub fn control_spellings(&self) -> Vec<String> {
        let tokens = self.inner.get_added_tokens_decoder().into_values();
        let brackets = |text: &str| text.starts_with('<') && text.ends_with('>');
        let control = tokens.filter(|token| token.special || brackets(&token.content)).map(|token| token.content);
        let mut spellings: Vec<String> = control.filter(|text| !text.trim().is_empty()).collect();
        spellings.sort();
        spellings
    }

    /// Ids that end a generated answer: what the chat template ends one with, and those of `tokenizer_config.json`,
    /// `generation_config.json` and `config.json`, each once. Without any of these `<|im_end|>`, else `<|endoftext|>`;
    /// empty only if the tokenizer has none of them.
    pub fn eos_ids(&self) -> &[u32] {
        &self.eos
    }

    /// Id that fills a batch, of `generation_config.json`, else of `config.json`, else of `tokenizer_config.json`, else `<|endoftext|>`.
    pub fn pad_id(&self) -> Option<u32> {
        self.pad
    }

    /// Id of `<|im_start|>`.
    pub fn im_start(&self) -> Option<u32> {
        self.token_id(IM_START)
    }

    /// Id of `<|im_end|>`.
    pub fn im_end(&self) -> Option<u32> {
        self.token_id(IM_END)
    }

    /// Appends ordinary tokens, which decoding never skips, and returns their ids.
    ///
    /// They match in the text as it stands, before normalisation, so that no neighbour changes them.
    /// Errors: `Text` if one is in the vocabulary already or the ids would not follow on it; nothing is added then.
    pub fn add_tokens(&mut self, tokens: &[String]) -> Result<Range<u32>> {
        if let Some((token, id)) = tokens.iter().find_map(|t| Some((t, self.token_id(t)?))) {
            return Err(refusal(format!("token {token}"), format!("is in the vocabulary already, with id {id}")));
        }
        let first = self.vocab_size as u32;
        let mut inner = self.inner.clone();
        inner
            .add_tokens(tokens.iter().map(|t| AddedToken::from(t.as_str(), false).normalized(false)))
            .map_err(|e| refusal("adding tokens", e))?;
        for (id, token) in (first..).zip(tokens) {
            let given = inner.token_to_id(token);
            if given != Some(id) {
                let given = given.map_or("none".into(), |id| id.to_string());
                return Err(refusal_with_hint(
                    format!("token {token}"),
                    format!("should get id {id}, would get {given}"),
                    format!("the vocabulary has {} unused ids and cannot be extended safely", self.gaps.len()),
                ));
            }
        }
        self.inner = inner;
        self.survey()?;
        Ok(first..first + tokens.len() as u32)
    }

    /// The file it was read from, for messages.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Whether decoding is plain concatenation of bytes.
    pub(super) fn is_byte_level(&self) -> bool {
        matches!(self.inner.get_decoder(), Some(DecoderWrapper::ByteLevel(_)))
    }
}

pub(super) fn damaged(file: &str, problem: &str) -> crate::error::Error {
    let hint = "fetch the file again, or let transformers write it anew: AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)";
    refusal_with_hint(file, clipped(problem, 300), hint)
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::bpe::tests::shop_tokenizer;
    use super::*;

    /// A word-level file whose ids have a gap, with settings that would cut and pad.
    pub(in crate::text) fn gapped(added: &str) -> String {
        format!(
            r#"{{"version": "1.0", "added_tokens": [{added}], "normalizer": null, "decoder": null,
            "truncation": {{"direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 0}},
            "padding": {{"strategy": {{"Fixed": 9}}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0,
                         "pad_type_id": 0, "pad_token": "a"}},
            "pre_tokenizer": {{"type": "WhitespaceSplit"}}, "post_processor": null,
            "model": {{"type": "WordLevel", "vocab": {{"a": 0, "b": 1, "z": 4}}, "unk_token": "a"}}}}"#
        )
    }

    #[test]
    fn gaps_are_known_and_nothing_is_cut_or_padded() {
        let mut tokenizer = Tokenizer::from_json(gapped("").as_bytes(), "t").unwrap();
        assert_eq!((tokenizer.vocab_size(), tokenizer.gaps()), (5, &[2, 3][..]));
        assert_eq!([1, 2, 4, 5].map(|id| tokenizer.has_token(id)), [true, false, true, false]);
        assert_eq!(tokenizer.encode("b z b").unwrap(), [1, 4, 1]);
        assert_eq!(tokenizer.decode(&[1, 3, 4, 9], false).unwrap(), "b\u{fffd}z\u{fffd}");
        assert!(tokenizer.eos_ids().is_empty() && tokenizer.pad_id().is_none());

        let refused = tokenizer.add_tokens(&["new".into()]).unwrap_err().to_string();
        assert_eq!(
            refused,
            "text: token new: should get id 5, would get 3\n  hint: the vocabulary has 2 unused ids and cannot be \
             extended safely"
        );
        assert_eq!(tokenizer.token_id("new"), None);
    }

    #[test]
    fn a_file_that_contradicts_itself_is_refused() {
        let flags = r#""single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": false"#;
        let json = gapped(&format!(r#"{{"id": 7, "content": "<x>", {flags}}}"#));
        let refused = Tokenizer::from_json(json.as_bytes(), "t.json").unwrap_err().to_string();
        assert!(
            refused.starts_with("text: t.json: added token <x>: the file says id 7, loading gives 3\n"),
            "{refused}"
        );
        assert!(Tokenizer::from_json(b"{", "t.json").unwrap_err().to_string().starts_with("text: t.json: "));
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 11422654\n";
        let message = Tokenizer::from_json(pointer, "t.json").unwrap_err().to_string();
        assert!(message.starts_with("text: t.json: is a Git LFS pointer\n  hint: "), "{message}");
    }

    #[test]
    fn added_tokens_are_ordinary_and_follow_the_vocabulary() {
        let mut tokenizer = shop_tokenizer();
        let tokens = ["<x>".to_owned(), "<y>".to_owned()];
        assert_eq!(tokenizer.add_tokens(&tokens).unwrap(), 340..342);
        assert_eq!(tokenizer.vocab_size(), 342);
        let ids = tokenizer.encode("<|im_start|>a<y><x>").unwrap();
        assert_eq!(ids, [1, tokenizer.token_id("a").unwrap(), 341, 340]);
        assert_eq!(tokenizer.decode(&ids, true).unwrap(), "a<y><x>");
        let again = tokenizer.add_tokens(&tokens[1..]).unwrap_err().to_string();
        assert_eq!(again, "text: token <y>: is in the vocabulary already, with id 341");
    }

    #[test]
    fn offsets_are_bytes_of_the_text() {
        let tokenizer = shop_tokenizer();
        let text = "café<|im_end|>\n日";
        let (ids, offsets) = tokenizer.encode_with_offsets(text).unwrap();
        assert_eq!(ids, tokenizer.encode_rendered(text).unwrap());
        let end = ids.iter().position(|&id| id == 2).unwrap();
        assert_eq!(&text[offsets[end].clone()], IM_END);
        assert_eq!(offsets.last(), Some(&(16..19)));
    }
}
