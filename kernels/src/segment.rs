//! Sums of rows that share a key: scatter-add without atomics, the same on every run and device.
//!
//! The host sorts row numbers by key. One task per key adds its rows in order; a key with many rows is added up in
//! chunks first, whose sums are the rows of a next, shorter round.

use crate::buffer::{Buffer, Float};
use crate::device::{Access, Device, Gpu, Kernel, split_rows};
use crate::elementwise::ELEMENT_WIDTH;
use crate::error::{Error, Result};
use crate::profile;

pub(crate) static SUM: Kernel = Kernel {
    name: "segment.sum",
    sources: &[include_str!("../../shaders/common/grid.wgsl"), include_str!("../../shaders/segment.wgsl")],
    entry: "sum",
    bindings: &[Access::Read, Access::Read, Access::Read, Access::Write],
    constants: &[ELEMENT_WIDTH],
    params: size_of::<Params>(),
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    records: u32,
    skip: u32,
    cols: u32,
    first: u32,
    base: u32,
}

/// Rows that one task adds up at most.
const CHUNK: usize = 64;

/// Row numbers sorted by key.
#[derive(Debug, Clone)]
pub struct Groups {
    members: Vec<u32>,
    /// One per key that occurs, keys ascending: a span of `members`.
    segments: Vec<Record>,
    keys: usize,
}

/// `y[target] = weight Σ x[members[start..end]]`, as the shader reads it.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Record {
    start: u32,
    end: u32,
    target: u32,
    weight: f32,
}

impl Groups {
    /// Groups rows 0, 1, … by their keys, each below `count`.
    ///
    /// Errors: `Shape` naming the row for a key that is not.
    pub fn by_key(keys: &[u32], count: usize) -> Result<Groups> {
        if let Some(row) = keys.iter().position(|k| *k as usize >= count) {
            return Err(Error::shape("segments", format!("row {row} has key {} of {count}", keys[row])));
        }
        let mut sorted: Vec<u64> = (0u64..).zip(keys).map(|(row, key)| (*key as u64) << 32 | row).collect();
        sorted.sort_unstable();
        let mut segments: Vec<Record> = vec![];
        for (i, entry) in (0u32..).zip(&sorted) {
            let target = (entry >> 32) as u32;
            match segments.last_mut().filter(|s| s.target == target) {
                Some(segment) => segment.end = i + 1,
                None => segments.push(Record { start: i, end: i + 1, target, weight: 1.0 }),
            }
        }
        Ok(Groups { members: sorted.into_iter().map(|entry| entry as u32).collect(), segments, keys: count })
    }

    /// The same groups, that of `key` left empty.
    pub fn without(mut self, key: u32) -> Groups {
        self.segments.retain(|s| s.target != key);
        self
    }

    /// How many rows each key has (N).
    pub fn counts(&self) -> Vec<u32> {
        let mut counts = vec![0; self.keys];
        for s in &self.segments {
            counts[s.target as usize] = s.end - s.start;
        }
        counts
    }
}

/// `y[k] = Σ x[r]` over the rows `r` with key `k`; zero for keys without rows.
///
/// Shapes: `x` (R, C), R the number of keys grouped, C `cols`; `y` (N, C). Dtypes: f32; f64 on the CPU.
/// Errors: `Shape`, `Dtype`.
pub fn sum(x: &Buffer, groups: &Groups, cols: usize) -> Result<Buffer> {
    reduce("segment_sum", x, groups, groups.segments.clone(), cols)
}

/// As [`sum`], divided by the number of rows.
pub fn mean(x: &Buffer, groups: &Groups, cols: usize) -> Result<Buffer> {
    let average = |s: &Record| Record { weight: 1.0 / (s.end - s.start) as f32, ..*s };
    reduce("segment_mean", x, groups, groups.segments.iter().map(average).collect(), cols)
}

