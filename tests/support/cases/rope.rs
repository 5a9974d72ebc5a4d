use super::{Case, sum_tolerance};
use gr2::ops::{RopeTable, rope};

pub fn cases() -> Vec<Case> {
    let rotate = |positions: &'static [u32], heads: usize, width: usize| Case {
        name: format!("rope ({}, {heads}, {width})", positions.len()),
        inputs: vec![[positions.len(), heads, width].into()],
        scale: 1.0,
        tolerance: sum_tolerance(2),
        run: Box::new(move |device, tape, x| {
            let table = RopeTable::new(device, width, 10_000.0, x[0].tensor().dtype())?;
            rope(tape, &x[0], &table.at(positions)?)
        }),
    };
    // one pair, an odd half, positions out of order and repeated as packed sequences have them
    vec![rotate(&[0], 1, 2), rotate(&[0, 1, 2, 0, 1, 700], 3, 6), rotate(&[8000, 3], 2, 64), rotate(&[5, 6, 7], 3, 128)]
}
