use super::*;
use crate::check::{central_differences, numbers};

/// Every kind of packing: one token, odd lengths, several segments, a prompt with three responses (one of them apart).
fn packings() -> Vec<Segments> {
    let segment = |start, len, prefix_start, prefix_len| Segment { start, len, prefix_start, prefix_len };
    let shared = vec![
        segment(0, 3, 0, 0),
        segment(3, 5, 0, 0),
        segment(8, 2, 3, 5),
        segment(10, 4, 3, 5),
        segment(14, 1, 0, 0),
        segment(15, 3, 3, 5),
    ];
    vec![
        Segments::single(1).unwrap(),
        Segments::single(13).unwrap(),
        Segments::packed(&[4, 1, 7, 2]).unwrap(),
        Segments::new(shared, 18).unwrap(),
    ]
}

const GROUPINGS: [Heads; 3] =
    [Heads { query: 4, kv: 2, dim: 6 }, Heads { query: 6, kv: 2, dim: 3 }, Heads { query: 1, kv: 1, dim: 5 }];

fn lengths(segments: &Segments, heads: Heads) -> [usize; 3] {
    [heads.query, heads.kv, heads.kv].map(|n| segments.tokens() * n * heads.dim)
}

pub(super) fn operands<'a>(x: &'a [Buffer], segments: &'a Segments, heads: Heads) -> Operands<'a> {
    Operands { q: &x[0], k: &x[1], v: &x[2], segments, heads, scale: heads.scale() }
}

pub(super) fn upload<T: Real>(device: &Device, x: &[Vec<f64>]) -> Vec<Buffer> {
    let rounded = |x: &Vec<f64>| x.iter().map(|&x| T::of(x)).collect::<Vec<T>>();
    x.iter().map(|x| Buffer::from_slice(device, &rounded(x)).unwrap()).collect()
}

pub(super) fn random(segments: &Segments, heads: Heads, size: f64) -> Vec<Vec<f64>> {
    let x = lengths(segments, heads).into_iter().zip(1..);
    x.map(|(len, seed)| numbers(seed, len).iter().map(|x| size * x).collect()).collect()
}

fn sees(segments: &Segments, query: usize, key: usize) -> bool {
    let own = segments.list().iter().find(|s| s.tokens().contains(&query)).unwrap();
    own.prefix().contains(&key) || (own.tokens().contains(&key) && key <= query)
}

/// Softmax over a dense mask, and its gradients by the chain rule, in f64: out, dq, dk, dv.
pub(super) fn dense(x: &[Vec<f64>], dout: &[f64], segments: &Segments, heads: Heads) -> [Vec<f64>; 4] {
    dense_of(x, dout, segments, heads, |term| term)
}

/// [`dense`] with `term` of every term of its sums behind the softmax.
pub(super) fn dense_of(
    x: &[Vec<f64>],
    dout: &[f64],
    segments: &Segments,
    heads: Heads,
    term: fn(f64) -> f64,
) -> [Vec<f64>; 4] {
    let (tokens, dim) = (segments.tokens(), heads.dim);
    let mut y = [dout, &x[0], &x[1], &x[2]].map(|like| vec![0.0; like.len()]);
    let at = |t: usize, n: usize, h: usize| (t * n + h) * dim..(t * n + h + 1) * dim;
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let dot_terms = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| term(a * b)).sum::<f64>();
    for h in 0..heads.query {
        let g = h / heads.group();
        for t in 0..tokens {
            let (row, keys) = (at(t, heads.query, h), (0..tokens).filter(|&s| sees(segments, t, s)));
            let keys: Vec<_> = keys.map(|s| at(s, heads.kv, g)).collect();
            let scores: Vec<f64> =
                keys.iter().map(|s| heads.scale() * dot(&x[0][row.clone()], &x[1][s.clone()])).collect();
            let largest = scores.iter().copied().fold(f64::MIN, f64::max);
            let total: f64 = scores.iter().map(|s| (s - largest).exp()).sum();
            let p: Vec<f64> = scores.iter().map(|s| (s - largest).exp() / total).collect();
            for (p, s) in p.iter().zip(&keys) {
                for d in 0..dim {
                    y[0][row.start + d] += term(p * x[2][s.start + d]);
                }
            }
            let delta = dot_terms(&y[0][row.clone()], &dout[row.clone()]);
            for (p, s) in p.iter().zip(&keys) {
                let ds = heads.scale() * p * (dot_terms(&dout[row.clone()], &x[2][s.clone()]) + term(-delta));
                for d in 0..dim {
                    y[1][row.start + d] += term(ds * x[1][s.start + d]);
                    y[2][s.start + d] += term(ds * x[0][row.start + d]);
                    y[3][s.start + d] += term(p * dout[row.start + d]);
                }
            }
        }
    }
    y
}

