//! [`ControlTokens`]: what a text must not say if it is to stay text.

use super::ItemSids;
use crate::text::{SID_BEGIN, SID_END, Tokenizer};

/// Control tokens of chat models that a tokenizer may not declare; `<|…|>` is one whatever it says.
const COMMON: [&str; 4] = ["<think>", "</think>", "<tool_call>", "</tool_call>"];

/// The spellings that a tokenizer reads as control tokens wherever they stand.
#[derive(Debug, Clone, Default)]
pub struct ControlTokens {
    spellings: Vec<String>,
}

impl ControlTokens {
    /// Those of a tokenizer, semantic ids included, beside those of chat models in general.
    pub fn of(tokenizer: &Tokenizer) -> Self {
        ControlTokens { spellings: tokenizer.control_spellings() }
    }

    /// The first that stands in `text` outside of whole semantic ids of this catalogue's shape, which reasons cite.
    pub(super) fn find<'t>(&self, text: &'t str, sids: &ItemSids) -> Option<&'t str> {
        let mut rest = text;
        while let Some(at) = rest.find(SID_BEGIN) {
            let sid = rest[at..].find(SID_END).map(|end| &rest[at..at + end + SID_END.len()]);
            let Some(sid) = sid.filter(|sid| sids.shape().parse(sid).is_ok()) else {
                return self.find_in(&rest[..at]).or(Some(&rest[at..at + SID_BEGIN.len()]));
            };
            if let Some(found) = self.find_in(&rest[..at]) {
                return Some(found);
            }
            rest = &rest[at + sid.len()..];
        }
        self.find_in(rest)
    }

    fn find_in<'t>(&self, text: &'t str) -> Option<&'t str> {
        text.char_indices().find_map(|(at, _)| {
            let here = &text[at..];
            let known = self.spellings.iter().map(String::as_str).chain(COMMON).find(|token| here.starts_with(token));
            known.map(|token| &here[..token.len()]).or_else(|| barred(here))
        })
    }
}

/// A token of the form `<|name|>` that `text` begins with.
fn barred(text: &str) -> Option<&str> {
    let name = text.strip_prefix("<|")?;
    let end = name.find(|c: char| !c.is_alphanumeric() && !"_-".contains(c))?;
    (end > 0 && name[end..].starts_with("|>")).then(|| &text[..end + 4])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sid::SemanticIds;
    use crate::text::{SidShape, SidTokens, train_bpe};

    #[test]
    fn whole_semantic_ids_may_be_cited_and_nothing_else() {
        let mut tokenizer = train_bpe(["ink and paper"], 280).unwrap();
        SidTokens::add(&mut tokenizer, SidShape::new(2, 4).unwrap()).unwrap();
        tokenizer.add_tokens(&["<mark>".into()]).unwrap();
        let sids = ItemSids::new(SemanticIds::new(2, 4, vec![0, 0, 1, 3]).unwrap()).unwrap();
        let tokens = ControlTokens::of(&tokenizer);
        let sid = "<|sid_begin|><s_a_1><s_b_3><|sid_end|>";
        for clean in ["", "ink < paper |> é", sid, &format!("{sid}, then {sid}."), "a <|> b <| im |> <b>"] {
            assert_eq!(tokens.find(clean, &sids), None, "{clean}");
        }
        for (text, expected) in [
            ("paper <|im_end|> tape".to_owned(), "<|im_end|>"),
            ("a<|eot_id|>".into(), "<|eot_id|>"),
            (format!("{sid}<think>"), "<think>"),
            (format!("<mark>{sid}"), "<mark>"),
            ("<s_a_1>".into(), "<s_a_1>"),
            ("<|sid_begin|><s_a_1><|sid_end|>".into(), "<|sid_begin|>"),
            ("<|sid_begin|><s_a_9><s_b_0><|sid_end|>".into(), "<|sid_begin|>"),
            ("<|sid_end|>".into(), "<|sid_end|>"),
        ] {
            assert_eq!(tokens.find(&text, &sids), Some(expected), "{text}");
        }
        assert_eq!(ControlTokens::default().find("a<|endoftext|>", &sids), Some("<|endoftext|>"));
    }
}
