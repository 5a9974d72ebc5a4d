use super::{Case, sum_tolerance};

pub fn cases() -> Vec<Case> {
    let embed = |rows: usize, cols: usize, ids: Vec<u32>| Case {
        name: format!("embedding ({rows}, {cols}) of {}", ids.len()),
        inputs: vec![[rows, cols].into()],
        scale: 1.0,
        tolerance: sum_tolerance(ids.len()),
        run: Box::new(move |_, tape, x| gr2::ops::embedding(tape, &x[0], &ids, None)),
    };
    let picked = Case {
        name: "gather_rows (5, 3), backwards".to_string(),
        inputs: vec![[5, 3].into()],
        scale: 1.0,
        tolerance: sum_tolerance(1),
        run: Box::new(|_, tape, x| gr2::ops::gather_rows(tape, &x[0], &[4, 3, 0])),
    };
    let by_four = Case {
        name: "gather_rows (5, 132)".to_string(),
        inputs: vec![[5, 132].into()],
        scale: 1.0,
        tolerance: sum_tolerance(2),
        run: Box::new(|_, tape, x| gr2::ops::gather_rows(tape, &x[0], &[4, 0, 2, 2])),
    };
    // one row, repeats and unused rows, an id frequent enough for two rounds of sums
    vec![
        embed(1, 1, vec![0]),
        embed(7, 5, vec![6, 0, 6, 3, 3, 3]),
        embed(4, 9, (0..200).map(|i| if i % 17 == 0 { 3 } else { 1 }).collect()),
        picked,
        by_four,
    ]
}