fn reduce(op: &'static str, x: &Buffer, groups: &Groups, segments: Vec<Record>, cols: usize) -> Result<Buffer> {
    let _span = profile::span(op);
    x.expect_float(op, "x")?;
    x.expect_len(op, "x", groups.members.len() * cols)?;
    let mut y = Buffer::zeros(x.device(), op, x.dtype(), groups.keys * cols)?;
    let (mut source, mut members, mut segments) = (x.clone(), groups.members.clone(), segments);
    while !segments.is_empty() {
        let round = Round::new(&segments, &members, piece_rows(op, &source, cols)?);
        add(op, &source, &members, round.whole, cols, &mut y)?;
        let parts = round.parts.len();
        let mut partial = Buffer::uninit(x.device(), op, x.dtype(), parts * cols)?;
        add(op, &source, &members, round.parts, cols, &mut partial)?;
        (source, members, segments) = (partial, (0..parts as u32).collect(), round.next);
    }
    Ok(y)
}

/// Rows of a (rows, cols) operand that fit one binding.
fn piece_rows(op: &'static str, x: &Buffer, cols: usize) -> Result<usize> {
    let Device::Gpu(gpu) = x.device() else { return Ok(usize::MAX) };
    let pieces = split_rows(op, x.len() / cols.max(1), &[cols * 4], gpu.max_binding())?;
    Ok(pieces.first().map_or(usize::MAX, |p| p.len()))
}

/// What one round does: segments short enough to add up at once, and the chunks of the others with the segments of
/// those chunks' sums.
#[derive(Default)]
struct Round {
    whole: Vec<Record>,
    parts: Vec<Record>,
    next: Vec<Record>,
}

impl Round {
    fn new(segments: &[Record], members: &[u32], piece: usize) -> Round {
        let mut round = Round::default();
        for s in segments {
            let first = round.parts.len() as u32;
            let mut start = s.start;
            while start < s.end {
                let of = members[start as usize] as usize / piece;
                let limit = s.end.min(start + CHUNK as u32);
                // members of a segment ascend, so those in one piece of the source are neighbours
                let end = (start..limit).find(|j| members[*j as usize] as usize / piece != of).unwrap_or(limit);
                if start == s.start && end == s.end {
                    round.whole.push(*s);
                } else {
                    round.parts.push(Record { start, end, target: round.parts.len() as u32, weight: 1.0 });
                }
                start = end;
            }
            let last = round.parts.len() as u32;
            if last > first {
                round.next.push(Record { start: first, end: last, ..*s });
            }
        }
        round
    }
}

/// Adds up records, whose targets ascend, into their rows of `y`.
fn add(op: &'static str, x: &Buffer, members: &[u32], records: Vec<Record>, cols: usize, y: &mut Buffer) -> Result<()> {
    if records.is_empty() || cols == 0 {
        return Ok(());
    }
    match x.device() {
        Device::Cpu => match x.expect_float(op, "x")? {
            Float::Single => cpu::add::<f32>(x.as_slice(), members, &records, cols, y.as_mut_slice()),
            Float::Double => cpu::add::<f64>(x.as_slice(), members, &records, cols, y.as_mut_slice()),
        },
        Device::Gpu(gpu) => add_on_gpu(op, gpu, x, members, records, cols, y)?,
    }
    Ok(())
}

fn add_on_gpu(
    op: &'static str,
    gpu: &Gpu,
    x: &Buffer,
    members: &[u32],
    mut records: Vec<Record>,
    cols: usize,
    y: &Buffer,
) -> Result<()> {
    let (x_rows, y_rows) = (piece_rows(op, x, cols)?, piece_rows(op, y, cols)?);
    let place = |r: &Record| (members[r.start as usize] as usize / x_rows, r.target as usize / y_rows);
    records.sort_by_key(place);
    let member_buffer = Buffer::from_slice(x.device(), members)?;
    let record_buffer = Buffer::from_slice::<u32>(x.device(), bytemuck::cast_slice(&records))?;
    let mut skip = 0;
    for run in records.chunk_by(|a, b| place(a) == place(b)) {
        let (from, to) = place(&run[0]);
        let (first, base) = (from * x_rows, to * y_rows);
        let span = |b: &Buffer, start: usize, rows: usize| start * cols..b.len().min((start + rows) * cols);
        let params =
            Params { records: run.len() as u32, skip, cols: cols as u32, first: first as u32, base: base as u32 };
        let binds = [
            x.bind(span(x, first, x_rows)),
            member_buffer.bind_all(),
            record_buffer.bind_all(),
            y.bind(span(y, base, y_rows)),
        ];
        gpu.run(&SUM, &binds, &params, (run.len() * cols).div_ceil(ELEMENT_WIDTH.on(gpu)) as u64)?;
        skip += run.len() as u32;
    }
    Ok(())
}

