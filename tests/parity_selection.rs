//! Kernels without a gradient, GPU against twin: choosing tokens, nearest codes, sums by key.

mod support;

use gr2_kernels::{Buffer, Device, gather, logprob, quantize, restrict::restrict, sampling, segment};
use support::{assert_close, cases::sum_tolerance, gpu, numbers};

fn floats(seed: u64, len: usize, scale: f64) -> Vec<f32> {
    numbers(seed, len).iter().map(|v| (v * scale) as f32).collect()
}

#[test]
fn the_same_tokens_are_chosen() {
    let Some(device) = gpu("parity_selection") else { return };
    for (rows, cols, temperature) in [(1, 1, 1.0), (3, 5, 0.5), (5, 300, 1.0), (2, 2100, 2.0)] {
        // logits in eighths repeat, so that there are ties; every fifth is masked, but for one-column rows
        let mut logits: Vec<f32> = floats(1, rows * cols, 4.0).iter().map(|x| (x * 8.0).round() / 8.0).collect();
        for masked in logits.iter_mut().skip(4).step_by(5) {
            *masked = f32::NEG_INFINITY;
        }
        let uniforms = middles(&logits, rows, cols, temperature);
        let run = |device: &Device| {
            let x = Buffer::from_slice(device, &logits).expect("upload");
            let u = Buffer::from_slice(device, &uniforms).expect("upload");
            let best = sampling::read(&sampling::argmax(&x, rows, cols).expect("argmax")).expect("tokens");
            let drawn = sampling::sample(&x, &u, rows, cols, temperature).expect("sample");
            (best, sampling::read(&drawn.tokens).expect("tokens"), drawn.logp.to_vec::<f32>().expect("download"))
        };
        let (found, expected) = (run(&device), run(&Device::Cpu));
        let name = format!("({rows}, {cols})");
        assert_eq!(found.0, expected.0, "{name}: argmax");
        assert_eq!(found.1, expected.1, "{name}: sample");
        let wide = |v: &[f32]| v.iter().map(|x| *x as f64).collect::<Vec<_>>();
        assert_close(&format!("{name}: logp"), &wide(&found.2), &wide(&expected.2), sum_tolerance(cols));
    }
}

/// A uniform number per row in the middle of some likely token's span, far from rounding.
fn middles(logits: &[f32], rows: usize, cols: usize, temperature: f32) -> Vec<f32> {
    let row_middle = |(r, row): (usize, &[f32])| {
        let weights: Vec<f64> = row.iter().map(|x| (*x as f64 / temperature as f64).exp()).collect();
        let total: f64 = weights.iter().sum();
        let likely: Vec<usize> = (0..cols).filter(|c| weights[*c] / total > 0.5 / cols as f64).collect();
        let chosen = likely[r * likely.len() / rows];
        ((weights[..chosen].iter().sum::<f64>() + weights[chosen] / 2.0) / total) as f32
    };
    logits.chunks_exact(cols).enumerate().map(row_middle).collect()
}

#[test]
fn a_wide_row_of_large_logits_keeps_its_probability() {
    let Some(device) = gpu("parity_selection") else { return };
    // V = 150,001 equal logits near a thousand but one: log-probability and entropy in closed form
    let (cols, n, e4) = (150_001, 150_000.0f64, 4.0f64.exp());
    let mut logits = vec![999.0f32; cols];
    logits[77_777] = 1003.0;
    let logp = 4.0 - (n + e4).ln();
    let entropy = (n + e4).ln() - e4 / (n + e4) * 4.0;
    let x = Buffer::from_slice(&device, &logits).expect("upload");
    let targets = Buffer::from_slice(&device, &[77_777u32]).expect("upload");
    let mut out = logprob::Stats::uninit(&device, x.dtype(), 1).expect("room");
    let chunk = logprob::Chunk { first: 0, rows: 1, cols, temperature: 1.0 };
    logprob::stats(&x, &targets, &chunk, &mut out).expect("stats");
    for (what, found, expected) in [("logp", &out.logp, logp), ("entropy", &out.entropy, entropy)] {
        let found = found.to_vec::<f32>().expect("download")[0] as f64;
        assert!((found - expected).abs() < 3e-6, "{what}: found {found} expected {expected}");
    }
}

#[test]
fn rows_without_a_distribution_have_no_token() {
    let Some(device) = gpu("parity_selection") else { return };
    let rows = [[0.0, f32::NAN, 1.0], [f32::NEG_INFINITY; 3], [0.0, f32::INFINITY, 1.0], [0.0, 1.0, 2.0]];
    for device in [&device, &Device::Cpu] {
        let x = Buffer::from_slice(device, rows.as_flattened()).expect("upload");
        let u = Buffer::from_slice(device, &[0.5f32; 4]).expect("upload");
        let best = sampling::argmax(&x, 4, 3).expect("argmax").to_vec::<u32>().expect("download");
        assert_eq!(best[..3], [sampling::NO_TOKEN; 3], "{device}: argmax");
        let drawn = sampling::sample(&x, &u, 4, 3, 1.0).expect("sample").tokens.to_vec::<u32>().expect("download");
        assert_eq!(drawn, [[sampling::NO_TOKEN; 3].as_slice(), &[2]].concat(), "{device}: sample");
    }
}

