//! [`AnswerGrammar`]: an answer names only items of its slate, and recommends none twice.

use super::answer::{RECOMMENDATIONS, end_of_list};
use super::{ItemSids, Slate};
use crate::generate::Grammar;
use crate::text::{SID_BEGIN, SidTokens, Tokenizer};

/// Limits what an answer's semantic ids may be while they are written: in the explanation those of the candidates and
/// of the purchases shown, in the recommendations those of the candidates that are not yet among them. Everything
/// else, the form of the JSON included, is the model's own, until the recommendations it may choose are written: the
/// others then follow in their incoming order.
#[derive(Debug, Clone)]
pub struct AnswerGrammar<'a> {
    pub(super) tokenizer: &'a Tokenizer,
    pub(super) tokens: &'a SidTokens,
    pub(super) sids: &'a ItemSids,
    /// The slate of every prompt.
    pub(super) slates: Vec<&'a Slate>,
    /// Purchases shown.
    pub(super) history_items: usize,
    /// Recommendations left to the model.
    pub(super) choices: usize,
}

impl AnswerGrammar<'_> {
    /// Items whose semantic id may stand after `written`; empty once every candidate is recommended.
    fn items(&self, slate: &Slate, written: &[u32]) -> Vec<u32> {
        let Some(mut left) = self.left(slate, written) else {
            let question = slate.question(self.history_items);
            return [question.candidates, question.history].concat();
        };
        if slate.candidates.len() - left.len() >= self.choices {
            left.truncate(1);
        }
        left
    }

    /// Candidates that the recommendations of `written` leave out, in their incoming order; `None` before those begin.
    fn left(&self, slate: &Slate, written: &[u32]) -> Option<Vec<u32>> {
        // inside the explanation the quotes of such a word are escaped
        let text = self.tokenizer.decode(written, false).unwrap_or_default();
        let at = text.find(&format!("\"{RECOMMENDATIONS}\""))?;
        let listed = text[at..].matches(SID_BEGIN).count();
        let begins = written.iter().enumerate().rev().filter(|(_, id)| **id == self.tokens.begin).take(listed);
        let mut left = slate.candidates.clone();
        for (at, _) in begins {
            let is_this = |&item: &u32| self.ids(item).is_some_and(|ids| written[at..].starts_with(&ids));
            if let Some(place) = left.iter().position(is_this) {
                left.remove(place);
            }
        }
        Some(left)
    }

    /// The tokens of an item's id, from its opening to its end.
    fn ids(&self, item: u32) -> Option<Vec<u32>> {
        self.sids.codes(item).and_then(|codes| self.tokens.ids(codes)).ok()
    }
}

impl Grammar for AnswerGrammar<'_> {
    fn allowed(&self, prompt: usize, tokens: &[u32]) -> Option<Vec<u32>> {
        let begin = tokens.iter().rposition(|&id| id == self.tokens.begin)?;
        let (written, open) = tokens.split_at(begin);
        if open.contains(&self.tokens.end) {
            return None;
        }
        let items = self.items(self.slates[prompt], written);
        let next = |item: u32| self.ids(item).filter(|ids| ids.starts_with(open))?.get(open.len()).copied();
        let mut allowed: Vec<u32> = items.into_iter().filter_map(next).collect();
        allowed.sort_unstable();
        allowed.dedup();
        (!allowed.is_empty()).then_some(allowed)
    }

    fn rest(&self, prompt: usize, tokens: &[u32]) -> Option<Vec<u32>> {
        if *tokens.last()? != self.tokens.end {
            return None;
        }
        let slate = self.slates[prompt];
        let left = self.left(slate, tokens)?;
        if slate.candidates.len() - left.len() < self.choices {
            return None;
        }
        let mut rest = self.tokenizer.encode_rendered(&end_of_list(&left, self.sids).ok()?).ok()?;
        rest.push(*self.tokenizer.eos_ids().first()?);
        Some(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rerank::{Answer, render};
    use crate::sid::SemanticIds;
    use crate::text::{SidShape, train_bpe};

    #[test]
    fn every_answer_under_the_grammar_is_a_ranking() {
        // items 1 and 4 share an id; item 3 was bought, item 5 is neither bought nor a candidate
        let codes = vec![0, 0, 0, 1, 1, 2, 3, 3, 0, 1, 2, 2];
        let sids = ItemSids::new(SemanticIds::new(2, 4, codes).unwrap()).unwrap();
        let mut tokenizer = train_bpe(["explanation recommendations"; 4], 300).unwrap();
        let tokens = SidTokens::add(&mut tokenizer, SidShape::new(2, 4).unwrap()).unwrap();
        let slate = Slate { user: 0, history: vec![5, 3], candidates: vec![4, 0, 1, 2], target: None };
        let grammar = AnswerGrammar {
            tokenizer: &tokenizer,
            tokens: &tokens,
            sids: &sids,
            slates: vec![&slate],
            history_items: 1,
            choices: 4,
        };
        let code = |level: usize, code: u16| tokens.ids(&[code, code]).unwrap()[level + 1];
        let explanation = format!("\"recommendations\": {}", sids.text(3).unwrap());
        let text = render(&Answer { explanation, ranking: vec![1, 0, 3, 2] }, &slate.candidates, &sids).unwrap().text;
        let ids = tokenizer.encode_rendered(&text).unwrap();
        let expected = [
            // the explanation: any candidate and the purchase shown, then what is under the prefix
            vec![code(0, 0), code(0, 1), code(0, 3)],
            vec![code(1, 3)],
            vec![tokens.end],
            // the list: 4 0 1 2, as 0 4 2 1
            vec![code(0, 0), code(0, 1)],
            vec![code(1, 0), code(1, 1)],
            vec![tokens.end],
            vec![code(0, 0), code(0, 1)],
            vec![code(1, 1)],
            vec![tokens.end],
            vec![code(0, 0), code(0, 1)],
            vec![code(1, 2)],
            vec![tokens.end],
            vec![code(0, 0)],
            vec![code(1, 1)],
            vec![tokens.end],
        ];
        let mut limited = vec![];
        for at in 0..ids.len() {
            if let Some(allowed) = grammar.allowed(0, &ids[..at]) {
                assert!(allowed.contains(&ids[at]), "{allowed:?} at {at} of {text}");
                limited.push(allowed);
            }
        }
        assert_eq!(limited, expected);
        let eleventh = [&ids[..], &[tokens.begin]].concat();
        assert_eq!(grammar.allowed(0, &eleventh), None, "nothing is left to name");

        // with one choice the others follow in their order: 0, then 4 1 2
        let grammar = AnswerGrammar { choices: 1, ..grammar };
        let ends: Vec<usize> = (0..ids.len()).filter(|&at| ids[at] == tokens.end).collect();
        assert_eq!(grammar.rest(0, &ids[..=ends[0]]), None, "the explanation");
        assert_eq!(grammar.rest(0, &ids[..=ends[1] - 1]), None, "an open id");
        let whole = [&ids[..=ends[1]], &grammar.rest(0, &ids[..=ends[1]]).unwrap()].concat();
        let reader = crate::rerank::AnswerReader::new(&tokenizer, &sids).unwrap();
        assert_eq!(reader.parse(&whole, &slate.candidates).unwrap().ranking, [1, 0, 2, 3]);
        assert_eq!(grammar.allowed(0, &[&ids[..=ends[1]], &[tokens.begin]].concat()), Some(vec![code(0, 0)]));
    }
}
