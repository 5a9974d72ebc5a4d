use super::{Case, sum_tolerance};
use gr2::tensor::Shape;

const EPS: f32 = 1e-6;
/// For rows of one element, whose gradient is nothing but the part that eps leaves.
const LARGE_EPS: f32 = 0.1;

pub fn cases() -> Vec<Case> {
    let normalise = |shape: Shape, scale: f64, eps: f32| Case {
        name: format!("rms_norm {shape} scale {scale}"),
        tolerance: sum_tolerance(shape.len()),
        inputs: vec![shape.clone(), [shape.rows().1].into()],
        scale,
        run: Box::new(move |_, tape, x| gr2::ops::rms_norm(tape, &x[0], &x[1], eps)),
    };
    // the residual sum itself is used again after the norm, as a transformer block does
    let fused = |rows: usize, cols: usize| Case {
        name: format!("add_rms_norm ({rows}, {cols})"),
        tolerance: sum_tolerance(rows * cols),
        inputs: vec![[rows, cols].into(), [rows, cols].into(), [cols].into()],
        scale: 1.0,
        run: Box::new(|_, tape, x| {
            let (h, y) = gr2::ops::add_rms_norm(tape, &x[0], &x[1], &x[2], EPS)?;
            Ok(gr2::ops::add_rms_norm(tape, &h, &y, &x[2], EPS)?.1)
        }),
    };
    // single elements, fewer columns than lanes, a head's width, rows past one block of the weight gradient, large values
    vec![
        normalise([1, 1].into(), 1.0, LARGE_EPS),
        normalise([5, 3].into(), 1.0, EPS),
        normalise([3, 2, 64].into(), 1.0, EPS),
        normalise([37, 33].into(), 1.0, EPS),
        normalise([2, 1030].into(), 300.0, EPS),
        // past one turn of a workgroup with a remainder, by accesses of four and of one
        normalise([3, 4500].into(), 1.0, EPS),
        normalise([2, 2051].into(), 1.0, EPS),
        fused(3, 5),
        fused(2, 300),
        fused(2, 4500),
        fused(9, 1025),
    ]
}
