//! Which tokens of a packed batch attend to which, without a mask.

use crate::device::Gpu;
use crate::error::{Error, Result};
use crate::per_gpu::PerGpu;
use crate::pieces::pieces;
use crate::{Buffer, Device};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// Tokens `[start, start + len)` of the packed axis: one causal sequence, which also attends to all of
/// `[prefix_start, prefix_start + prefix_len)` if that is not empty.
///
/// A prefix is a shared prompt: the G responses to one prompt use its keys and values, which are there once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// First token.
    pub start: u32,
    /// Number of tokens.
    pub len: u32,
    /// First token of the prompt.
    pub prefix_start: u32,
    /// Tokens of the prompt; 0 for none.
    pub prefix_len: u32,
}

impl Segment {
    /// The segment's tokens.
    pub fn tokens(&self) -> Range<usize> {
        self.start as usize..self.start as usize + self.len as usize
    }

    /// The prompt's tokens.
    pub fn prefix(&self) -> Range<usize> {
        self.prefix_start as usize..self.prefix_start as usize + self.prefix_len as usize
    }
}

/// The segments of a packed batch, validated; cloning shares them and their device tables.
#[derive(Clone)]
pub struct Segments(Arc<Inner>);

struct Inner {
    list: Vec<Segment>,
    tokens: usize,
    /// For each segment, the token ranges whose queries see its keys: its own, then those of its dependants,
    /// neighbours merged. Segment i has `seen_by[seen_at[i]..seen_at[i + 1]]`.
    seen_by: Vec<Range<usize>>,
    seen_at: Vec<usize>,
    /// By rows of a block.
    plans: Mutex<HashMap<usize, Arc<PerGpu<Plan>>>>,
}

/// A piece of one segment that one CPU task or one workgroup takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) segment: usize,
    pub(crate) rows: Range<usize>,
}

/// The segments as a GPU reads them: one buffer of u32 with the offsets of its parts.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) table: Buffer,
    /// Blocks of rows: (segment, first token) each, from offset 0.
    pub(crate) blocks: u32,
    /// Offset of the segments: start, length, prefix start, prefix length each.
    pub(crate) segments: u32,
    /// Offset of the first range (into pairs) of each segment, and one past the last.
    pub(crate) seen_at: u32,
    /// Offset of the ranges: first and past-the-last token each.
    pub(crate) seen_by: u32,
}

impl Segments {
    /// Checks and keeps the segments of `tokens` packed tokens.
    ///
    /// Errors: `Shape` unless the segments follow each other without gap from 0 to `tokens`, and every prefix is
    /// exactly one whole earlier segment that has no prefix itself.
    pub fn new(list: Vec<Segment>, tokens: usize) -> Result<Segments> {
        const OP: &str = "segments";
        if u32::try_from(tokens).is_err() || u32::try_from(list.len()).is_err() {
            return Err(Error::shape(OP, format!("{tokens} tokens in one batch, at most {}", u32::MAX)));
        }
        let mut dependants = vec![vec![]; list.len()];
        let mut end = 0;
        for (i, segment) in list.iter().enumerate() {
            let (start, prefix) = (segment.start as usize, segment.prefix());
            if start != end {
                return Err(Error::shape(
                    OP,
                    format!("segment {i} starts at token {start}, the one before ends at {end}"),
                ));
            }
            end = segment.tokens().end;
            if prefix.is_empty() {
                continue;
            }
            // ends grow, so the first earlier segment that ends past the prefix's start is the one that holds it
            let found = list[..i].partition_point(|s| s.tokens().end <= prefix.start);
            let whole = found < i && list[found].tokens() == prefix;
            if !whole {
                let problem = format!("segment {i} has tokens {prefix:?} as its prefix, which are no earlier segment");
                return Err(Error::shape(OP, problem));
            }
            if list[found].prefix_len > 0 {
                let problem = format!("segment {i} has segment {found} as its prefix, which has a prefix itself");
                return Err(Error::shape(OP, problem));
            }
            dependants[found].push(i);
        }
        if end != tokens {
            return Err(Error::shape(OP, format!("the segments end at token {end} of {tokens}")));
        }
        let (mut seen_by, mut seen_at) = (vec![], vec![0]);
        for (i, dependants) in dependants.iter().enumerate() {
            let first = seen_by.len();
            for range in std::iter::once(&i).chain(dependants).map(|&s| list[s].tokens()) {
                match seen_by[first..].last_mut() {
                    Some(Range { end, .. }) if *end == range.start => *end = range.end,
                    _ => seen_by.push(range),
                }
            }
            seen_at.push(seen_by.len());
        }
        Ok(Segments(Arc::new(Inner { list, tokens, seen_by, seen_at, plans: Mutex::default() })))
    }

    /// One causal sequence of `len` tokens.
    pub fn single(len: usize) -> Result<Segments> {
        Segments::packed(&[len])
    }

    /// Causal sequences of these lengths, one after the other, without shared prefixes.
    pub fn packed(lengths: &[usize]) -> Result<Segments> {
        let mut end = 0;
        let mut list = Vec::with_capacity(lengths.len());
        for &len in lengths {
            // a length past u32 is refused by `new`, which sees the true total
            list.push(Segment { start: end as u32, len: len as u32, prefix_start: 0, prefix_len: 0 });
            end += len;
        }
        Segments::new(list, end)
    }

