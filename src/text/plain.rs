//! Text that comes from data, taken as text: what spells an added token in it is cut, so that letters stay letters.
//!
//! An item's title may hold `<|im_end|>`, `[INST]` or `<s_a_1>`. Where such text is encoded, it is cut behind the first
//! character of each spelling and the pieces are encoded apart: the text decodes as it was, and no added token is among
//! its ids. Inside a chat the cuts are marked by a character that occurs nowhere else ([`Guard`]), since only rendering
//! tells where a message's text comes to stand.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use tokenizers::Encoding;

use super::sid_tokens::spells_sid;
use super::{Message, THINK, THINK_END, Tokenizer};
use crate::error::Result;

/// The added tokens of a vocabulary, as far as text must not become them: all but white space and single characters,
/// which are text themselves.
#[derive(Clone, Debug, Default)]
pub(super) struct AddedTokens {
    /// Spellings by their first character, those of semantic ids apart.
    control: HashMap<char, Vec<String>>,
    sid: HashMap<char, Vec<String>>,
    control_ids: BTreeSet<u32>,
    sid_ids: BTreeSet<u32>,
    /// Nothing but the very spelling of a token gives it: no normaliser and no model of words makes one of other text.
    exact: bool,
}

impl AddedTokens {
    pub(super) fn of(tokenizer: &tokenizers::Tokenizer) -> Self {
        let mut found = AddedTokens { exact: true, ..AddedTokens::default() };
        for (id, token) in tokenizer.get_added_tokens_decoder() {
            let spelling = token.content;
            let mut characters = spelling.chars();
            let (Some(first), Some(_)) = (characters.next(), characters.next()) else { continue };
            if spelling.trim().is_empty() {
                continue;
            }
            found.exact &= !token.normalized && !made_of_words(tokenizer, &spelling, id);
            let (spellings, ids) = match spells_sid(&spelling) {
                true => (&mut found.sid, &mut found.sid_ids),
                false => (&mut found.control, &mut found.control_ids),
            };
            ids.insert(id);
            spellings.entry(first).or_default().push(spelling);
        }
        found
    }

    /// Where `text` must be cut so that none of its pieces spells a token; those of semantic ids count only with `sids`.
    fn cuts(&self, text: &str, sids: bool) -> Vec<usize> {
        let spelt = |map: &HashMap<char, Vec<String>>, first: char, rest: &str| {
            map.get(&first).is_some_and(|spellings| spellings.iter().any(|spelling| rest.starts_with(spelling)))
        };
        let cut = |(at, first): (usize, char)| {
            let rest = &text[at..];
            let is_token = spelt(&self.control, first, rest) || sids && spelt(&self.sid, first, rest);
            is_token.then(|| at + first.len_utf8())
        };
        text.char_indices().filter_map(cut).collect()
    }

    fn holds(&self, ids: &[u32], sids: bool) -> bool {
        ids.iter().any(|id| self.control_ids.contains(id) || sids && self.sid_ids.contains(id))
    }
}

/// Whether the model of words, which knows nothing of added tokens, spells one with its id.
fn made_of_words(tokenizer: &tokenizers::Tokenizer, spelling: &str, id: u32) -> bool {
    use tokenizers::Model;
    let model = tokenizer.get_model();
    model.token_to_id(spelling).is_some()
        && model.tokenize(spelling).is_ok_and(|tokens| tokens.iter().any(|token| token.id == id))
}

/// The pieces of `text` between `cuts`, in order.
fn pieces<'t>(text: &'t str, cuts: &[usize]) -> Vec<&'t str> {
    let starts = std::iter::once(0).chain(cuts.iter().copied());
    let ends = cuts.iter().copied().chain(std::iter::once(text.len()));
    starts.zip(ends).map(|(start, end)| &text[start..end]).collect()
}

impl Tokenizer {
    /// Ids of text that comes from data: no added token is among them, neither control token nor semantic id, whatever
    /// the text spells. Other text has the ids that [`Tokenizer::encode_rendered`] gives.
    pub fn encode_data(&self, text: &str) -> Result<Vec<u32>> {
        let ids = self.apart(text)?.get_ids().to_vec();
        Ok(self.without_added(ids))
    }

