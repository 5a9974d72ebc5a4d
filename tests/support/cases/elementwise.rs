use super::Case;
use gr2::ops;

pub fn cases() -> Vec<Case> {
    let row = |name: &str, inputs: usize, len: usize, run: super::Run| Case {
        name: format!("{name} ({len})"),
        inputs: vec![[len].into(); inputs],
        scale: 3.0,
        // one rounded operation each
        tolerance: 1e-6,
        run,
    };
    let mut cases = vec![];
    // nothing, one element, past one workgroup of either width with a remainder, by accesses of one and of four
    for len in [0, 1, 1027, 4100] {
        cases.push(row("add", 2, len, Box::new(|_, tape, x| ops::add(tape, &x[0], &x[1]))));
        cases.push(row("sub", 2, len, Box::new(|_, tape, x| ops::sub(tape, &x[0], &x[1]))));
        cases.push(row("mul", 2, len, Box::new(|_, tape, x| ops::mul(tape, &x[0], &x[1]))));
        cases.push(row("scale", 1, len, Box::new(|_, tape, x| ops::scale(tape, &x[0], -1.5))));
        // the gradient of x is a sum over its uses, made in place
        cases.push(row("add to itself", 1, len, Box::new(|_, tape, x| ops::add(tape, &x[0], &x[0]))));
    }
    cases
}