    /// The segments in order.
    pub fn list(&self) -> &[Segment] {
        &self.0.list
    }

    /// Tokens of the whole batch.
    pub fn tokens(&self) -> usize {
        self.0.tokens
    }

    /// Position of every token in its sequence, for rotary embedding: a response continues where its prompt ends.
    pub fn positions(&self) -> Vec<u32> {
        self.0.list.iter().flat_map(|s| s.prefix_len..s.prefix_len + s.len).collect()
    }

    /// Token ranges whose queries see keys of segment `i` (those at or after the key).
    pub(crate) fn seen_by(&self, i: usize) -> &[Range<usize>] {
        &self.0.seen_by[self.0.seen_at[i]..self.0.seen_at[i + 1]]
    }

    /// All tokens in order, in blocks of at most `rows` that do not cross segments.
    pub(crate) fn blocks(&self, rows: usize) -> Vec<Block> {
        let mut blocks = vec![];
        for (segment, tokens) in self.0.list.iter().map(Segment::tokens).enumerate() {
            blocks.extend(pieces(tokens, rows).map(|rows| Block { segment, rows }));
        }
        blocks
    }

    /// The tables on a GPU, for blocks of `rows` tokens.
    pub(crate) fn plan(&self, gpu: &Gpu, rows: usize) -> Result<Plan> {
        let plans = self.0.plans.lock().unwrap_or_else(PoisonError::into_inner).entry(rows).or_default().clone();
        plans.get(gpu, || {
            let mut blocks = self.blocks(rows);
            // a late block has the most keys: it goes first, so that the last workgroups to finish are short ones
            blocks.reverse();
            let mut table: Vec<u32> = blocks.iter().flat_map(|b| [b.segment as u32, b.rows.start as u32]).collect();
            let segments = table.len() as u32;
            table.extend(self.0.list.iter().flat_map(|s| [s.start, s.len, s.prefix_start, s.prefix_len]));
            let seen_at = table.len() as u32;
            table.extend(self.0.seen_at.iter().map(|&at| at as u32));
            let seen_by = table.len() as u32;
            table.extend(self.0.seen_by.iter().flat_map(|r| [r.start as u32, r.end as u32]));
            let table = Buffer::from_slice(&Device::Gpu(gpu.clone()), &table)?;
            Ok(Plan { table, blocks: blocks.len() as u32, segments, seen_at, seen_by })
        })
    }
}

impl std::fmt::Debug for Segments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} tokens in {:?}", self.0.tokens, self.0.list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(start: u32, len: u32, prefix_start: u32, prefix_len: u32) -> Segment {
        Segment { start, len, prefix_start, prefix_len }
    }

    #[test]
    fn positions_continue_the_prompt() {
        let s = vec![segment(0, 3, 0, 0), segment(3, 2, 0, 3), segment(5, 1, 0, 3), segment(6, 2, 0, 0)];
        let s = Segments::new(s, 8).unwrap();
        assert_eq!(s.positions(), [0, 1, 2, 3, 4, 3, 0, 1]);
    }

    #[test]
    fn keys_are_seen_by_their_own_segment_and_its_dependants() {
        let s =
            [segment(0, 3, 0, 0), segment(3, 2, 0, 3), segment(5, 4, 0, 0), segment(9, 1, 0, 3), segment(10, 2, 5, 4)];
        let s = Segments::new(s.to_vec(), 12).unwrap();
        assert_eq!(s.seen_by(0), [0..5, 9..10]);
        assert_eq!(s.seen_by(1), std::slice::from_ref(&(3..5)));
        assert_eq!(s.seen_by(2), [5..9, 10..12]);
        assert_eq!(s.seen_by(4), std::slice::from_ref(&(10..12)));
    }

    #[test]
    fn blocks_cover_every_token_once_and_stay_in_their_segment() {
        let s = Segments::packed(&[5, 0, 1, 4]).unwrap();
        let rows: Vec<_> = s.blocks(2).into_iter().map(|b| (b.segment, b.rows)).collect();
        assert_eq!(rows, [(0, 0..2), (0, 2..4), (0, 4..5), (2, 5..6), (3, 6..8), (3, 8..10)]);
        assert!(Segments::packed(&[]).unwrap().blocks(2).is_empty());
    }

    #[test]
    fn what_is_no_packing_is_refused_with_the_reason() {
        let refusal = |list: &[Segment], tokens| Segments::new(list.to_vec(), tokens).unwrap_err().to_string();
        let gap = refusal(&[segment(0, 2, 0, 0), segment(3, 1, 0, 0)], 4);
        assert_eq!(gap, "segments: segment 1 starts at token 3, the one before ends at 2");
        assert_eq!(refusal(&[segment(0, 2, 0, 0)], 3), "segments: the segments end at token 2 of 3");
        let part = refusal(&[segment(0, 2, 0, 0), segment(2, 1, 0, 1)], 3);
        assert_eq!(part, "segments: segment 1 has tokens 0..1 as its prefix, which are no earlier segment");
        let itself = refusal(&[segment(0, 2, 0, 2)], 2);
        assert_eq!(itself, "segments: segment 0 has tokens 0..2 as its prefix, which are no earlier segment");
        let chain = refusal(&[segment(0, 1, 0, 0), segment(1, 1, 0, 1), segment(2, 1, 1, 1)], 3);
        assert_eq!(chain, "segments: segment 2 has segment 1 as its prefix, which has a prefix itself");
    }
}
