use super::{Case, sum_tolerance};
use gr2_kernels::attention::{Segment, Segments};

pub fn cases() -> Vec<Case> {
    let row = |name: &str, segments: Segments, heads: [usize; 3], scale: f64| {
        let [query, kv, dim] = heads;
        let tokens = segments.tokens();
        Case {
            name: format!("attention {name} ({query}/{kv}, {dim}) scale {scale}"),
            inputs: vec![[tokens, query, dim].into(), [tokens, kv, dim].into(), [tokens, kv, dim].into()],
            scale,
            // scores of size scale² √D have an error of that size, which the exponential turns into a relative one
            tolerance: sum_tolerance(tokens * query / kv) * (1.0 + scale * scale * (dim as f64).sqrt() / 8.0),
            run: Box::new(move |_, tape, x| gr2::ops::attention(tape, &x[0], &x[1], &x[2], &segments)),
        }
    };
    let packed = |lengths: &[usize]| Segments::packed(lengths).expect("lengths");
    // two prompts; the second has three responses, one of them after another sequence
    let shared = || {
        let spans = [(0, 3, 0, 0), (3, 9, 0, 0), (12, 5, 3, 9), (17, 1, 3, 9), (18, 4, 0, 0), (22, 6, 3, 9)];
        let segment = |(start, len, prefix_start, prefix_len)| Segment { start, len, prefix_start, prefix_len };
        Segments::new(spans.map(segment).to_vec(), 28).expect("segments")
    };
    vec![
        // a token alone has zero gradients of q and k, which give an error nothing to be relative to
        row("one token and two", packed(&[1, 2]), [1, 1, 24], 1.0),
        row("one sequence", packed(&[37]), [1, 1, 24], 1.0),
        row("packed", packed(&[5, 33, 1, 16]), [4, 2, 24], 1.0),
        row("shared prompt", shared(), [6, 2, 24], 2.0),
        row("shared prompt", shared(), [4, 2, 64], 1.0),
        // more columns than one dispatch of the small kernels has, and fewer in the last
        row("wide heads", packed(&[9, 4]), [2, 1, 70], 1.0),
        row("large scores", packed(&[21]), [2, 1, 24], 8.0),
    ]
}
