//! How a semantic id is spelt: `<|sid_begin|><s_a_57><s_b_7><s_c_23><s_d_4><|sid_end|>`.
//!
//! The only place that knows it. Levels have letters, codes are decimal from 0. Each part is one ordinary token of the
//! vocabulary: were it special, decoding would drop it (and rewards with it).

use std::fmt::Write;

use super::{Tokenizer, clipped, refusal, refusal_with_hint};
use crate::error::{Error, Result};

/// Opens a semantic id.
pub const SID_BEGIN: &str = "<|sid_begin|>";
/// Closes a semantic id.
pub const SID_END: &str = "<|sid_end|>";

/// Levels that have letters.
pub const MAX_LEVELS: usize = 26;

/// Characters of a malformed id that a message shows.
const SHOWN: usize = 80;

const RERUN: &str = "the file was made with another tokenizer; rerun `gr2 sid`";

/// Letter of a level, from 0.
pub fn level_letter(level: usize) -> char {
    debug_assert!(level < MAX_LEVELS);
    (b'a' + level as u8) as char
}

/// Spelling of one code: `<s_a_57>`.
pub fn sid_token(level: usize, code: u16) -> String {
    format!("<s_{}_{code}>", level_letter(level))
}

/// Whether a token is one of those that semantic ids are spelt with, of whatever shape.
pub(super) fn spells_sid(token: &str) -> bool {
    token == SID_BEGIN || token == SID_END || read_token(token).is_some()
}

/// How many levels semantic ids have, and how many codes each level has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SidShape {
    levels: usize,
    codes: usize,
}

impl SidShape {
    /// Errors: `Text` unless there are 1 to 26 levels and 1 to 65536 codes.
    pub fn new(levels: usize, codes: usize) -> Result<Self> {
        if !(1..=MAX_LEVELS).contains(&levels) {
            return Err(refusal("semantic ids", format!("{levels} levels: 1 to {MAX_LEVELS} can be spelt")));
        }
        if !(1..=1 << 16).contains(&codes) {
            return Err(refusal("semantic ids", format!("{codes} codes per level: 1 to 65536 can be stored")));
        }
        Ok(SidShape { levels, codes })
    }

    /// Q, the number of levels.
    pub fn levels(&self) -> usize {
        self.levels
    }

    /// N, the number of codes per level.
    pub fn codes(&self) -> usize {
        self.codes
    }

    /// Refuses codes that are not a semantic id of this shape.
    pub fn check(&self, sid: &[u16]) -> Result<()> {
        let spelt = || format!("semantic id {}", spell(sid));
        if sid.len() != self.levels {
            return Err(refusal_with_hint(spelt(), self.wrong_levels(sid.len()), RERUN));
        }
        match sid.iter().position(|&code| code as usize >= self.codes) {
            Some(level) => Err(refusal_with_hint(spelt(), self.wrong_code(level), RERUN)),
            None => Ok(()),
        }
    }

    /// Text of a semantic id.
    pub fn text(&self, sid: &[u16]) -> Result<String> {
        self.check(sid)?;
        Ok(format!("{SID_BEGIN}{}{SID_END}", spell(sid)))
    }

    /// Codes of a semantic id from its text, which holds nothing else.
    pub fn parse(&self, text: &str) -> Result<Vec<u16>> {
        let wrong = |problem: String| malformed(text, problem);
        let Some(mut rest) = text.strip_prefix(SID_BEGIN) else {
            return Err(wrong(format!("does not begin with {SID_BEGIN}")));
        };
        let mut codes: Vec<u64> = Vec::with_capacity(self.levels);
        while rest != SID_END {
            let token = rest.find('>').map(|end| &rest[..=end]).unwrap_or(rest);
            let Some((letter, code)) = read_token(token) else {
                let found = if rest.is_empty() { "the end".into() } else { clipped(token, SHOWN) };
                return Err(wrong(format!("expected a code or {SID_END}, found {found}")));
            };
            if codes.len() < self.levels && letter != level_letter(codes.len()) {
                let expected = level_letter(codes.len());
                return Err(wrong(format!("level {letter} stands where level {expected} is expected")));
            }
            codes.push(code);
            rest = &rest[token.len()..];
        }
        if codes.len() != self.levels {
            return Err(refusal_with_hint(named(text), self.wrong_levels(codes.len()), RERUN));
        }
        let in_range = |(level, &code): (usize, &u64)| match u16::try_from(code) {
            Ok(fits) if (fits as usize) < self.codes => Ok(fits),
            _ => Err(refusal_with_hint(named(text), self.wrong_code(level), RERUN)),
        };
        codes.iter().enumerate().map(in_range).collect()
    }

