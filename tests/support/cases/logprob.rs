use super::{Case, sum_tolerance};

pub fn cases() -> Vec<Case> {
    let case = |rows: usize, inner: usize, vocabulary: usize, scale: f64, temperature: f32| Case {
        name: format!("logprob ({rows}, {inner}) of {vocabulary}, scale {scale}, temperature {temperature}"),
        inputs: vec![[rows, inner].into(), [vocabulary, inner].into()],
        scale,
        // the error of a logit, scaled up by 1 / temperature in the exponent
        tolerance: sum_tolerance(inner.max(vocabulary)) * (scale * scale * inner as f64 / temperature as f64).max(1.0),
        run: Box::new(move |_, tape, x| {
            let targets: Vec<u32> = (0..rows).map(|r| (r * 7 % vocabulary) as u32).collect();
            Ok(gr2::ops::linear_logprob(tape, &x[0], &x[1], &targets, temperature)?.logp)
        }),
    };
    // one row, fewer columns than lanes, a wide row, a low temperature, logits up to a thousand
    let mut cases =
        vec![case(1, 1, 1, 1.0, 1.0), case(3, 5, 7, 1.0, 1.0), case(9, 33, 301, 1.0, 0.5), case(2, 10, 40, 10.0, 1.0)];
    // past one turn of a workgroup with a remainder, by accesses of one and of four
    cases.extend([case(3, 8, 2603, 1.0, 1.0), case(2, 8, 9004, 1.0, 1.0)]);
    cases
}
