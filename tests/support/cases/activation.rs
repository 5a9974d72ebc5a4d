use super::Case;
use gr2::ops;

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for (len, scale) in [(0, 1.0), (1, 1.0), (1027, 4.0), (4100, 4.0), (130, 300.0)] {
        cases.push(Case {
            name: format!("swiglu ({len}) scale {scale}"),
            inputs: vec![[len].into(), [len].into()],
            scale,
            // a few roundings, an exponential and a division
            tolerance: 4e-6,
            run: Box::new(|_, tape, x| ops::swiglu(tape, &x[0], &x[1])),
        });
        cases.push(Case {
            name: format!("relu ({len}) scale {scale}"),
            inputs: vec![[len].into()],
            scale,
            tolerance: 0.0,
            run: Box::new(|_, tape, x| ops::relu(tape, &x[0])),
        });
        cases.push(Case {
            name: format!("dropout ({len}) scale {scale}"),
            inputs: vec![[len].into()],
            scale,
            // the rounding of one product
            tolerance: 1e-7,
            run: Box::new(|_, tape, x| ops::dropout(tape, &x[0], 0.3, 0x1234_5678_9abc)),
        });
    }
    cases
}
