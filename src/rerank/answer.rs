//! [`Answer`]: the one JSON object that is trained on, asked for, and parsed.
//!
//! `{"explanation":"…","recommendations":["<|sid_begin|>…<|sid_end|>",…]}`, without white space between the parts: each
//! comma with its quotes is then a single token.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::ItemSids;
use super::lenient::Objects;
use crate::error::{Error, Result};
use crate::text::{SidTokens, Tokenizer};

const EXPLANATION: &str = "explanation";
pub(super) const RECOMMENDATIONS: &str = "recommendations";

/// A reasoned ranking.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// The reasoning, in three steps.
    pub explanation: String,
    /// Positions of the candidates in the incoming order, from 0, best first; each position once.
    pub ranking: Vec<usize>,
}

impl Answer {
    /// New place, from 1, of the candidate that came in at `position`, from 0.
    pub fn rank_of(&self, position: usize) -> Option<usize> {
        self.ranking.iter().position(|&at| at == position).map(|at| at + 1)
    }

    /// Whether the incoming order is kept as it was.
    pub fn copies_order(&self) -> bool {
        self.ranking.iter().enumerate().all(|(place, &position)| place == position)
    }
}

/// Text of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The JSON object.
    pub text: String,
    /// Bytes of `text` that are the reasoning, its quotes not included.
    pub explanation: Range<usize>,
}

/// Why a text is no answer to its slate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Invalid {
    /// It ends too early: inside the object, or without the token that ends an answer.
    Truncated,
    /// It is no JSON object, or more than one.
    NotJson,
    /// `explanation` is no string or `recommendations` no list, or one of them is missing.
    MissingField,
    /// There is a field beside the two, or one of them twice.
    ExtraField,
    /// A recommendation is no semantic id.
    NotASid,
    /// A semantic id that no item of the catalogue has.
    UnknownItem,
    /// An item of the catalogue that is not in the slate.
    NotACandidate,
    /// A candidate that is there twice.
    Repeated,
    /// A candidate is missing.
    Incomplete,
    /// The teacher refuses to answer, or a filter took the answer away.
    Refused,
    /// The reasoning holds a control token, which would end or begin a turn where it is learnt.
    ControlToken,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Invalid::Truncated => "cut off before its end",
            Invalid::NotJson => "no JSON object",
            Invalid::MissingField => "explanation or recommendations missing",
            Invalid::ExtraField => "a field too many",
            Invalid::NotASid => "recommends something that is no semantic id",
            Invalid::UnknownItem => "recommends an item that does not exist",
            Invalid::NotACandidate => "recommends an item outside the slate",
            Invalid::Repeated => "recommends an item twice",
            Invalid::Incomplete => "leaves a candidate out",
            Invalid::Refused => "refuses to answer",
            Invalid::ControlToken => "has a control token in its reasoning",
        })
    }
}

/// How often each reason occurred.
pub type InvalidCounts = BTreeMap<Invalid, u64>;

/// What an answer may be wrapped in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Nothing but white space around it: what the student is held to.
    Strict,
    /// Also in the dress that chat models give it: thinking and words before it, a fence and words around it, control
    /// characters in its strings, last commas, further fields. The first object with both fields that is an answer counts.
    Lenient,
}

/// The text that the student learns to write.
///
/// Errors: `Shape` if the ranking is not each candidate once, or a candidate has no semantic id.
pub fn render(answer: &Answer, candidates: &[u32], sids: &ItemSids) -> Result<Rendered> {
    let mut places = answer.ranking.clone();
    places.sort_unstable();
    if !places.iter().copied().eq(0..candidates.len()) {
        let problem = format!("ranking {:?} of {} candidates", answer.ranking, candidates.len());
        return Err(Error::Shape { op: "render answer", problem });
    }
    let mut text = format!("{{\"{EXPLANATION}\":\"");
    let start = text.len();
    let quoted = Value::from(answer.explanation.as_str()).to_string();
    text += &quoted[1..quoted.len() - 1];
    let explanation = start..text.len();
    let ranked: Vec<u32> = answer.ranking.iter().map(|&position| candidates[position]).collect();
    text += &format!("\",\"{RECOMMENDATIONS}\":{}}}", array(&ranked, sids)?);
    Ok(Rendered { text, explanation })
}

