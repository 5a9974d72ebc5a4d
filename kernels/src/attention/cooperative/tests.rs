use super::super::tests::{dense, dense_of, operands, random, upload};
use super::super::{Heads, Segment, Segments, backward, forward};
use super::kernels;
use crate::Device;
use crate::check::{gpu_with_matrices, numbers};

/// One segment, several of odd lengths, and a prompt with responses of which one is apart.
fn packings() -> Vec<Segments> {
    let segment = |start, len, prefix_start, prefix_len| Segment { start, len, prefix_start, prefix_len };
    let shared = vec![
        segment(0, 7, 0, 0),
        segment(7, 35, 0, 0),
        segment(42, 17, 7, 35),
        segment(59, 1, 7, 35),
        segment(60, 10, 0, 0),
        segment(70, 37, 7, 35),
    ];
    vec![
        Segments::single(1).unwrap(),
        Segments::single(75).unwrap(),
        Segments::packed(&[32, 1, 17, 0, 44]).unwrap(),
        Segments::new(shared, 107).unwrap(),
    ]
}

/// Roundings to f16, of 2^-11 each at most, on the way of a term of a sum: both operands of a slope, the weight or its
/// gradient, and the other factor. A sum is off by less than this part of the sum of its terms' sizes.
const TOLERANCE: f64 = 4.0 / 2048.0;
/// For gradients of queries and keys, whose slopes are sums of at least 64 terms: roundings of either sign add up to an
/// eighth of that at the most.
const TOLERANCE_OF_SLOPES: f64 = TOLERANCE / 8.0;

/// The largest error, as a part of the largest of `sizes`.
fn error(found: &[f64], expected: &[f64], sizes: &[f64]) -> f64 {
    let scale = sizes.iter().fold(f64::MIN_POSITIVE, |m, s| m.max(s.abs()));
    assert_eq!(found.len(), expected.len());
    let worst = |m: f64, (f, e): (&f64, &f64)| if f.is_finite() { m.max((f - e).abs()) } else { f64::INFINITY };
    found.iter().zip(expected).fold(0.0, worst) / scale
}

fn log_sum_exp(x: &[Vec<f64>], segments: &Segments, heads: Heads) -> Vec<f64> {
    let device = Device::Cpu;
    let buffers = upload::<f64>(&device, x);
    forward(&operands(&buffers, segments, heads)).unwrap().lse.to_vec::<f64>().unwrap()
}

fn assert_near(what: &str, device: &Device, x: &[Vec<f64>], segments: &Segments, heads: Heads) {
    let dout = numbers(9, x[0].len());
    let [out, dq, dk, dv] = dense(x, &dout, segments, heads);
    let sizes = dense_of(x, &dout, segments, heads, f64::abs);
    let buffers = upload::<f32>(device, x);
    let x_gpu = operands(&buffers, segments, heads);
    let Device::Gpu(gpu) = device else { panic!("a GPU") };
    assert!(kernels(gpu, &x_gpu, gpu.max_binding()).is_some(), "{what}: has kernels");
    let y = forward(&x_gpu).unwrap();
    let g = backward(&x_gpu, &y, &upload::<f32>(device, &[dout]).remove(0)).unwrap();
    let wide = |b: &crate::Buffer| b.to_vec::<f32>().unwrap().iter().map(|&x| x as f64).collect::<Vec<_>>();
    let lse = log_sum_exp(x, segments, heads);
    let [out_sizes, dq_sizes, dk_sizes, dv_sizes] = sizes;
    let results = [
        ("out", &y.out, out, out_sizes, TOLERANCE),
        ("lse", &y.lse, lse.clone(), lse, TOLERANCE),
        ("dq", &g.dq, dq, dq_sizes, TOLERANCE_OF_SLOPES),
        ("dk", &g.dk, dk, dk_sizes, TOLERANCE_OF_SLOPES),
        ("dv", &g.dv, dv, dv_sizes, TOLERANCE),
    ];
    for (name, found, expected, sizes, tolerance) in results {
        let error = error(&wide(found), &expected, &sizes);
        assert!(error < tolerance, "{what}: {name}: error {error:.1e} of the largest sum");
    }
}

#[test]
fn every_packing_and_grouping_equals_a_dense_mask() {
    let Some((device, _)) = gpu_with_matrices("attention on matrix units") else { return };
    for segments in packings() {
        for (query, kv, dim) in [(1, 1, 64), (4, 2, 64), (4, 1, 128)] {
            let heads = Heads { query, kv, dim };
            let x = random(&segments, heads, 1.0);
            assert_near(&format!("{segments:?} {heads:?}"), &device, &x, &segments, heads);
        }
    }
}

/// Scores that rise along the keys: the weights' base is moved at every tile, or seldom.
#[test]
fn rising_scores_equal_a_dense_mask() {
    let Some((device, _)) = gpu_with_matrices("attention on matrix units") else { return };
    let segments = Segments::packed(&[130, 5]).unwrap();
    for (dim, rise) in [(128, 0.5), (128, 0.05), (64, 0.02), (64, 0.5)] {
        let heads = Heads { query: 2, kv: 1, dim };
        let mut x = random(&segments, heads, 0.2);
        // the first column alone gives a score of `rise` times the key's place
        x[0].chunks_mut(dim).for_each(|row| row[0] = 4.0);
        let per_score = 1.0 / (4.0 * heads.scale());
        // in eighths, which f16 has up to 256: a rounded score of 75 would be off by more than a weight's rounding
        let place = |t: usize| (8.0 * rise * t as f64 * per_score).round() / 8.0;
        x[1].chunks_mut(dim).enumerate().for_each(|(t, row)| row[0] = place(t));
        assert_near(&format!("rise {rise}, width {dim}"), &device, &x, &segments, heads);
    }
}

#[test]
fn large_scores_equal_a_dense_mask() {
    let Some((device, _)) = gpu_with_matrices("attention on matrix units") else { return };
    let segments = Segments::packed(&[130, 5]).unwrap();
    let heads = Heads { query: 2, kv: 1, dim: 64 };
    let mut x = random(&segments, heads, 20.0);
    // what rounding leaves as it is, so that sharp weights have no error of their own
    x[..2].iter_mut().flatten().for_each(|x| *x = x.round());
    assert_near("large", &device, &x, &segments, heads);
}