#[test]
fn the_same_tokens_are_barred() {
    let Some(device) = gpu("parity_selection") else { return };
    for (rows, cols) in [(1, 1), (3, 7), (70, 1000)] {
        let logits = floats(1, rows * cols, 2.0);
        // every third row is left alone, the others keep every row-th token
        let lists: Vec<Vec<u32>> =
            (0..rows).map(|r| if r % 3 == 2 { vec![] } else { (0..cols as u32).step_by(r + 1).collect() }).collect();
        let allowed: Vec<&[u32]> = lists.iter().map(Vec::as_slice).collect();
        let run = |device: &Device| {
            let mut x = Buffer::from_slice(device, &logits).expect("upload");
            restrict(&mut x, &allowed, cols).expect("restrict");
            x.to_vec::<f32>().expect("download")
        };
        let (found, expected) = (run(&device), run(&Device::Cpu));
        assert_eq!(found, expected, "({rows}, {cols})");
        let barred = found.iter().filter(|x| **x <= sampling::MASKED).count();
        let kept: usize = allowed.iter().map(|list| if list.is_empty() { cols } else { list.len() }).sum();
        assert_eq!(barred + kept, rows * cols, "({rows}, {cols})");
    }
}

#[test]
fn the_same_codes_are_nearest_and_sums_by_code_agree() {
    let Some(device) = gpu("parity_selection") else { return };
    for (rows, count, width) in [(1, 1, 1), (9, 3, 5), (200, 40, 16)] {
        let x = floats(1, rows * width, 1.0);
        let codes = floats(2, count * width, 1.0);
        let run = |device: &Device| {
            let (x, codes) = (Buffer::from_slice(device, &x), Buffer::from_slice(device, &codes));
            let (x, codes) = (x.expect("upload"), codes.expect("upload"));
            let (index, distance) = quantize::nearest(&x, &codes, rows, width).expect("nearest");
            let index = index.to_vec::<u32>().expect("download");
            let (sums, _) = quantize::segment_sum(&x, &index, count, width).expect("sum");
            let (means, counts) = quantize::segment_mean(&x, &index, count, width).expect("mean");
            let floats = [distance, sums, means, counts].map(|b| b.to_vec::<f32>().expect("download"));
            (index, floats.map(|v| v.iter().map(|x| *x as f64).collect::<Vec<_>>()))
        };
        let (found, expected) = (run(&device), run(&Device::Cpu));
        let name = format!("({rows}, {width}) to {count}");
        assert_eq!(found.0, expected.0, "{name}: index");
        for (part, (found, expected)) in
            ["distance", "sum", "mean", "count"].iter().zip(found.1.iter().zip(&expected.1))
        {
            assert_close(&format!("{name}: {part}"), found, expected, sum_tolerance(rows.max(width)));
        }
    }
}

#[test]
fn a_table_past_one_binding_is_split() {
    let Some(device) = gpu("parity_selection") else { return };
    // 138 MB, where lavapipe binds 128 MiB
    let (rows, cols) = (270_000usize, 128usize);
    let ids = [rows as u32 - 1, 0, 262_143, 262_144, 5, rows as u32 - 1];
    let table: Vec<f32> = (0..rows * cols).map(|i| (i / cols) as f32 + (i % cols) as f32 / 128.0).collect();
    let x = Buffer::from_slice(&device, &table).expect("upload");
    let index = Buffer::from_slice(&device, &ids).expect("upload");
    let y = gather::rows(&x, &index, cols).expect("gather");
    let found = y.to_vec::<f32>().expect("download");
    let expected: Vec<f32> = ids.iter().flat_map(|id| &table[*id as usize * cols..][..cols]).copied().collect();
    assert!(found == expected, "gathered rows differ");

    // sums into such a table, and out of it: rows of one key in both pieces
    let sums = segment::sum(&y, &segment::Groups::by_key(&ids, rows).expect("groups"), cols).expect("sum");
    let sums = sums.to_vec::<f32>().expect("download");
    let mut expected = vec![0.0; rows * cols];
    for (id, row) in ids.iter().zip(found.chunks_exact(cols)) {
        expected[*id as usize * cols..][..cols].iter_mut().zip(row).for_each(|(e, r)| *e += r);
    }
    assert!(sums == expected, "sums into a split table differ");
    let keys: Vec<u32> = (0..rows as u32).map(|r| if r % 60_000 == 59_999 { 1 } else { 0 }).collect();
    let sums = segment::sum(&x, &segment::Groups::by_key(&keys, 2).expect("groups"), cols).expect("sum");
    let found = sums.to_vec::<f32>().expect("download")[cols];
    assert_eq!(found, (1..=4).map(|i| (i * 60_000 - 1) as f32).sum::<f32>());
}
