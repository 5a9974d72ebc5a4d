use super::{Case, sum_tolerance};
use gr2::ops;

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    // one element; past one workgroup's span of the small and of the wide setting, with a remainder
    for len in [1, 131, 5003] {
        cases.push(Case {
            name: format!("sum ({len})"),
            inputs: vec![[len].into()],
            scale: 1.0,
            tolerance: len as f64 * sum_tolerance(1),
            run: Box::new(|_, tape, x| ops::sum(tape, &x[0])),
        });
        cases.push(Case {
            name: format!("mean squared ({len})"),
            inputs: vec![[len].into(), [len].into()],
            scale: 1.0,
            tolerance: sum_tolerance(len),
            run: Box::new(|_, tape, x| ops::mean_squared(tape, &x[0], &x[1])),
        });
    }
    // the bias gradient is a column sum: no rows, one row, more rows than one span
    for (rows, cols) in [(0, 3), (1, 1), (100, 13), (67, 516)] {
        cases.push(Case {
            name: format!("add bias ({rows}, {cols})"),
            inputs: vec![[rows, cols].into(), [cols].into()],
            scale: 1.0,
            tolerance: sum_tolerance(rows.max(1)),
            run: Box::new(|_, tape, x| ops::add_bias(tape, &x[0], &x[1])),
        });
    }
    cases
}
