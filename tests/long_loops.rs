//! Operands whose loops are longer than some software adapters follow them: llvmpipe of Mesa 22 leaves a kernel's loops after
//! 65,535 turns. A GPU gives what the CPU gives all the same.

mod support;

use gr2_kernels::attention::{self, Heads, Operands, Segments};
use gr2_kernels::decode::{DecodeDims, DecodeRow, DecodeRows, decode};
use gr2_kernels::matmul::{Layout, Matmul, matmul};
use gr2_kernels::{Buffer, Device, quantize, restrict, sampling};
use support::{assert_close, gpu, numbers};

fn upload(device: &Device, seed: u64, len: usize) -> Buffer {
    let values: Vec<f32> = numbers(seed, len).into_iter().map(|x| x as f32).collect();
    Buffer::from_slice(device, &values).expect("uploads")
}

fn wide(buffer: &Buffer) -> Vec<f64> {
    buffer.to_vec::<f32>().expect("f32").into_iter().map(f64::from).collect()
}

#[test]
fn a_sum_of_many_products_has_all_of_them() {
    let Some(device) = gpu("long loops") else { return };
    // ones: exact in f32, in any order
    let k = 140_000;
    let ones = |n: usize| Buffer::from_slice(&device, &vec![1.0f32; n * k]).expect("uploads");
    for layout in [Layout::Nn, Layout::Nt, Layout::Tn] {
        let sums = matmul(&ones(3), &ones(2), &Matmul::one(layout, 3, 2, k)).expect("runs");
        assert_eq!(wide(&sums), [k as f64; 6], "{layout:?}");
    }
}

#[test]
fn a_token_attends_to_a_long_prompt() {
    let Some(device) = gpu("long loops") else { return };
    let heads = Heads { query: 2, kv: 1, dim: 128 };
    let (tokens, capacity) = (9_000, 4_000);
    let row = |prompt_start, prompt_len, slot, suffix_len| DecodeRow { prompt_start, prompt_len, slot, suffix_len };
    let rows = DecodeRows::new(vec![row(0, 9_000, 0, 1), row(17, 100, 1, 4_000)]);
    let dims = DecodeDims { heads, capacity, scale: heads.scale() };
    let out = |device: &Device| {
        let cache = |seed, tokens: usize| upload(device, seed, tokens * heads.dim);
        let (prompt, suffix) = ((cache(2, tokens), cache(3, tokens)), (cache(4, 2 * capacity), cache(5, 2 * capacity)));
        let q = upload(device, 1, 2 * 2 * heads.dim);
        wide(&decode(&q, (&prompt.0, &prompt.1), (&suffix.0, &suffix.1), &rows, dims).expect("runs"))
    };
    assert_close("decode", &out(&device), &out(&Device::Cpu), 2e-5);
}

#[test]
fn a_long_sequence_attends_to_itself() {
    let Some(device) = gpu("long loops") else { return };
    let heads = Heads { query: 2, kv: 1, dim: 4 };
    let tokens = 9_000;
    let segments = Segments::packed(&[100, tokens - 100]).expect("segments");
    let run = |device: &Device| {
        let of = |seed, heads: usize| upload(device, seed, tokens * heads * 4);
        let (q, k, v, dout) = (of(1, 2), of(2, 1), of(3, 1), of(4, 2));
        let x = Operands { q: &q, k: &k, v: &v, segments: &segments, heads, scale: heads.scale() };
        let y = attention::forward(&x).expect("runs");
        let gradients = attention::backward(&x, &y, &dout).expect("runs");
        [&y.out, &gradients.dq, &gradients.dk, &gradients.dv].map(wide)
    };
    let (found, expected) = (run(&device), run(&Device::Cpu));
    for (name, (found, expected)) in ["out", "dq", "dk", "dv"].iter().zip(found.iter().zip(&expected)) {
        assert_close(name, found, expected, 2e-5);
    }
}

#[test]
fn a_wide_vocabulary_is_restricted_and_sampled_to_its_end() {
    let Some(device) = gpu("long loops") else { return };
    let (rows, cols) = (2, 300_000);
    let list: Vec<u32> = (0..2_000).map(|i| i * 149 + 1_000).collect();
    let run = |device: &Device| {
        let mut logits = upload(device, 1, rows * cols);
        let best = sampling::argmax(&logits, rows, cols).expect("runs");
        let uniforms = Buffer::from_slice(device, &[0.3f32, 0.999_9]).expect("uploads");
        let drawn = sampling::sample(&logits, &uniforms, rows, cols, 1.0).expect("runs");
        restrict::restrict(&mut logits, &[&list[..], &[]], cols).expect("runs");
        let tokens = [&best, &drawn.tokens].map(|t| sampling::read(t).expect("tokens"));
        (tokens, logits.to_vec::<f32>().expect("f32"))
    };
    let (([best, drawn], left), ([expected_best, expected_drawn], expected)) = (run(&device), run(&Device::Cpu));
    assert_eq!(best, expected_best);
    // cumulative probabilities of 300,000 tokens in f32
    assert!(drawn.iter().zip(&expected_drawn).all(|(a, b)| a.abs_diff(*b) <= 3), "{drawn:?} for {expected_drawn:?}");
    assert!(left == expected, "restricted logits differ");
}

#[test]
fn the_nearest_of_many_codes_is_found() {
    let Some(device) = gpu("long loops") else { return };
    let (rows, codes, width) = (3, 20_000, 64);
    let run = |device: &Device| {
        let (x, e) = (upload(device, 1, rows * width), upload(device, 2, codes * width));
        let (index, distance) = quantize::nearest(&x, &e, rows, width).expect("runs");
        (index.to_vec::<u32>().expect("u32"), wide(&distance))
    };
    let ((index, distance), (expected_index, expected)) = (run(&device), run(&Device::Cpu));
    assert_eq!(index, expected_index);
    assert_close("distance", &distance, &expected, 1e-5);
}
