//! Spans of a fixed room, taken and given back.

use std::ops::Range;

/// What is free of a room, in order; neighbours are one span.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Spans {
    free: Vec<Range<u32>>,
}

impl Spans {
    /// A room that is free as a whole.
    pub(super) fn new(room: u32) -> Spans {
        Spans { free: std::iter::once(0..room).collect() }
    }

    /// The first free span of this length, which is no longer free.
    pub(super) fn take(&mut self, len: u32) -> Option<Range<u32>> {
        let at = self.free.iter().position(|free| free.len() >= len as usize)?;
        let start = self.free[at].start;
        self.free[at].start += len;
        if self.free[at].is_empty() {
            self.free.remove(at);
        }
        Some(start..start + len)
    }

    /// Makes a span free again that was taken.
    pub(super) fn give(&mut self, span: Range<u32>) {
        let at = self.free.partition_point(|free| free.start < span.start);
        self.free.insert(at, span);
        if at + 1 < self.free.len() && self.free[at].end == self.free[at + 1].start {
            self.free[at].end = self.free.remove(at + 1).end;
        }
        if at > 0 && self.free[at - 1].end == self.free[at].start {
            self.free[at - 1].end = self.free.remove(at).end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_never_overlap_and_come_together_again() {
        let mut spans = Spans::new(10);
        let [a, b, c] = [3, 4, 3].map(|len| spans.take(len).unwrap());
        assert_eq!([&a, &b, &c], [&(0..3), &(3..7), &(7..10)]);
        assert_eq!(spans.take(1), None);
        spans.give(a);
        spans.give(c);
        assert_eq!(spans.take(4), None, "six are free, but not side by side");
        assert_eq!(spans.take(2), Some(0..2));
        spans.give(b);
        assert_eq!(spans.take(8), Some(2..10));
        spans.give(2..10);
        spans.give(0..2);
        assert_eq!(spans, Spans::new(10));
    }
}
