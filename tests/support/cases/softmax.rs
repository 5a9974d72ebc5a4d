use super::{Case, sum_tolerance};

pub fn cases() -> Vec<Case> {
    let row = |rows: usize, cols: usize, scale: f64| Case {
        name: format!("softmax ({rows}, {cols}) scale {scale}"),
        inputs: vec![[rows, cols].into()],
        scale,
        tolerance: sum_tolerance(cols),
        run: Box::new(|_, tape, x| gr2::ops::softmax(tape, &x[0])),
    };
    // one element, fewer columns than lanes, an odd length past the workgroup, logits that overflow a naive exp
    vec![row(1, 1, 1.0), row(3, 5, 2.0), row(2, 300, 3.0), row(4, 17, 150.0)]
}