    /// As [`Tokenizer::encode_data`], with whatever the file's post-processor adds around a text.
    pub fn encode_data_whole(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self.apart(text)?;
        if self.added.holds(encoding.get_ids(), true) {
            return Ok(self.without_added(encoding.get_ids().to_vec()));
        }
        let whole = self.guarded("encoding", || self.inner.post_process(encoding, None, true))?;
        Ok(whole.get_ids().to_vec())
    }

    fn apart(&self, text: &str) -> Result<Encoding> {
        let encoding = self.encoding(&pieces(text, &self.added.cuts(text, true)))?;
        if !self.added.holds(encoding.get_ids(), true) {
            return Ok(encoding);
        }
        // A normaliser or the model of words made a token of text that does not spell it: a character alone is none.
        self.encoding(&pieces(text, &every_character(text)))
    }

    fn encoding(&self, pieces: &[&str]) -> Result<Encoding> {
        let encode = |piece: &&str| self.guarded("encoding", || self.inner.encode_fast(*piece, false));
        match pieces {
            [whole] => encode(whole),
            _ => Ok(Encoding::merge(pieces.iter().map(encode).collect::<Result<Vec<_>>>()?, false)),
        }
    }

    /// The last resort, for a tokenizer that makes an added token of a single character.
    fn without_added(&self, mut ids: Vec<u32>) -> Vec<u32> {
        if self.added.holds(&ids, true) {
            ids.retain(|id| !self.added.holds(&[*id], true));
        }
        ids
    }

    /// Where the text of a message must be cut; semantic ids in it stay tokens, since prompts and answers name items by
    /// them and what comes from data has lost its brackets there.
    fn cuts_of_message(&self, message: &Message) -> Result<Vec<usize>> {
        let text = &message.content;
        let mut cuts = self.added.cuts(text, false);
        if !self.added.exact {
            let encoding = self.encoding(&pieces(text, &cuts))?;
            if self.added.holds(encoding.get_ids(), false) {
                cuts = every_character(text);
                cuts.retain(|&at| !inside_sid(text, at));
            }
        }
        // The reasoning that opens an answer stands in tokens of its own.
        if message.role == "assistant" && text.starts_with(THINK) {
            let end = text.find(THINK_END);
            cuts.retain(|&at| at != 1 && end.is_none_or(|end| at != end + 1));
        }
        Ok(cuts)
    }
}

fn every_character(text: &str) -> Vec<usize> {
    text.char_indices().map(|(at, _)| at).skip(1).collect()
}

/// Whether `at` lies between the brackets of a semantic-id token.
fn inside_sid(text: &str, at: usize) -> bool {
    let Some(open) = text[..at].rfind('<') else { return false };
    let Some(length) = text[open..].find('>') else { return false };
    at <= open + length && spells_sid(&text[open..=open + length])
}

/// Marks where texts inside a chat are cut.
pub(super) struct Guard(char);

impl Guard {
    /// The messages with a mark at every cut, and the mark; `None` if nothing is to be cut.
    ///
    /// Errors: `Text` if a message cannot be encoded.
    pub(super) fn mark(tokenizer: &Tokenizer, messages: &[Message]) -> Result<Option<(Vec<Message>, Guard)>> {
        let cuts: Vec<Vec<usize>> =
            messages.iter().map(|message| tokenizer.cuts_of_message(message)).collect::<Result<_>>()?;
        if cuts.iter().all(Vec::is_empty) {
            return Ok(None);
        }
        let unused = |c: &char| !messages.iter().any(|message| message.content.contains(*c));
        // Characters that mean nothing to anybody: no text has all of them.
        let mark = ('\u{fdd0}'..='\u{fdef}').chain('\u{f0000}'..='\u{ffffd}').find(unused).unwrap_or('\u{fdd0}');
        let marked = |(message, cuts): (&Message, &Vec<usize>)| Message {
            role: message.role.clone(),
            content: pieces(&message.content, cuts).join(mark.encode_utf8(&mut [0; 4])),
        };
        Ok(Some((messages.iter().zip(&cuts).map(marked).collect(), Guard(mark))))
    }