/// out, dq, dk and dv of the kernels.
fn computed<T: Real>(
    device: &Device,
    x: &[Vec<f64>],
    dout: &[f64],
    segments: &Segments,
    heads: Heads,
) -> [Vec<f64>; 4] {
    let buffers = upload::<T>(device, x);
    let x = operands(&buffers, segments, heads);
    let y = forward(&x).unwrap();
    let dout = upload::<T>(device, &[dout.to_vec()]).remove(0);
    let g = backward(&x, &y, &dout).unwrap();
    [y.out, g.dq, g.dk, g.dv].map(|b| b.to_vec::<T>().unwrap().iter().map(|x| x.wide()).collect())
}

fn assert_near(what: &str, found: &[Vec<f64>; 4], expected: &[Vec<f64>; 4], tolerance: f64) {
    for (name, (found, expected)) in ["out", "dq", "dk", "dv"].into_iter().zip(found.iter().zip(expected)) {
        let scale = expected.iter().fold(1.0f64, |m, e| m.max(e.abs()));
        for (i, (f, e)) in found.iter().zip(expected).enumerate() {
            assert!((f - e).abs() <= tolerance * scale, "{what}: {name}[{i}]: found {f} expected {e}");
        }
    }
}

#[test]
fn every_packing_equals_a_dense_mask() {
    for segments in packings() {
        for heads in GROUPINGS {
            let x = random(&segments, heads, 1.5);
            let dout = numbers(9, x[0].len());
            let what = format!("{segments:?} {heads:?}");
            let expected = dense(&x, &dout, &segments, heads);
            assert_near(&what, &computed::<f64>(&Device::Cpu, &x, &dout, &segments, heads), &expected, 1e-13);
            // √(13 · 6) products of f32 and the exponential
            assert_near(&what, &computed::<f32>(&Device::Cpu, &x, &dout, &segments, heads), &expected, 3e-6);
        }
    }
}

#[test]
fn scores_beyond_the_range_of_exp_and_many_tiles_equal_a_dense_mask() {
    let heads = Heads { query: 2, kv: 1, dim: 4 };
    let prompt = Segment { start: 0, len: 300, prefix_start: 0, prefix_len: 0 };
    let response = Segment { start: 300, len: 290, prefix_start: 0, prefix_len: 300 };
    let segments = Segments::new(vec![prompt, response], 590).unwrap();
    for size in [1.0, 40.0] {
        let x = random(&segments, heads, size);
        let dout = numbers(9, x[0].len());
        let expected = dense(&x, &dout, &segments, heads);
        assert_near("tiles", &computed::<f64>(&Device::Cpu, &x, &dout, &segments, heads), &expected, 1e-11);
    }
}

/// Keys whose rows are 2048 bytes apart, in two blocks.
#[test]
fn keys_that_collide_in_a_cache_equal_a_dense_mask() {
    let heads = Heads { query: 4, kv: 4, dim: 64 };
    let segments = Segments::packed(&[3, 70]).unwrap();
    let x = random(&segments, heads, 1.0);
    let dout = numbers(4, x[0].len());
    let found = computed::<f64>(&Device::Cpu, &x, &dout, &segments, heads);
    assert_near("collisions", &found, &dense(&x, &dout, &segments, heads), 1e-12);
}

#[test]
fn backward_equals_central_differences() {
    let segments = &packings()[3];
    let heads = Heads { query: 2, kv: 1, dim: 3 };
    central_differences(
        &lengths(segments, heads),
        |x| Ok(forward(&operands(x, segments, heads))?.out),
        |x, dout| {
            let x = operands(x, segments, heads);
            let g = backward(&x, &forward(&x)?, dout)?;
            Ok(vec![g.dq, g.dk, g.dv])
        },
    );
}