/// What follows the id of a recommendation in the text of [`render`] when `items` are those after it.
///
/// Errors: `Shape` for an item that has no semantic id.
pub(super) fn end_of_list(items: &[u32], sids: &ItemSids) -> Result<String> {
    let rest = array(items, sids)?;
    let comma = if items.is_empty() { "" } else { "," };
    Ok(format!("\"{comma}{}}}", &rest[1..]))
}

/// The semantic ids of `items` as the JSON array that an answer recommends with.
///
/// Errors: `Shape` for an item that has no semantic id.
pub(super) fn array(items: &[u32], sids: &ItemSids) -> Result<String> {
    let quoted: Vec<String> =
        items.iter().map(|&item| Ok(format!("\"{}\"", sids.text(item)?))).collect::<Result<_>>()?;
    Ok(format!("[{}]", quoted.join(",")))
}

/// The answer that `text` is: both fields and nothing else, every candidate exactly once.
///
/// Errors: the first reason why it is none.
pub fn parse(text: &str, candidates: &[u32], sids: &ItemSids, form: Form) -> std::result::Result<Answer, Invalid> {
    match form {
        Form::Strict => {
            let text = text.trim();
            let fields: Fields = serde_json::from_str(text).map_err(|e| match e.is_eof() && !text.is_empty() {
                true => Invalid::Truncated,
                false => Invalid::NotJson,
            })?;
            of_fields(fields, candidates, sids, form)
        }
        Form::Lenient => {
            let mut objects = Objects::of(text);
            let (mut first, mut other) = (None, None);
            for object in objects.by_ref() {
                let Ok(fields) = serde_json::from_str::<Fields>(&object) else { continue };
                let has = |field: &str| fields.0.iter().any(|(name, _)| name == field);
                match (has(EXPLANATION), has(RECOMMENDATIONS)) {
                    (true, true) => match of_fields(fields, candidates, sids, form) {
                        Ok(answer) => return Ok(answer),
                        Err(reason) => drop(first.get_or_insert(reason)),
                    },
                    _ => other = Some(Invalid::MissingField),
                }
            }
            let cut = objects.unclosed.then_some(Invalid::Truncated);
            Err(first.or(cut).or(other).unwrap_or(Invalid::NotJson))
        }
    }
}

fn of_fields(fields: Fields, candidates: &[u32], sids: &ItemSids, form: Form) -> std::result::Result<Answer, Invalid> {
    let (mut explanation, mut items) = (None, None);
    for (name, value) in fields.0 {
        match (name.as_str(), value) {
            (EXPLANATION, Value::String(text)) if explanation.is_none() => explanation = Some(text),
            (RECOMMENDATIONS, Value::Array(list)) if items.is_none() => items = Some(list),
            (EXPLANATION, _) if explanation.is_none() => return Err(Invalid::MissingField),
            (RECOMMENDATIONS, _) if items.is_none() => return Err(Invalid::MissingField),
            (name, _) if form == Form::Lenient && ![EXPLANATION, RECOMMENDATIONS].contains(&name) => {}
            _ => return Err(Invalid::ExtraField),
        }
    }
    let (Some(explanation), Some(items)) = (explanation, items) else { return Err(Invalid::MissingField) };
    let mut ranking: Vec<usize> = Vec::with_capacity(candidates.len());
    for item in &items {
        let codes = item.as_str().and_then(|text| sids.shape().parse(text).ok()).ok_or(Invalid::NotASid)?;
        let is = |position: &usize| sids.codes(candidates[*position]).is_ok_and(|own| own == codes);
        let mut same = (0..candidates.len()).filter(is).peekable();
        if same.peek().is_none() {
            let exists = sids.item(&codes).is_some();
            return Err(if exists { Invalid::NotACandidate } else { Invalid::UnknownItem });
        }
        // Candidates that share an id are taken in their incoming order.
        ranking.push(same.find(|position| !ranking.contains(position)).ok_or(Invalid::Repeated)?);
    }
    match ranking.len() == candidates.len() {
        true => Ok(Answer { explanation, ranking }),
        false => Err(Invalid::Incomplete),
    }
}

