//! Which tokens of which rows a workgroup of split decoding attends to.

use super::DecodeRow;
use crate::pieces::pieces;
use std::ops::Range;

/// Tokens of an item at least: one tile of the kernel.
const SHORTEST: usize = 64;
/// Tokens up to which a row is one item, if all rows are: four tiles one after the other take less than the launch that joins
/// parts.
const WHOLE: usize = 256;
/// Workgroups that keep a large GPU busy to the end, several times as many as it runs at once.
const BUSY: usize = 4096;

/// How rows are dealt out.
pub(super) struct Dealing<'a> {
    /// Positions of a suffix slot.
    pub(super) capacity: usize,
    /// Workgroups of one item.
    pub(super) groups: usize,
    /// Rows with the same prompt that an item may hold.
    pub(super) rows: usize,
    /// Tokens of the prompts that one dispatch can bind, and the next, …
    pub(super) prompt: &'a [Range<usize>],
    /// The same of all positions of all slots.
    pub(super) suffix: &'a [Range<usize>],
}

/// One part of one row, or of neighbouring rows with the same prompt.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) rows: Range<usize>,
    /// Which of the parts of each of its rows.
    pub(super) part: usize,
    /// Tokens of the prompts, from the first one bound.
    pub(super) prompt: Range<usize>,
    /// Tokens of the slots, from the first one bound.
    pub(super) suffix: Range<usize>,
}

/// Items by dispatch, and the parts of each row.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) dispatches: Vec<Vec<Item>>,
    pub(super) parts: Vec<usize>,
}

impl Plan {
    pub(super) fn new(list: &[DecodeRow], dealing: &Dealing) -> Plan {
        let tasks = tasks(list, dealing);
        let tokens: usize = tasks.iter().map(|t| t.prompt.len() + t.suffix.len()).sum();
        let longest = tasks.iter().map(|t| t.prompt.len() + t.suffix.len()).max().unwrap_or(0);
        let length = match tasks.len() == list.len() && longest <= WHOLE {
            true => WHOLE,
            false => (tokens * dealing.groups).div_ceil(BUSY).next_multiple_of(SHORTEST).max(SHORTEST),
        };
        let mut parts = vec![0; list.len()];
        let mut dispatches: Vec<Vec<Item>> = vec![];
        dispatches.resize_with(dealing.prompt.len().max(dealing.suffix.len()), Vec::new);
        for task in &tasks {
            for (d, items) in dispatches.iter_mut().enumerate() {
                let prompt = within(&task.prompt, dealing.prompt.get(d));
                let suffix = within(&task.suffix, dealing.suffix.get(d));
                for from in (0..prompt.len() + suffix.len()).step_by(length) {
                    let (prompt, suffix) = cut(&prompt, &suffix, from, length);
                    items.push(Item { rows: task.rows.clone(), part: parts[task.rows.start], prompt, suffix });
                    parts[task.rows.clone()].iter_mut().for_each(|parts| *parts += 1);
                }
            }
        }
        // what reads the same tokens runs at the same time
        let order = |item: &Item| (item.prompt.is_empty(), item.prompt.start, item.rows.start);
        dispatches.iter_mut().for_each(|items| items.sort_by_key(order));
        Plan { dispatches, parts }
    }
}

/// Rows and all the tokens they are to attend to together, or one row its own.
struct Task {
    rows: Range<usize>,
    prompt: Range<usize>,
    suffix: Range<usize>,
}

/// Shared prompts before what rows have of their own: rows that share an item have as many parts before it.
fn tasks(list: &[DecodeRow], dealing: &Dealing) -> Vec<Task> {
    let (mut shared, mut own) = (vec![], vec![]);
    let mut first = 0;
    for run in list.chunk_by(|a, b| a.prompt() == b.prompt()) {
        let prompt = run[0].prompt();
        let shares = dealing.rows > 1 && run.len() > 1 && prompt.len() >= SHORTEST;
        let rest = if shares { 0..0 } else { prompt.clone() };
        own.extend((first..).zip(run).map(|(r, row)| Task {
            rows: r..r + 1,
            prompt: rest.clone(),
            suffix: row.suffix(dealing.capacity),
        }));
        if shares {
            let rows = pieces(first..first + run.len(), dealing.rows);
            shared.extend(rows.map(|rows| Task { rows, prompt: prompt.clone(), suffix: 0..0 }));
        }
        first += run.len();
    }
    shared.extend(own);
    shared
}