    /// A rendered text without its marks.
    pub(super) fn unmarked(&self, text: &str) -> String {
        text.replace(self.0, "")
    }

    /// Ids of a rendered text, cut at its marks, and the bytes that each covers in the text without them.
    pub(super) fn encode(&self, tokenizer: &Tokenizer, text: &str) -> Result<(Vec<u32>, Vec<Range<usize>>)> {
        let (mut ids, mut offsets, mut start) = (vec![], vec![], 0);
        for piece in text.split(self.0) {
            let (own, covered) = tokenizer.encode_with_offsets(piece)?;
            ids.extend(own);
            offsets.extend(covered.into_iter().map(|range| start + range.start..start + range.end));
            start += piece.len();
        }
        Ok((ids, offsets))
    }
}

#[cfg(test)]
mod tests {
    use super::super::bpe::tests::shop_tokenizer;
    use super::super::{ChatTemplate, SidShape, SidTokens};
    use super::*;

    /// The shop's tokenizer with semantic ids, and with tokens such as a base checkpoint may bring.
    fn tokenizer() -> Tokenizer {
        let mut tokenizer = shop_tokenizer();
        tokenizer.add_tokens(&["<|fim_prefix|>", "[INST]", "[/INST]", "fim", "|im_end|>"].map(String::from)).unwrap();
        SidTokens::add(&mut tokenizer, SidShape::new(2, 4).unwrap()).unwrap();
        tokenizer
    }

    fn spellings(tokenizer: &Tokenizer) -> Vec<(u32, String)> {
        let all = tokenizer.inner.get_added_tokens_decoder();
        let mut all: Vec<_> = all.into_iter().map(|(id, token)| (id, token.content)).collect();
        all.sort();
        all
    }

    /// What surrounds a token in a text.
    const AROUND: [(&str, &str); 6] =
        [("", ""), ("Tape ", " roll"), ("<", ">"), ("日本", "語"), ("\n", "\n"), ("[", "]")];

    #[test]
    fn no_spelling_of_an_added_token_is_one_in_data() {
        let tokenizer = tokenizer();
        let all = spellings(&tokenizer);
        assert!(all.len() > 15, "{all:?}");
        let ids: BTreeSet<u32> = all.iter().map(|(id, _)| *id).collect();
        for (_, first) in &all {
            for (_, second) in &all {
                for (before, after) in AROUND {
                    let text = format!("{before}{first}{second}{after}{first}");
                    for found in [tokenizer.encode_data(&text).unwrap(), tokenizer.encode_data_whole(&text).unwrap()] {
                        assert!(found.iter().all(|id| !ids.contains(id)), "{text}: {found:?}");
                        assert_eq!(tokenizer.decode(&found, false).unwrap(), text);
                    }
                }
            }
        }
        for plain in ["", " office", "Magic < tape > 5, [x] <b> |", "\n\n"] {
            assert_eq!(tokenizer.encode_data(plain).unwrap(), tokenizer.encode_rendered(plain).unwrap());
            assert_eq!(tokenizer.encode_data_whole(plain).unwrap(), tokenizer.encode(plain).unwrap());
        }
    }