mod cpu {
    use super::Record;
    use crate::real::{Real, axpy, simd};
    use rayon::prelude::*;

    pub fn add<T: Real>(x: &[T], members: &[u32], records: &[Record], cols: usize, y: &mut [T]) {
        let mut rows = Vec::with_capacity(records.len());
        let (mut rest, mut at) = (y, 0);
        for record in records {
            let (_, from) = rest.split_at_mut((record.target as usize - at) * cols);
            let (row, after) = from.split_at_mut(cols);
            rows.push((row, record));
            (rest, at) = (after, record.target as usize + 1);
        }
        let grain = (8 << 10) / cols + 1;
        rows.into_par_iter().with_min_len(grain).for_each(|(y, record)| {
            simd(
                #[inline(always)]
                || {
                    y.fill(T::zero());
                    for member in &members[record.start as usize..record.end as usize] {
                        axpy(T::one(), &x[*member as usize * cols..][..cols], y);
                    }
                    if record.weight != 1.0 {
                        let weight = T::of(record.weight as f64);
                        for y in y.iter_mut() {
                            *y *= weight;
                        }
                    }
                },
            )
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_means_by_key_with_long_and_missing_groups() {
        // key 1 has 64 * 64 + 3 rows, so three rounds; key 2 none
        let rows = CHUNK * CHUNK + 5;
        let keys: Vec<u32> = (0..rows).map(|r| if r == 7 { 3 } else { (r != 9) as u32 }).collect();
        let x: Vec<f64> = (0..rows * 2).map(|i| i as f64).collect();
        let x = Buffer::from_slice(&Device::Cpu, &x).unwrap();
        let groups = Groups::by_key(&keys, 4).unwrap();
        assert_eq!(groups.counts(), [1, rows as u32 - 2, 0, 1]);
        let total = |offset: usize| (0..rows).map(|r| (2 * r + offset) as f64).sum::<f64>();
        let others = |offset: usize| (14 + 18 + 2 * offset) as f64;
        let one = [total(0) - others(0), total(1) - others(1)];
        let y = sum(&x, &groups, 2).unwrap().to_vec::<f64>().unwrap();
        assert_eq!(y, [18.0, 19.0, one[0], one[1], 0.0, 0.0, 14.0, 15.0]);
        let y = mean(&x, &groups, 2).unwrap().to_vec::<f64>().unwrap();
        let count = (rows - 2) as f64;
        assert!((y[2] - one[0] / count).abs() < 1e-6 * y[2] && y[0] == 18.0 && y[4] == 0.0);
    }

    #[test]
    fn rounds_break_segments_at_the_pieces_of_a_split_source() {
        let segment = |start, end, target| Record { start, end, target, weight: 1.0 };
        let round = Round::new(&[segment(0, 2, 5), segment(2, 5, 9)], &[0, 3, 1, 4, 6], 4);
        let spans = |r: &[Record]| r.iter().map(|r| (r.start, r.end, r.target)).collect::<Vec<_>>();
        assert_eq!(spans(&round.whole), [(0, 2, 5)]);
        assert_eq!(spans(&round.parts), [(2, 3, 0), (3, 5, 1)]);
        assert_eq!(spans(&round.next), [(0, 2, 9)]);
    }

    #[test]
    fn a_key_past_the_count_names_its_row() {
        let message = Groups::by_key(&[0, 5], 5).unwrap_err().to_string();
        assert_eq!(message, "segments: row 1 has key 5 of 5");
    }
}