/// The fields of an object in their order, those that occur twice included.
struct Fields(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> std::result::Result<Fields, M::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// Reads generated token ids as answers.
#[derive(Debug, Clone)]
pub struct AnswerReader<'a> {
    pub(super) tokenizer: &'a Tokenizer,
    pub(super) tokens: SidTokens,
    pub(super) sids: &'a ItemSids,
}

impl<'a> AnswerReader<'a> {
    /// Errors: `Text` if the tokenizer has no semantic ids, or those of another shape.
    pub fn new(tokenizer: &'a Tokenizer, sids: &'a ItemSids) -> Result<Self> {
        let wrong = |problem: String| Error::Text {
            what: "semantic ids".into(),
            problem,
            hint: Some("the model belongs to another catalogue; run `gr2 midtrain` with this one".into()),
        };
        let tokens = SidTokens::find(tokenizer)?.ok_or_else(|| wrong("the tokenizer has none".into()))?;
        if tokens.shape() != sids.shape() {
            return Err(wrong(format!("the tokenizer has {:?}, the catalogue {:?}", tokens.shape(), sids.shape())));
        }
        Ok(AnswerReader { tokenizer, tokens, sids })
    }

    /// The answer that generated ids are. They end with a token that ends an answer, else they are truncated.
    ///
    /// A semantic id counts only if it is made of its tokens: spelt by other tokens it reads the same but is none.
    pub fn parse(&self, ids: &[u32], candidates: &[u32]) -> std::result::Result<Answer, Invalid> {
        let end = ids.iter().position(|id| self.tokenizer.eos_ids().contains(id)).ok_or(Invalid::Truncated)?;
        let body = &ids[..end];
        if body.iter().any(|&id| self.tokenizer.is_special(id) && !self.is_sid(id)) {
            return Err(Invalid::NotJson);
        }
        let decode = |ids: &[u32]| self.tokenizer.decode(ids, false).map_err(|_| Invalid::NotJson);
        for ordinary in body.split(|&id| self.is_sid(id)) {
            let text = decode(ordinary)?;
            if text.contains("<s_") || text.contains("<|sid_") {
                return Err(Invalid::NotASid);
            }
        }
        parse(&decode(body)?, candidates, self.sids, Form::Strict)
    }

