use super::{Case, sum_tolerance};
use gr2::ops;
use gr2::tensor::Shape;
use gr2_kernels::matmul::Layout;

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    // (batch, m, n, k): size one; odd; whole tiles; a token at a time; a longer sum
    let sizes = [(1, 1, 1, 1), (2, 9, 67, 5), (1, 64, 64, 16), (1, 3, 40, 300)];
    for (batch, m, n, k) in sizes {
        for layout in [Layout::Nn, Layout::Nt, Layout::Tn] {
            let matrix = |rows, cols| if batch == 1 { Shape::from([rows, cols]) } else { [batch, rows, cols].into() };
            let (tn, nt) = (layout == Layout::Tn, layout == Layout::Nt);
            cases.push(Case {
                name: format!("matmul {layout:?} batch {batch} m {m} n {n} k {k}"),
                inputs: vec![
                    if tn { matrix(k, m) } else { matrix(m, k) },
                    if nt { matrix(n, k) } else { matrix(k, n) },
                ],
                scale: 1.0,
                tolerance: sum_tolerance(k.max(m).max(n)),
                run: Box::new(move |_, tape, x| ops::matmul(tape, &x[0], &x[1], layout)),
            });
        }
    }
    let linear = |x: Shape, w: Shape| Case {
        name: format!("linear x {x} w {w}"),
        tolerance: sum_tolerance(x.len().max(w.len())),
        inputs: vec![x, w],
        scale: 1.0,
        run: Box::new(|_, tape, x| ops::linear(tape, &x[0], &x[1])),
    };
    // without rows, one row, several leading dimensions
    cases.extend([
        linear([0, 5].into(), [3, 5].into()),
        linear([7].into(), [5, 7].into()),
        linear([2, 3, 7].into(), [33, 7].into()),
    ]);
    cases
}
