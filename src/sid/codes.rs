//! The semantic identifiers of a catalogue.

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::text::SidShape;

/// One tuple of codes per item.
///
/// Shapes: codes (items, Q), each below N.
#[derive(Debug, Clone, PartialEq)]
pub struct SemanticIds {
    shape: SidShape,
    codes: Vec<u16>,
}

impl SemanticIds {
    /// Takes row-major codes.
    ///
    /// Errors: `Text` if identifiers of that many levels and codes cannot be spelt, or a code is not below
    /// `codes_per_level`; `Shape` if the codes do not fill whole rows.
    pub fn new(levels: usize, codes_per_level: usize, codes: Vec<u16>) -> Result<Self> {
        let shape = SidShape::new(levels, codes_per_level)?;
        if !codes.len().is_multiple_of(levels) {
            let problem = format!("{} codes do not fill rows of {levels}", codes.len());
            return Err(Error::Shape { op: "semantic ids", problem });
        }
        match codes.par_chunks(levels).find_map_first(|codes| shape.check(codes).err()) {
            Some(refused) => Err(refused),
            None => Ok(SemanticIds { shape, codes }),
        }
    }

    /// Number of items.
    pub fn items(&self) -> usize {
        self.codes.len() / self.levels()
    }

    /// Levels and codes per level.
    pub fn shape(&self) -> SidShape {
        self.shape
    }

    /// Codes of an identifier, Q.
    pub fn levels(&self) -> usize {
        self.shape.levels()
    }

    /// Values a code may take, N.
    pub fn codes_per_level(&self) -> usize {
        self.shape.codes()
    }

    /// The codes of one item.
    pub fn get(&self, item: usize) -> &[u16] {
        &self.codes[item * self.levels()..(item + 1) * self.levels()]
    }

    /// All codes, row-major.
    pub fn codes(&self) -> &[u16] {
        &self.codes
    }

    /// All codes for the last-level assignment, which keeps them below N.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_checked() {
        let message = |levels, n, codes: &[u16]| SemanticIds::new(levels, n, codes.into()).unwrap_err().to_string();
        let refused = message(2, 256, &[0, 1, 12, 260]);
        assert!(refused.starts_with("text: semantic id <s_a_12><s_b_260>: level b has 256 codes"), "{refused}");
        assert_eq!(message(2, 4, &[0, 1, 2]), "semantic ids: 3 codes do not fill rows of 2");
    }

    #[test]
    fn order_is_by_codes_then_item() {
        let ids = SemanticIds::new(2, 4, vec![1, 0, 0, 3, 1, 0, 0, 2]).unwrap();
        assert_eq!((ids.items(), ids.order()), (4, vec![3, 1, 0, 2]));
        assert_eq!(ids.get(1), [0, 3]);
    }
}
