//! [`ItemSids`]: the semantic id of every item as text, and the item of every semantic id.

use crate::error::{Error, Result};
use crate::sid::SemanticIds;
use crate::text::{SID_BEGIN, SID_END, SidShape};

/// The semantic ids of a catalogue, readable both ways.
///
/// Memory: 4 bytes per item beside the codes.
#[derive(Debug, Clone)]
pub struct ItemSids {
    ids: SemanticIds,
    shape: SidShape,
    /// Items by their codes.
    order: Vec<u32>,
}

impl ItemSids {
    /// Errors: `Text` if ids of this shape cannot be spelt.
    pub fn new(ids: SemanticIds) -> Result<Self> {
        let shape = SidShape::new(ids.levels(), ids.codes_per_level())?;
        let order = ids.order();
        Ok(ItemSids { ids, shape, order })
    }

    /// Number of items.
    pub fn items(&self) -> usize {
        self.order.len()
    }

    /// Levels and codes per level.
    pub fn shape(&self) -> SidShape {
        self.shape
    }

    /// The codes of an item.
    ///
    /// Errors: `Shape` for an item that the catalogue does not have.
    pub fn codes(&self, item: u32) -> Result<&[u16]> {
        if item as usize >= self.items() {
            let problem = format!("item {item}, the catalogue has {} items", self.items());
            return Err(Error::Shape { op: "semantic ids", problem });
        }
        Ok(self.ids.get(item as usize))
    }

    /// The text of an item's id, as `<|sid_begin|><s_a_57><s_b_7><|sid_end|>`.
    ///
    /// Errors: as [`ItemSids::codes`].
    pub fn text(&self, item: u32) -> Result<String> {
        self.shape.text(self.codes(item)?)
    }

    /// The item that has these codes; of several the one with the lowest number.
    pub fn item(&self, codes: &[u16]) -> Option<u32> {
        let codes_of = |item: &u32| self.ids.get(*item as usize);
        let at = self.order.partition_point(|item| codes_of(item) < codes);
        self.order.get(at).copied().filter(|item| codes_of(item) == codes)
    }
}

/// The pieces of a text that stand between semantic ids: what a tokenizer is trained on, semantic ids being tokens of
/// their own already.
pub fn between_sids(text: &str) -> impl Iterator<Item = &str> {
    let after = |piece: &'_ str| piece.find(SID_END).map_or(0, |at| at + SID_END.len());
    text.split(SID_BEGIN).map(move |piece| &piece[after(piece)..]).filter(|piece| !piece.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_and_the_first_of_equal_ids() {
        let sids = ItemSids::new(SemanticIds::new(2, 4, vec![3, 1, 0, 2, 3, 1, 0, 0]).unwrap()).unwrap();
        assert_eq!(sids.text(1).unwrap(), "<|sid_begin|><s_a_0><s_b_2><|sid_end|>");
        assert_eq!([[3, 1], [0, 2], [0, 0]].map(|codes| sids.item(&codes)), [Some(0), Some(1), Some(3)]);
        assert_eq!((sids.item(&[3, 3]), sids.item(&[1, 0]), sids.item(&[0])), (None, None, None));
        assert_eq!(sids.text(4).unwrap_err().to_string(), "semantic ids: item 4, the catalogue has 4 items");
    }

    #[test]
    fn pieces_between_ids() {
        let pieces: Vec<_> =
            between_sids("a<|sid_begin|><s_a_1><|sid_end|>\",\"<|sid_begin|><s_a_2><|sid_end|>").collect();
        assert_eq!(pieces, ["a", "\",\""]);
    }
}