#[test]
fn a_shared_prompt_equals_a_prompt_repeated_before_every_response() {
    let heads = Heads { query: 4, kv: 2, dim: 8 };
    let (prompt, responses) = (70usize, [5usize, 90, 1]);
    let (mut list, mut repeated) = (vec![Segment { start: 0, len: 70, prefix_start: 0, prefix_len: 0 }], vec![]);
    let mut end = prompt;
    for len in responses {
        list.push(Segment { start: end as u32, len: len as u32, prefix_start: 0, prefix_len: 70 });
        // where each token of the repeated packing comes from
        repeated.extend((0..prompt).chain(end..end + len));
        end += len;
    }
    let shared = Segments::new(list, end).unwrap();
    let unshared = Segments::packed(&responses.map(|len| prompt + len)).unwrap();
    let x = random(&shared, heads, 1.0);
    let rows = |x: &[f64], width: usize| -> Vec<f64> {
        repeated.iter().flat_map(|&t| x[t * width..(t + 1) * width].to_vec()).collect()
    };
    let copies = vec![rows(&x[0], heads.q_width()), rows(&x[1], heads.kv_width()), rows(&x[2], heads.kv_width())];
    // the loss counts each response once and the prompt in one of its copies only
    let mut dout = numbers(9, copies[0].len());
    let first_copy = prompt + responses[0];
    for (i, &from) in repeated.iter().enumerate() {
        if from < prompt && i >= first_copy {
            dout[i * heads.q_width()..(i + 1) * heads.q_width()].fill(0.0);
        }
    }
    let fold = |copies: &[f64], width: usize| -> Vec<f64> {
        let mut sum = vec![0.0; end * width];
        for (i, &to) in repeated.iter().enumerate() {
            (0..width).for_each(|c| sum[to * width + c] += copies[i * width + c]);
        }
        sum
    };
    let [out, dq, dk, dv] = computed::<f64>(&Device::Cpu, &copies, &dout, &unshared, heads);
    let found = computed::<f64>(&Device::Cpu, &x, &fold(&dout, heads.q_width()), &shared, heads);
    assert_near(
        "shared",
        &[rows(&found[0], heads.q_width()), vec![], vec![], vec![]],
        &[out, vec![], vec![], vec![]],
        1e-13,
    );
    let expected = [vec![], fold(&dq, heads.q_width()), fold(&dk, heads.kv_width()), fold(&dv, heads.kv_width())];
    let [_, dq, dk, dv] = found;
    assert_near("shared", &[vec![], dq, dk, dv], &expected, 1e-12);
}

#[test]
fn empty_batches_and_empty_heads_give_empty_results() {
    for (tokens, heads) in [(0, GROUPINGS[0]), (3, Heads { query: 2, kv: 1, dim: 0 })] {
        let segments = Segments::single(tokens).unwrap();
        let x = random(&segments, heads, 1.0);
        let y = computed::<f32>(&Device::Cpu, &x, &[], &segments, heads);
        assert!(y.iter().all(Vec::is_empty));
    }
}

#[test]
fn wrong_sizes_are_refused() {
    let segments = Segments::single(2).unwrap();
    let heads = Heads { query: 3, kv: 2, dim: 1 };
    let x = upload::<f32>(&Device::Cpu, &random(&segments, heads, 1.0));
    let refusal = |heads| forward(&operands(&x, &segments, heads)).unwrap_err().to_string();
    assert_eq!(refusal(heads), "attention: 3 query heads over 2 key/value heads");
    assert_eq!(refusal(Heads { query: 4, kv: 2, dim: 1 }), "attention: q has 6 elements, its shape needs 8");
}

/// Pieces of both axes, with the smallest bindings that the alignment of 64 rows allows; output columns past one
/// dispatch.
#[test]
fn pieces_of_a_gpus_bindings_give_what_the_twin_gives() {
    let Some((device, gpu)) = crate::check::gpu("attention") else { return };
    let heads = Heads { query: 2, kv: 1, dim: 132 };
    let prompt = Segment { start: 0, len: 100, prefix_start: 0, prefix_len: 0 };
    let response = Segment { start: 100, len: 40, prefix_start: 0, prefix_len: 100 };
    let segments = Segments::new(vec![prompt, response], 140).unwrap();
    let x = random(&segments, heads, 1.0);
    let dout = numbers(9, x[0].len());
    let expected = dense(&x, &dout, &segments, heads);
    let (buffers, dout) = (upload::<f32>(&device, &x), upload::<f32>(&device, &[dout]).remove(0));
    let operands = operands(&buffers, &segments, heads);
    let like = |b: &Buffer| Buffer::uninit(&device, "test", b.dtype(), b.len()).unwrap();
    let y = Attended { out: like(&buffers[0]), lse: Buffer::uninit(&device, "test", crate::Dtype::F32, 280).unwrap() };
    let g = Gradients { dq: like(&buffers[0]), dk: like(&buffers[1]), dv: like(&buffers[2]) };
    let limit = 64 * heads.q_width() as u64 * 4;
    gpu::forward(&gpu, &operands, &y, limit).unwrap();
    gpu::backward(&gpu, &operands, &y, &dout, &g, limit).unwrap();
    let found = [y.out, g.dq, g.dk, g.dv].map(|b| b.to_vec::<f32>().unwrap().iter().map(|&x| x as f64).collect());
    assert_near("pieces", &found, &expected, 5e-6);
}
