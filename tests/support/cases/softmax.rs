use super::{Case, sum_tolerance};

pub fn cases() -> Vec<Case> {
    let row = |rows: usize, cols: usize, scale: f64| Case {
        name: format!("softmax ({rows}, {cols}) scale {scale}"),
        inputs: vec![[rows, cols].into()],
        scale,
        tolerance: sum_tolerance(cols),
        run: Box::new(|_, tape, x| gr2::ops::softmax(tape, &x[0])),
    };
    // one element, fewer columns than lanes, rows past the workgroup, logits that overflow a naive exp
    let mut cases = vec![row(1, 1, 1.0), row(3, 5, 2.0), row(2, 300, 3.0), row(4, 17, 150.0)];
    // accesses of four and of one, rows that do not fill the last workgroup, and past one turn of a workgroup with a remainder
    cases.extend([row(7, 64, 2.0), row(13, 132, 2.0), row(1, 1027, 2.0), row(3, 2051, 2.0), row(2, 9012, 2.0)]);
    cases
}