    fn wrong_levels(&self, found: usize) -> String {
        format!("has {found} levels, the catalogue has {}", self.levels)
    }

    fn wrong_code(&self, level: usize) -> String {
        format!("level {} has {} codes", level_letter(level), self.codes)
    }
}

/// The token ids of semantic ids in one tokenizer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SidTokens {
    /// Id of `<|sid_begin|>`.
    pub begin: u32,
    /// Id of `<|sid_end|>`.
    pub end: u32,
    /// Id of code 0 of each level; code `c` has the id `first[level] + c`.
    pub first: Vec<u32>,
    /// N, the number of codes of every level.
    pub codes_per_level: usize,
}

impl SidTokens {
    /// Appends the tokens of semantic ids of this shape to a tokenizer, or finds them there.
    ///
    /// Ids follow the vocabulary: begin, end, then codes level by level.
    /// Errors: `Text` if the tokenizer has semantic ids of another shape.
    pub fn add(tokenizer: &mut Tokenizer, shape: SidShape) -> Result<Self> {
        if let Some(found) = Self::find(tokenizer)? {
            let there = found.shape();
            if there != shape {
                return Err(refusal_with_hint(
                    "semantic ids",
                    format!(
                        "the tokenizer has {} levels of {} codes, the catalogue {} of {}",
                        there.levels, there.codes, shape.levels, shape.codes
                    ),
                    "they belong to another catalogue: start from a base model without semantic ids, \
                     or run `gr2 sid` with the sizes of the tokenizer",
                ));
            }
            return Ok(found);
        }
        let mut tokens = vec![SID_BEGIN.to_owned(), SID_END.to_owned()];
        for level in 0..shape.levels {
            tokens.extend((0..shape.codes).map(|code| sid_token(level, code as u16)));
        }
        let begin = tokenizer.add_tokens(&tokens)?.start;
        let first = (0..shape.levels).map(|level| begin + 2 + (level * shape.codes) as u32).collect();
        Ok(SidTokens { begin, end: begin + 1, first, codes_per_level: shape.codes })
    }

    /// Finds the tokens in a tokenizer; `None` if it has no semantic ids.
    ///
    /// Errors: `Text` if it has only some of them, or not in order.
    pub fn find(tokenizer: &Tokenizer) -> Result<Option<Self>> {
        let first: Vec<u32> = (0..MAX_LEVELS).map_while(|level| tokenizer.token_id(&sid_token(level, 0))).collect();
        let (begin, end) = match (tokenizer.token_id(SID_BEGIN), tokenizer.token_id(SID_END)) {
            (None, None) if first.is_empty() => return Ok(None),
            (Some(begin), Some(end)) if !first.is_empty() => (begin, end),
            (begin, end) => {
                let has = |id: Option<u32>| if id.is_some() { "has" } else { "lacks" };
                return Err(refusal_with_hint(
                    "semantic ids",
                    format!(
                        "the tokenizer {} {SID_BEGIN}, {} {SID_END}, and has codes of {} levels",
                        has(begin),
                        has(end),
                        first.len()
                    ),
                    "start from a base model without semantic ids",
                ));
            }
        };
        let mut sizes = Vec::with_capacity(first.len());
        for (level, &start) in first.iter().enumerate() {
            let code_id = |code: u16| tokenizer.token_id(&sid_token(level, code));
            let size = (0..=u16::MAX).take_while(|&code| code_id(code) == Some(start + u32::from(code))).count();
            if let Some(id) = u16::try_from(size).ok().and_then(code_id) {
                return Err(refusal(
                    format!("semantic id token {}", sid_token(level, size as u16)),
                    format!("has id {id}, expected {} after the codes before it", start as usize + size),
                ));
            }
            sizes.push(size);
        }
        if let Some(level) = sizes.iter().position(|&size| size != sizes[0]) {
            return Err(refusal(
                "semantic ids",
                format!("level a has {} codes, level {} has {}", sizes[0], level_letter(level), sizes[level]),
            ));
        }
        if tokenizer.is_special(first[0]) {
            tracing::warn!(
                "semantic ids are special tokens of this tokenizer: decoding without special tokens drops them"
            );
        }
        Ok(Some(SidTokens { begin, end, first, codes_per_level: sizes[0] }))
    }

