use super::super::tests::{dense, operands, random, upload};
use super::super::{Heads, Operands, Segment, Segments, forward};
use super::kernels;
use crate::Device;
use crate::check::{gpu, numbers};

/// A GPU with matrices, or nothing and a line that says so.
fn matrices(test: &str) -> Option<Device> {
    let (device, gpu) = gpu(test)?;
    if gpu.cooperative().is_none() {
        println!("{test}: skipped, no matrices of f16 with sums of f32");
        return None;
    }
    Some(device)
}

/// One segment, several of odd lengths, and a prompt with responses of which one is apart.
fn packings() -> Vec<Segments> {
    let segment = |start, len, prefix_start, prefix_len| Segment { start, len, prefix_start, prefix_len };
    let shared = vec![
        segment(0, 7, 0, 0),
        segment(7, 75, 0, 0),
        segment(82, 33, 7, 75),
        segment(115, 1, 7, 75),
        segment(116, 20, 0, 0),
        segment(136, 70, 7, 75),
    ];
    vec![
        Segments::single(1).unwrap(),
        Segments::single(203).unwrap(),
        Segments::packed(&[64, 1, 33, 0, 90]).unwrap(),
        Segments::new(shared, 206).unwrap(),
    ]
}

/// The largest error, as a part of the largest expected value.
fn error(found: &[f64], expected: &[f64]) -> f64 {
    let scale = expected.iter().fold(f64::MIN_POSITIVE, |m, e| m.max(e.abs()));
    assert_eq!(found.len(), expected.len());
    let worst = |m: f64, (f, e): (&f64, &f64)| if f.is_finite() { m.max((f - e).abs()) } else { f64::INFINITY };
    found.iter().zip(expected).fold(0.0, worst) / scale
}

fn log_sum_exp(x: &[Vec<f64>], segments: &Segments, heads: Heads) -> Vec<f64> {
    let device = Device::Cpu;
    let buffers = upload::<f64>(&device, x);
    forward(&operands(&buffers, segments, heads)).unwrap().lse.to_vec::<f64>().unwrap()
}

fn assert_near(what: &str, device: &Device, x: &[Vec<f64>], segments: &Segments, heads: Heads, tolerance: f64) {
    let dout = numbers(9, x[0].len());
    let [out, ..] = dense(x, &dout, segments, heads);
    let buffers = upload::<f32>(device, x);
    let x_gpu = Operands { half: true, ..operands(&buffers, segments, heads) };
    let Device::Gpu(gpu) = device else { panic!("a GPU") };
    assert!(kernels(gpu, &x_gpu, gpu.max_binding()).is_some(), "{what}: has kernels");
    let y = forward(&x_gpu).unwrap();
    let wide = |b: &crate::Buffer| b.to_vec::<f32>().unwrap().iter().map(|&x| x as f64).collect::<Vec<_>>();
    let results = [("out", wide(&y.out), out), ("lse", wide(&y.lse), log_sum_exp(x, segments, heads))];
    for (name, found, expected) in results {
        let error = error(&found, &expected);
        println!("{what}: {name} {error:.1e}");
        assert!(error < tolerance, "{what}: {name}: error {error:.1e} of the largest value");
    }
}

#[test]
fn every_packing_and_grouping_equals_a_dense_mask() {
    let Some(device) = matrices("attention on matrices") else { return };
    for segments in packings() {
        for (query, kv, dim) in [(1, 1, 64), (4, 2, 64), (4, 1, 128)] {
            let heads = Heads { query, kv, dim };
            let x = random(&segments, heads, 1.0);
            assert_near(&format!("{segments:?} {heads:?}"), &device, &x, &segments, heads, 2e-3);
        }
    }
}

/// Scores that rise along the keys: the weights' base is moved at every tile, or seldom.
#[test]
fn rising_scores_equal_a_dense_mask() {
    let Some(device) = matrices("attention on matrices") else { return };
    let segments = Segments::packed(&[150, 21]).unwrap();
    for (dim, rise) in [(128, 0.5), (128, 0.05), (64, 0.02), (64, 0.5)] {
        let heads = Heads { query: 2, kv: 1, dim };
        let mut x = random(&segments, heads, 0.2);
        // the first column alone gives a score of `rise` times the key's place
        x[0].chunks_mut(dim).for_each(|row| row[0] = 4.0);
        let per_score = 1.0 / (4.0 * heads.scale());
        // in eighths, which f16 has up to 256: a rounded score of 75 would be off by more than a weight's rounding
        let place = |t: usize| (8.0 * rise * t as f64 * per_score).round() / 8.0;
        x[1].chunks_mut(dim).enumerate().for_each(|(t, row)| row[0] = place(t));
        assert_near(&format!("rise {rise}, width {dim}"), &device, &x, &segments, heads, 4e-3);
    }
}

#[test]
fn large_scores_equal_a_dense_mask() {
    let Some(device) = matrices("attention on matrices") else { return };
    let segments = Segments::packed(&[150, 21]).unwrap();
    let heads = Heads { query: 2, kv: 1, dim: 64 };
    let mut x = random(&segments, heads, 20.0);
    // what rounding leaves as it is, so that sharp weights have no error of their own
    x[..2].iter_mut().flatten().for_each(|x| *x = x.round());
    assert_near("large", &device, &x, &segments, heads, 2e-3);
}
