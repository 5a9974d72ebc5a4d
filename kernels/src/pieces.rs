//! A range, a piece at a time.

use std::ops::Range;

/// Consecutive pieces of `range`, each of `length` but for the last, which may be shorter. `length` is not zero.
pub(crate) fn pieces(range: Range<usize>, length: usize) -> impl DoubleEndedIterator<Item = Range<usize>> + Clone {
    let end = range.end;
    range.step_by(length).map(move |start| start..start.saturating_add(length).min(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_follow_each_other_and_the_last_is_what_is_left() {
        assert_eq!(pieces(3..10, 3).collect::<Vec<_>>(), [3..6, 6..9, 9..10]);
        assert_eq!(pieces(0..6, 3).collect::<Vec<_>>(), [0..3, 3..6]);
        assert_eq!(pieces(5..5, 2).count(), 0);
    }
}