    /// Their shape.
    pub fn shape(&self) -> SidShape {
        SidShape { levels: self.first.len(), codes: self.codes_per_level }
    }

    /// Q, the number of levels.
    pub fn levels(&self) -> usize {
        self.first.len()
    }

    /// Tokens of one semantic id, begin and end included.
    pub fn tokens_per_sid(&self) -> usize {
        self.levels() + 2
    }

    /// Id of a code, if there is such a level and code.
    pub fn code_id(&self, level: usize, code: u16) -> Option<u32> {
        let first = *self.first.get(level)?;
        ((code as usize) < self.codes_per_level).then(|| first + u32::from(code))
    }

    /// Level and code of an id, if it is a code's.
    pub fn level_and_code(&self, id: u32) -> Option<(usize, u16)> {
        self.first.iter().enumerate().find_map(|(level, &first)| {
            let code = id.checked_sub(first)?;
            ((code as usize) < self.codes_per_level).then_some((level, code as u16))
        })
    }

    /// Token ids of a semantic id.
    pub fn ids(&self, sid: &[u16]) -> Result<Vec<u32>> {
        self.shape().check(sid)?;
        let codes = sid.iter().zip(&self.first).map(|(&code, &first)| first + u32::from(code));
        Ok([self.begin].into_iter().chain(codes).chain([self.end]).collect())
    }

    /// Text of a semantic id.
    pub fn text(&self, sid: &[u16]) -> Result<String> {
        self.shape().text(sid)
    }

    /// Codes of a semantic id from its text, which holds nothing else.
    pub fn parse(&self, text: &str) -> Result<Vec<u16>> {
        self.shape().parse(text)
    }

    /// Codes of a semantic id from its token ids, begin and end included.
    pub fn parse_ids(&self, ids: &[u32]) -> Result<Vec<u16>> {
        let wrong = |problem| malformed(&self.spell_ids(ids), problem);
        let Some(inner) = ids.strip_prefix(&[self.begin]).and_then(|rest| rest.strip_suffix(&[self.end])) else {
            return Err(wrong(format!("does not stand between {SID_BEGIN} and {SID_END}")));
        };
        if inner.len() != self.levels() {
            return Err(wrong(self.shape().wrong_levels(inner.len())));
        }
        let code_at = |(level, &id): (usize, &u32)| match self.level_and_code(id) {
            Some((found, code)) if found == level => Ok(code),
            Some((found, _)) => Err(wrong(format!(
                "level {} stands where level {} is expected",
                level_letter(found),
                level_letter(level)
            ))),
            None => Err(wrong(format!("id {id} is no code of level {}", level_letter(level)))),
        };
        inner.iter().enumerate().map(code_at).collect()
    }

    /// Ids as text for a message: codes as they are spelt, others as `[id]`.
    fn spell_ids(&self, ids: &[u32]) -> String {
        let mut text = String::new();
        for &id in ids {
            match self.level_and_code(id) {
                Some((level, code)) => text += &sid_token(level, code),
                None if id == self.begin => text += SID_BEGIN,
                None if id == self.end => text += SID_END,
                None => _ = write!(text, "[{id}]"),
            }
        }
        text
    }
}

/// Codes without begin and end; levels without a letter as `?`.
fn spell(sid: &[u16]) -> String {
    let letter = |level| if level < MAX_LEVELS { level_letter(level) } else { '?' };
    sid.iter().enumerate().map(|(level, code)| format!("<s_{}_{code}>", letter(level))).collect()
}

