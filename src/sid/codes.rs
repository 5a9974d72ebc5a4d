//! The semantic identifiers of a catalogue.

use std::fmt::Write;

use rayon::prelude::*;

use crate::error::{Error, Result};

/// One tuple of codes per item.
///
/// Shapes: codes (items, levels), each below `codes_per_level`.
#[derive(Debug, Clone, PartialEq)]
pub struct SemanticIds {
    levels: usize,
    codes_per_level: usize,
    codes: Vec<u16>,
}

impl SemanticIds {
    /// Takes row-major codes.
    ///
    /// Errors: `Shape` if there are not 1 to 26 levels (they are named by letters), the codes do not fill whole rows or
    /// one is not below `codes_per_level`.
    pub fn new(levels: usize, codes_per_level: usize, codes: Vec<u16>) -> Result<Self> {
        let refuse = |problem: String| Err(Error::Shape { op: "semantic ids", problem });
        if !(1..=26).contains(&levels) {
            return refuse(format!("{levels} levels, expected 1 to 26"));
        }
        if !(1..=1 << 16).contains(&codes_per_level) {
            return refuse(format!("{codes_per_level} codes per level, expected 1 to 65536"));
        }
        if !codes.len().is_multiple_of(levels) {
            return refuse(format!("{} codes do not fill rows of {levels}", codes.len()));
        }
        if let Some(at) = codes.par_iter().position_first(|&c| usize::from(c) >= codes_per_level) {
            let item = at / levels;
            return refuse(format!("item {item}: {}", too_large(&codes[item * levels..][..levels], codes_per_level)));
        }
        Ok(SemanticIds { levels, codes_per_level, codes })
    }

    /// Number of items.
    pub fn items(&self) -> usize {
        self.codes.len() / self.levels
    }

    /// Codes of an identifier, Q.
    pub fn levels(&self) -> usize {
        self.levels
    }

    /// Values a code may take, N.
    pub fn codes_per_level(&self) -> usize {
        self.codes_per_level
    }

    /// The codes of one item.
    pub fn get(&self, item: usize) -> &[u16] {
        &self.codes[item * self.levels..(item + 1) * self.levels]
    }

    /// All codes, row-major.
    pub fn codes(&self) -> &[u16] {
        &self.codes
    }

    /// All codes for the last-level assignment, which keeps them below `codes_per_level`.
    pub(super) fn codes_mut(&mut self) -> &mut [u16] {
        &mut self.codes
    }

    /// Items sorted by their codes, items with equal codes by number.
    pub fn order(&self) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.items() as u32).collect();
        order.par_sort_unstable_by(|&i, &j| self.get(i as usize).cmp(self.get(j as usize)).then(i.cmp(&j)));
        order
    }
}

/// The letter of a level: a, b, c, …
pub fn level_name(level: usize) -> char {
    char::from(b'a' + level as u8)
}

/// The tokens of an identifier without its begin and end marks, as in `<s_a_57><s_b_7>`.
pub fn sid_text(codes: &[u16]) -> String {
    codes.iter().enumerate().fold(String::new(), |mut text, (level, code)| {
        write!(text, "<s_{}_{code}>", level_name(level)).expect("invariant: writing to a String cannot fail");
        text
    })
}

/// The message for codes of which one is not below `codes_per_level`.
pub(super) fn too_large(codes: &[u16], codes_per_level: usize) -> String {
    let level = codes.iter().position(|&c| usize::from(c) >= codes_per_level).unwrap_or(0);
    format!("semantic id {}: level {} has {codes_per_level} codes", sid_text(codes), level_name(level))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_checked() {
        let message = |levels, n, codes: &[u16]| SemanticIds::new(levels, n, codes.into()).unwrap_err().to_string();
        assert_eq!(
            message(2, 256, &[0, 1, 12, 260]),
            "semantic ids: item 1: semantic id <s_a_12><s_b_260>: level b has 256 codes"
        );
        assert_eq!(message(2, 4, &[0, 1, 2]), "semantic ids: 3 codes do not fill rows of 2");
        assert_eq!(message(27, 4, &[]), "semantic ids: 27 levels, expected 1 to 26");
    }

    #[test]
    fn order_is_by_codes_then_item() {
        let ids = SemanticIds::new(2, 4, vec![1, 0, 0, 3, 1, 0, 0, 2]).unwrap();
        assert_eq!(ids.order(), [3, 1, 0, 2]);
        assert_eq!(sid_text(ids.get(1)), "<s_a_0><s_b_3>");
    }
}