    fn is_sid(&self, id: u32) -> bool {
        id == self.tokens.begin || id == self.tokens.end || self.tokens.level_and_code(id).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sid::SemanticIds;
    use crate::text::{IM_END, SidShape, train_bpe};

    fn sids() -> ItemSids {
        ItemSids::new(SemanticIds::new(2, 4, vec![0, 0, 0, 1, 1, 2, 3, 3, 1, 1]).unwrap()).unwrap()
    }

    fn sid(a: u16, b: u16) -> String {
        format!("<|sid_begin|><s_a_{a}><s_b_{b}><|sid_end|>")
    }

    const CANDIDATES: [u32; 3] = [4, 0, 2];

    fn answer() -> Answer {
        Answer {
            explanation: "8\" paper, \\ then <|sid_begin|><s_a_0><s_b_0><|sid_end|>".into(),
            ranking: vec![1, 2, 0],
        }
    }

    #[test]
    fn render_and_parse_are_inverse() {
        let rendered = render(&answer(), &CANDIDATES, &sids()).unwrap();
        let expected = format!(
            r#"{{"explanation":"8\" paper, \\ then {}","recommendations":["{}","{}","{}"]}}"#,
            sid(0, 0),
            sid(0, 0),
            sid(1, 2),
            sid(1, 1)
        );
        assert_eq!(rendered.text, expected);
        assert!(rendered.text[rendered.explanation.clone()].starts_with("8\\\" paper"));
        assert!(rendered.text[rendered.explanation.end..].starts_with("\",\"rec"));
        assert_eq!(parse(&rendered.text, &CANDIDATES, &sids(), Form::Strict), Ok(answer()));
        assert_eq!(answer().rank_of(2), Some(2));
        assert!(!answer().copies_order() && Answer { ranking: vec![0, 1], ..answer() }.copies_order());
        for ranking in [vec![0, 1], vec![0, 1, 1], vec![0, 1, 3]] {
            let refused = render(&Answer { ranking, ..answer() }, &CANDIDATES, &sids()).unwrap_err().to_string();
            assert!(refused.starts_with("render answer: ranking [0, 1"), "{refused}");
        }
    }

    #[test]
    fn every_reason_is_told() {
        let list = |items: &[String]| {
            let items: Vec<String> = items.iter().map(|item| format!("\"{item}\"")).collect();
            format!("{{\"explanation\": \"x\", \"recommendations\": [{}]}}", items.join(", "))
        };
        let good = list(&[sid(0, 0), sid(1, 2), sid(1, 1)]);
        let reason = |text: &str| parse(text, &CANDIDATES, &sids(), Form::Strict).unwrap_err();
        assert!(parse(&format!(" \n{good}\n"), &CANDIDATES, &sids(), Form::Strict).is_ok());
        for (text, expected) in [
            (good[..good.len() - 9].to_owned(), Invalid::Truncated),
            ("{\"explanation\": \"x".into(), Invalid::Truncated),
            (String::new(), Invalid::NotJson),
            ("I would take the paper.".into(), Invalid::NotJson),
            (format!("{good} {good}"), Invalid::NotJson),
            (format!("```json\n{good}\n```"), Invalid::NotJson),
            ("[1]".into(), Invalid::NotJson),
            ("{\"explanation\": \"x\"}".into(), Invalid::MissingField),
            ("{\"explanation\": 1, \"recommendations\": []}".into(), Invalid::MissingField),
            ("{\"explanation\": \"x\", \"recommendations\": \"none\"}".into(), Invalid::MissingField),
            (good.replace("{\"", "{\"explanation\": \"y\", \""), Invalid::ExtraField),
            (good.replace("]}", "], \"why\": 1}"), Invalid::ExtraField),
            (list(&[sid(0, 0), "paper".into()]), Invalid::NotASid),
            (list(&[sid(0, 4)]), Invalid::NotASid),
            (good.replace(&format!("\"{}\"", sid(1, 1)), "3"), Invalid::NotASid),
            (list(&[sid(2, 2)]), Invalid::UnknownItem),
            (list(&[sid(0, 0), sid(3, 3)]), Invalid::NotACandidate),
            (list(&[sid(0, 0), sid(0, 0), sid(1, 1)]), Invalid::Repeated),
            (list(&[sid(0, 0), sid(1, 2), sid(1, 1), sid(1, 1)]), Invalid::Repeated),
            (list(&[sid(0, 0), sid(1, 1)]), Invalid::Incomplete),
            (list(&[]), Invalid::Incomplete),
        ] {
            assert_eq!(reason(&text), expected, "{text}");
        }
    }

    #[test]
    fn chat_models_may_think_and_fence() {
        let text = render(&answer(), &CANDIDATES, &sids()).unwrap().text;
        for wrapped in [
            format!("<think>\n{{}}\n</think>\n\n{text}\n"),
            format!("```json\n{text}\n```"),
            format!("<think>x</think>```\n{text}```\n"),
            format!("Here it is: {text}"),
            format!("My answer:\n\n```JSON\n{text}\n```\n\nI hope this helps {{}}!"),
            format!("{{\"answer\": {text}}}"),
            text.replace("paper", "paper\n\t").replace("\"]}", "\",],\"sure\":0.9,}"),
            format!("{{\"explanation\": \"…\", \"recommendations\": [\"the best\"]}}\n{text}"),
        ] {
            let wrapped = wrapped.replace("…", "draft");
            let expected = Answer {
                explanation: answer()
                    .explanation
                    .replace("paper", if wrapped.contains("\n\t") { "paper\n\t" } else { "paper" }),
                ..answer()
            };
            assert_eq!(parse(&wrapped, &CANDIDATES, &sids(), Form::Lenient), Ok(expected), "{wrapped}");
            assert!(parse(&wrapped, &CANDIDATES, &sids(), Form::Strict).is_err(), "{wrapped}");
        }
        for (wrong, expected) in [
            (format!("<think>{text}"), Invalid::NotJson),
            ("I would take {the paper}.".into(), Invalid::NotJson),
            (format!("Here: {}", &text[..text.len() - 9]), Invalid::Truncated),
            ("{\"explanation\": \"x\"}".into(), Invalid::MissingField),
            (text.replace("{\"", "{\"explanation\": \"y\", \""), Invalid::ExtraField),
            (text.replace("<s_b_2>", "<s_b_3>"), Invalid::UnknownItem),
        ] {
            assert_eq!(parse(&wrong, &CANDIDATES, &sids(), Form::Lenient), Err(expected), "{wrong}");
        }
    }

    #[test]
    fn equal_ids_are_taken_in_their_incoming_order() {
        let sids = ItemSids::new(SemanticIds::new(1, 2, vec![0, 0, 1]).unwrap()).unwrap();
        let answer = Answer { explanation: String::new(), ranking: vec![2, 0, 1] };
        let text = render(&answer, &[1, 0, 2], &sids).unwrap().text;
        assert_eq!(parse(&text, &[1, 0, 2], &sids, Form::Strict), Ok(answer));
    }

    #[test]
    fn ids_are_read_as_tokens() {
        let mut tokenizer = train_bpe(["explanation recommendations explanation recommendations"], 300).unwrap();
        let sids = sids();
        assert!(AnswerReader::new(&tokenizer, &sids).unwrap_err().to_string().contains("the tokenizer has none"));
        SidTokens::add(&mut tokenizer, SidShape::new(2, 4).unwrap()).unwrap();
        let reader = AnswerReader::new(&tokenizer, &sids).unwrap();
        let text = render(&answer(), &CANDIDATES, &sids).unwrap().text;
        let mut ids = tokenizer.encode_rendered(&text).unwrap();
        assert_eq!(reader.parse(&ids, &CANDIDATES), Err(Invalid::Truncated));
        ids.push(tokenizer.im_end().unwrap());
        assert_eq!(reader.parse(&ids, &CANDIDATES), Ok(answer()));
        let trailing = [&ids[..], &ids[..3]].concat();
        assert_eq!(reader.parse(&trailing, &CANDIDATES), Ok(answer()), "what follows the end is not part of it");

        // The same text, one code spelt with letters.
        let code = tokenizer.token_id("<s_a_1>").unwrap();
        let at = ids.iter().position(|&id| id == code).unwrap();
        let letters = ["<", "s", "_", "a", "_", "1", ">"].map(|byte| tokenizer.token_id(byte).unwrap());
        let spelt = [&ids[..at], &letters, &ids[at + 1..]].concat();
        assert_eq!(tokenizer.decode(&spelt, false).unwrap(), format!("{text}{IM_END}"));
        assert_eq!(reader.parse(&spelt, &CANDIDATES), Err(Invalid::NotASid));
        let special = [&[tokenizer.im_start().unwrap()], &ids[..]].concat();
        assert_eq!(reader.parse(&special, &CANDIDATES), Err(Invalid::NotJson));
    }
}