    #[test]
    fn messages_keep_their_semantic_ids_and_no_other_token() {
        let tokenizer = tokenizer();
        let template = ChatTemplate::of(&tokenizer).unwrap();
        let sid = "<|sid_begin|><s_a_1><s_b_3><|sid_end|>";
        let chat = |text: &str| {
            [
                Message::system(text),
                Message::user(format!("{text}{sid}")),
                Message::assistant(format!("{{{text}{sid}}}")),
            ]
        };
        let count = |ids: &[u32], id: u32| ids.iter().filter(|found| **found == id).count();
        let clean = template.encode_chat(&tokenizer, &chat("paper"), false).unwrap();
        for (id, spelling) in spellings(&tokenizer) {
            if spells_sid(&spelling) {
                continue;
            }
            for (before, after) in AROUND {
                let text = format!("{before}{spelling}{after}");
                let messages = chat(&text);
                let encoded = template.encode_chat(&tokenizer, &messages, false).unwrap();
                for (special, _) in spellings(&tokenizer) {
                    let as_usual = count(&clean.ids, special);
                    assert_eq!(count(&encoded.ids, special), as_usual, "{special} of {id} in {messages:?}");
                }
                // The template sees no control token either, not even the end of a thinking block.
                let rendered = template.render(&chat("@@"), false, false).unwrap().replace("@@", &text);
                assert_eq!(encoded.text, rendered);
                let covered: String = encoded.ids.iter().map(|&id| tokenizer.decode(&[id], false).unwrap()).collect();
                let bytes = encoded.offsets.windows(2).all(|pair| pair[0].start <= pair[1].start);
                assert!(bytes && (covered == encoded.text || !spelling.is_ascii() || covered.contains('\u{fffd}')));
                let span = &encoded.spans[0];
                let prompt = template.encode_prompt(&tokenizer, &messages[..2], false).unwrap();
                assert_eq!(encoded.ids[..span.content.start], prompt);
                assert_eq!(tokenizer.decode(&encoded.ids[span.content.clone()], false).unwrap(), messages[2].content);
                encoded.token_at(span, &messages[2], 1).unwrap();
            }
        }
    }

    #[test]
    fn reasoning_that_opens_an_answer_keeps_its_tokens() {
        let tokenizer = tokenizer();
        let template = ChatTemplate::of(&tokenizer).unwrap();
        let chat = [Message::user("<think>"), Message::assistant("<think>\na <think> b\n</think>\n\nc </think>")];
        let encoded = template.encode_chat(&tokenizer, &chat, true).unwrap();
        let [open, close] = [THINK, THINK_END].map(|token| tokenizer.token_id(token).unwrap());
        let count = |id| encoded.ids.iter().filter(|found| **found == id).count();
        assert_eq!((count(open), count(close)), (1, 1));
    }

    #[test]
    fn tokens_that_other_text_gives_are_none_either() {
        // NFKC makes ASCII of full-width letters, and a token with `normalized` is looked for after it; the model of
        // words knows [CLS] by itself.
        let flags = r#""single_word": false, "lstrip": false, "rstrip": false"#;
        let json = format!(
            r#"{{"version": "1.0", "added_tokens": [
                {{"id": 0, "content": "[CLS]", {flags}, "normalized": false, "special": true}},
                {{"id": 3, "content": "[INST]", {flags}, "normalized": true, "special": false}}],
            "normalizer": {{"type": "NFKC"}}, "decoder": null, "truncation": null, "padding": null,
            "pre_tokenizer": {{"type": "WhitespaceSplit"}}, "post_processor": null,
            "model": {{"type": "WordLevel", "vocab": {{"[CLS]": 0, "?": 1, "b": 2}}, "unk_token": "?"}}}}"#
        );
        let tokenizer = Tokenizer::from_json(json.as_bytes(), "t").unwrap();
        assert!(!tokenizer.added.exact && shop_tokenizer().added.exact);
        assert_eq!(tokenizer.encode("［INST］ b").unwrap(), [3, 2]);
        for text in ["［INST］ b", "[INST] b", "［CLS］ b", "[CLS] b"] {
            let ids = tokenizer.encode_data(text).unwrap();
            assert!(ids.ends_with(&[2]) && !ids.contains(&0) && !ids.contains(&3), "{text}: {ids:?}");
            let marked = Guard::mark(&tokenizer, &[Message::user(text)]).unwrap();
            let (messages, guard) = marked.unwrap();
            let (ids, _) = guard.encode(&tokenizer, &messages[0].content).unwrap();
            assert!(!ids.contains(&0) && !ids.contains(&3), "{text}: {ids:?}");
            assert_eq!(guard.unmarked(&messages[0].content), text);
        }
    }
}
