use super::{Case, sum_tolerance};
use gr2::ops::{RopeTable, linear, norm_rope, reshape};

pub fn cases() -> Vec<Case> {
    // every query head with every key head: one result that depends on both sides
    let rotate = |positions: &'static [u32], [heads, kv_heads]: [usize; 2], width: usize| Case {
        name: format!("rope ({}, {heads} and {kv_heads}, {width})", positions.len()),
        inputs: vec![
            [positions.len(), heads, width].into(),
            [positions.len(), kv_heads, width].into(),
            [width].into(),
            [width].into(),
        ],
        scale: 1.0,
        tolerance: sum_tolerance(positions.len() * heads * width),
        run: Box::new(move |device, tape, x| {
            let table = RopeTable::new(device, width, 10_000.0, x[0].tensor().dtype())?;
            let [q, k] = norm_rope(tape, [&x[0], &x[1]], [&x[2], &x[3]], 1e-3, &table.at(positions)?)?;
            let flat = |x, heads| reshape(tape, x, [positions.len() * heads, width]);
            linear(tape, &flat(&q, heads)?, &flat(&k, kv_heads)?)
        }),
    };
    // one pair, an odd half, positions out of order and repeated as packed sequences have them, heads past one block of the
    // weights' gradient, heads past one turn of a workgroup by accesses of four and of one
    vec![
        rotate(&[0], [1, 1], 2),
        rotate(&[0, 1, 2, 0, 1, 700], [3, 2], 6),
        rotate(&[8000, 3], [2, 1], 64),
        rotate(&[5, 6, 7], [3, 1], 128),
        rotate(&[9, 8, 7, 6, 5, 4, 3, 2, 1, 0], [4, 2], 8),
        rotate(&[2, 1], [1, 2], 1104),
        rotate(&[3], [1, 1], 1030),
    ]
}
