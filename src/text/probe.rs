//! A tokenizer that was just read is used once, where a panic or too much memory is only an error of its file.

use tokenizers::{NormalizedString, Normalizer};

use super::Tokenizer;
use super::tokenizer::damaged;
use crate::error::Result;

/// A text of a few scripts, with all of ASCII: what makes too much of it, or panics, is found when the file is loaded.
const PROBE: &str = "The quick brown fox jumps over 13 lazy dogs & 2,467 more; 'it's' \"so\": [a]{b}(c)<d>|e\\/f?!\n\n\tJQKWVXZ \
                     ABCDEFGHILMNOPRSTUY 0589 $#%^*_-+=~`@. caf\u{e9} e\u{301} \u{fb01}x \u{2581}\u{3000}日本語 \u{1f58a}\u{fe0f} \
                     привет مرحبا";

/// Bytes or tokens that a byte of text may become.
const GROWTH: usize = 64;

impl Tokenizer {
    /// Uses every part of it once.
    pub(super) fn probe(&self) -> Result<()> {
        let too_much = |what: &str, found: usize| {
            let problem = format!("makes {found} {what} of a text of {} bytes", PROBE.len());
            if found > GROWTH * PROBE.len() { Err(damaged(&self.origin, &problem)) } else { Ok(()) }
        };
        if let Some(normalizer) = self.inner.get_normalizer() {
            let mut normalized = NormalizedString::from(PROBE);
            let _ = normalizer.normalize(&mut normalized);
            too_much("bytes", normalized.get().len())?;
        }
        // a vocabulary of few words may refuse the text
        let Ok(encoding) = self.inner.encode(PROBE, true) else { return Ok(()) };
        too_much("tokens", encoding.len())?;
        if let Some(id) = encoding.get_ids().iter().find(|id| !self.has_token(**id)) {
            return Err(damaged(&self.origin, &format!("adds id {id}, which has no token, to a text")));
        }
        let decoded = self.inner.decode(encoding.get_ids(), true).unwrap_or_default();
        too_much("bytes", decoded.len())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tokenizer::tests::gapped;
    use super::*;
    use serde_json::{Value, json};

    /// [`gapped`] with one of its parts another.
    fn with(part: &str, value: Value) -> String {
        let mut file: Value = serde_json::from_str(&gapped("")).unwrap();
        file[part] = value;
        file.to_string()
    }

    #[test]
    fn files_that_make_the_library_panic_are_errors() {
        let doubling = vec![json!({"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}); 60];
        let growing = json!({"type": "Replace", "pattern": {"Regex": "."}, "content": "x".repeat(100)});
        let template = json!({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}],
                              "pair": [], "special_tokens": {}});
        let vocab = json!({"type": "WordLevel", "vocab": {"a": 0, "z": 4_000_000_000u32}, "unk_token": "a"});
        let merges = json!({"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": [["a", "q"]]});
        let unigram = json!({"type": "Unigram", "vocab": [["a", 0.0]], "unk_id": 7});
        let split = |pattern: &str| json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
        for (part, value) in [
            ("normalizer", json!({"type": "Precompiled", "precompiled_charsmap": "AAAA"})),
            ("normalizer", json!({"type": "Precompiled", "precompiled_charsmap": ""})),
            ("normalizer", json!({"type": "Precompiled", "precompiled_charsmap": "BAAAAP////8="})),
            ("normalizer", json!({"type": "Sequence", "normalizers": doubling})),
            ("normalizer", growing),
            ("post_processor", template),
            ("post_processor", json!({"type": "BertProcessing", "sep": ["a", 99], "cls": ["b", 1]})),
            ("model", vocab),
            ("model", merges),
            ("model", unigram),
            (
                "model",
                json!({"type": "WordPiece", "vocab": {}, "unk_token": "?", "continuing_subword_prefix": "#",
                             "max_input_chars_per_word": u64::MAX}),
            ),
            ("pre_tokenizer", split("(")),
            ("pre_tokenizer", split("(a+)+\\1$")),
            ("pre_tokenizer", json!({"type": "FixedLength", "length": 0})),
            ("decoder", json!({"type": "Strip", "content": "a", "start": u64::MAX, "stop": u64::MAX})),
        ] {
            let text = with(part, value);
            // some are harmless to this library; none may take the program along
            if let Err(error) =
                Tokenizer::from_json(text.as_bytes(), "t.json").and_then(|t| t.decode(&t.encode("a b")?, true))
            {
                let message = error.to_string();
                assert!(message.starts_with("text: t.json: ") && message.contains("hint: "), "{message}");
                assert!(!message.contains("panicked"), "{message}");
            } else {
                assert!(
                    ["WordPiece", "Strip", "FixedLength", "+)+", "\"\""].iter().any(|t| text.contains(t)),
                    "{text}"
                );
            }
        }
    }
}