/// What of `tokens` is in a piece, counted from its beginning.
fn within(tokens: &Range<usize>, piece: Option<&Range<usize>>) -> Range<usize> {
    let Some(piece) = piece else { return 0..0 };
    let (start, end) = (tokens.start.max(piece.start), tokens.end.min(piece.end));
    if start < end { start - piece.start..end - piece.start } else { 0..0 }
}

/// `length` tokens from the `from`-th on of a prompt and a suffix one after the other.
fn cut(prompt: &Range<usize>, suffix: &Range<usize>, from: usize, length: usize) -> (Range<usize>, Range<usize>) {
    let part = |of: &Range<usize>, before: usize| {
        let inside = |at: usize| of.start + at.saturating_sub(before).min(of.len());
        inside(from)..inside(from + length)
    };
    (part(prompt, 0), part(suffix, prompt.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(prompt: Range<u32>, slot: u32, suffix_len: u32) -> DecodeRow {
        DecodeRow { prompt_start: prompt.start, prompt_len: prompt.end - prompt.start, slot, suffix_len }
    }

    /// Pieces one after the other, from their ends.
    fn pieces(ends: &[usize]) -> Vec<Range<usize>> {
        let starts = std::iter::once(&0).chain(ends);
        starts.zip(ends).map(|(&start, &end)| start..end).collect()
    }

    /// The tokens each row attends to according to a plan: prompts, and slots from a million on.
    fn attended(plan: &Plan, dealing: &Dealing) -> Vec<Vec<usize>> {
        let mut found = vec![vec![]; plan.parts.len()];
        let mut parts = vec![vec![]; plan.parts.len()];
        for (d, items) in plan.dispatches.iter().enumerate() {
            let start = |pieces: &[Range<usize>]| pieces.get(d).map_or(0, |piece| piece.start);
            for item in items {
                assert!(!item.prompt.is_empty() || !item.suffix.is_empty());
                for r in item.rows.clone() {
                    found[r].extend(item.prompt.clone().map(|t| t + start(dealing.prompt)));
                    found[r].extend(item.suffix.clone().map(|t| t + start(dealing.suffix) + 1_000_000));
                    parts[r].push(item.part);
                }
            }
        }
        for (parts, count) in parts.iter_mut().zip(&plan.parts) {
            parts.sort_unstable();
            assert_eq!(*parts, (0..*count).collect::<Vec<_>>());
        }
        found.iter_mut().for_each(|tokens| tokens.sort_unstable());
        found
    }

    #[test]
    fn every_row_attends_to_each_of_its_tokens_once_in_one_piece_and_in_several() {
        let list = [row(0..300, 2, 70), row(0..300, 0, 1), row(0..300, 3, 0), row(300..310, 1, 5), row(0..0, 4, 99)];
        let expected: Vec<Vec<usize>> =
            list.iter().map(|r| r.prompt().chain(r.suffix(100).map(|t| t + 1_000_000)).collect()).collect();
        for rows in [1, 2, 4] {
            for (prompt, suffix) in [(&[310][..], &[500][..]), (&[128, 256, 310], &[500]), (&[310], &[192, 384, 500])] {
                let (prompt, suffix) = (pieces(prompt), pieces(suffix));
                let dealing = Dealing { capacity: 100, groups: 8, rows, prompt: &prompt, suffix: &suffix };
                let plan = Plan::new(&list, &dealing);
                assert_eq!(attended(&plan, &dealing), expected);
                let shared = plan.dispatches.iter().flatten().filter(|item| item.rows.len() > 1).count();
                assert_eq!(shared > 0, rows > 1);
            }
        }
    }

    #[test]
    fn few_long_rows_are_cut_short_and_others_are_whole() {
        let tokens = |rows: u32, prompt: u32| {
            let list: Vec<DecodeRow> = (0..rows).map(|r| row(r * prompt..(r + 1) * prompt, r, 128)).collect();
            let (prompt, suffix) = (pieces(&[(prompt * rows) as usize]), pieces(&[128 * rows as usize]));
            let dealing = Dealing { capacity: 128, groups: 8, rows: 4, prompt: &prompt, suffix: &suffix };
            let plan = Plan::new(&list, &dealing);
            assert!(plan.parts.iter().all(|&parts| parts == plan.parts[0]));
            plan.parts[0]
        };
        assert_eq!(tokens(1, 2048), 34);
        assert_eq!(tokens(64, 2048), 7);
        assert_eq!(tokens(512, 2048), 1);
        // short ones are not worth a second launch
        assert_eq!([tokens(1, 128), tokens(1, 129), tokens(64, 128)], [1, 5, 1]);
    }
}