/// Letter and code of `<s_a_57>`. A leading zero makes it another text, which is no token.
fn read_token(token: &str) -> Option<(char, u64)> {
    let (letter, digits) = token.strip_prefix("<s_")?.strip_suffix('>')?.split_once('_')?;
    let mut letters = letter.chars();
    let letter = letters.next().filter(|c| c.is_ascii_lowercase() && letters.next().is_none())?;
    let canonical = digits.bytes().all(|b| b.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    // A number beyond u64 is as far out of range as one within.
    canonical.then(|| digits.parse().ok().or((!digits.is_empty()).then_some(u64::MAX)))?.map(|code| (letter, code))
}

fn malformed(text: &str, problem: String) -> Error {
    refusal(named(text), problem)
}

/// The codes of a text that claims to be a semantic id, for a message.
fn named(text: &str) -> String {
    let codes = text.strip_prefix(SID_BEGIN).unwrap_or(text);
    format!("semantic id {}", clipped(codes.strip_suffix(SID_END).unwrap_or(codes), SHOWN))
}

#[cfg(test)]
mod tests {
    use super::super::bpe::tests::shop_tokenizer;
    use super::*;

    fn tokens() -> (Tokenizer, SidTokens) {
        let mut tokenizer = shop_tokenizer();
        let sids = SidTokens::add(&mut tokenizer, SidShape::new(3, 16).unwrap()).unwrap();
        (tokenizer, sids)
    }

    fn message(result: Result<impl std::fmt::Debug>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn ids_are_begin_end_then_level_by_level() {
        let (tokenizer, sids) = tokens();
        assert_eq!(sids, SidTokens { begin: 340, end: 341, first: vec![342, 358, 374], codes_per_level: 16 });
        assert_eq!(tokenizer.vocab_size(), 342 + 3 * 16);
        assert_eq!(tokenizer.token_id("<s_b_15>"), sids.code_id(1, 15));
        assert_eq!((sids.code_id(1, 16), sids.code_id(3, 0)), (None, None));
        for (id, expected) in
            [(341, None), (342, Some((0, 0))), (373, Some((1, 15))), (389, Some((2, 15))), (390, None)]
        {
            assert_eq!(sids.level_and_code(id), expected);
        }
        assert!(!tokenizer.is_special(sids.begin) && !tokenizer.is_special(389));
    }

    #[test]
    fn every_sid_is_its_ids_whatever_stands_around_it() {
        let (tokenizer, sids) = tokens();
        // The last is a combining mark, which normalisation would join to the `>` before it.
        let around = [("", ""), ("\"", "\","), ("text ", "\n\n"), ("\n", " x"), ("<s_a_1", "<"), ("日", "\u{338}")];
        for sid in [[0, 0, 0], [15, 1, 10], [1, 11, 1]] {
            let (text, ids) = (sids.text(&sid).unwrap(), sids.ids(&sid).unwrap());
            assert_eq!(ids.len(), sids.tokens_per_sid());
            assert_eq!(sids.parse(&text).unwrap(), sid);
            assert_eq!(sids.parse_ids(&ids).unwrap(), sid);
            assert_eq!(tokenizer.decode(&ids, true).unwrap(), text);
            for (before, after) in around {
                let expected =
                    [tokenizer.encode(before).unwrap(), ids.clone(), tokenizer.encode(after).unwrap()].concat();
                assert_eq!(tokenizer.encode(&format!("{before}{text}{after}")).unwrap(), expected, "{before:?}");
            }
        }
    }

    #[test]
    fn added_twice_they_are_the_same_and_other_sizes_are_refused() {
        let (mut tokenizer, sids) = tokens();
        let before = tokenizer.vocab_size();
        assert_eq!(SidTokens::add(&mut tokenizer, sids.shape()).unwrap(), sids);
        assert_eq!(SidTokens::find(&tokenizer).unwrap(), Some(sids));
        let refused = message(SidTokens::add(&mut tokenizer, SidShape::new(4, 256).unwrap()));
        assert!(
            refused.starts_with(
                "text: semantic ids: the tokenizer has 3 levels of 16 codes, the catalogue 4 of 256\n  hint: "
            ),
            "{refused}"
        );
        assert_eq!(tokenizer.vocab_size(), before);
        assert_eq!(SidTokens::find(&shop_tokenizer()).unwrap(), None);
    }

    #[test]
    fn a_damaged_set_is_refused() {
        let found = |tokens: &[&str]| {
            let mut tokenizer = shop_tokenizer();
            tokenizer.add_tokens(&tokens.iter().map(|&t| t.to_owned()).collect::<Vec<_>>()).unwrap();
            message(SidTokens::find(&tokenizer))
        };
        let lacking = found(&[SID_BEGIN, "<s_a_0>"]);
        assert!(lacking.contains("has <|sid_begin|>, lacks <|sid_end|>, and has codes of 1 levels"), "{lacking}");
        let uneven = found(&[SID_BEGIN, SID_END, "<s_a_0>", "<s_a_1>", "<s_b_0>"]);
        assert_eq!(uneven, "text: semantic ids: level a has 2 codes, level b has 1");
        let shuffled = found(&[SID_BEGIN, SID_END, "<s_a_0>", "<s_b_0>", "<s_a_1>"]);
        assert_eq!(shuffled, "text: semantic id token <s_a_1>: has id 344, expected 343 after the codes before it");
    }

    #[test]
    fn parsing_says_what_is_wrong() {
        let shape = SidShape::new(2, 256).unwrap();
        let sid = |codes: &str| format!("<|sid_begin|>{codes}<|sid_end|>");
        assert_eq!(shape.parse(&sid("<s_a_0><s_b_255>")).unwrap(), [0, 255]);
        let hint = "\n  hint: the file was made with another tokenizer; rerun `gr2 sid`";
        for (text, problem, hint) in [
            (sid("<s_a_12><s_b_260>"), "<s_a_12><s_b_260>: level b has 256 codes", hint),
            (
                sid("<s_a_99999999999999999999><s_b_0>"),
                "<s_a_99999999999999999999><s_b_0>: level a has 256 codes",
                hint,
            ),
            (sid("<s_a_1>"), "<s_a_1>: has 1 levels, the catalogue has 2", hint),
            (sid("<s_a_1><s_b_2><s_c_3>"), "<s_a_1><s_b_2><s_c_3>: has 3 levels, the catalogue has 2", hint),
            (sid("<s_b_1><s_a_2>"), "<s_b_1><s_a_2>: level b stands where level a is expected", ""),
            (sid("<s_a_01><s_b_2>"), "<s_a_01><s_b_2>: expected a code or <|sid_end|>, found <s_a_01>", ""),
            (sid("<s_a_1> <s_b_2>"), "<s_a_1> <s_b_2>: expected a code or <|sid_end|>, found  <s_b_2>", ""),
            ("<|sid_begin|><s_a_1>".into(), "<s_a_1>: expected a code or <|sid_end|>, found the end", ""),
            ("<s_a_1><s_b_2>".into(), "<s_a_1><s_b_2>: does not begin with <|sid_begin|>", ""),
            (String::new(), ": does not begin with <|sid_begin|>", ""),
        ] {
            assert_eq!(message(shape.parse(&text)), format!("text: semantic id {problem}{hint}"));
        }
        assert_eq!(
            message(shape.text(&[12, 260])),
            format!("text: semantic id <s_a_12><s_b_260>: level b has 256 codes{hint}")
        );
        assert!(SidShape::new(27, 4).is_err() && SidShape::new(0, 4).is_err() && SidShape::new(4, 0).is_err());
    }

    #[test]
    fn parsing_ids_says_what_is_wrong() {
        let (_, sids) = tokens();
        for (ids, problem) in [
            (vec![340, 343, 358, 341], "<s_a_1><s_b_0>: has 2 levels, the catalogue has 3"),
            (vec![340, 343, 374, 358, 341], "<s_a_1><s_c_0><s_b_0>: level c stands where level b is expected"),
            (vec![340, 343, 7, 374, 341], "<s_a_1>[7]<s_c_0>: id 7 is no code of level b"),
            (vec![343, 358, 374, 341], "<s_a_1><s_b_0><s_c_0>: does not stand between <|sid_begin|> and <|sid_end|>"),
            (vec![340], ": does not stand between <|sid_begin|> and <|sid_end|>"),
        ] {
            assert_eq!(message(sids.parse_ids(&ids)), format!("text: semantic id {problem}"));
        }
    }
}
