//! Decoding attention and the upkeep of its cache: GPU against CPU.

mod support;

use gr2_kernels::attention::Heads;
use gr2_kernels::decode::{DecodeDims, DecodeRow, DecodeRows, copy_slots, decode, grown_slots, write_tokens};
use gr2_kernels::narrow::narrowed;
use gr2_kernels::{Buffer, Device, Dtype};
use half::f16;
use support::{assert_close, cases::sum_tolerance, gpu, numbers};

const CAPACITY: usize = 21;
const SLOTS: usize = 5;
const PROMPTS: usize = 40;

/// Writes each row's token, attends, moves the slots, attends again; the caches are stored as `stored`.
fn two_steps(device: &Device, heads: Heads, rows: &DecodeRows, stored: Dtype) -> gr2_kernels::Result<Vec<Vec<f64>>> {
    let dims = DecodeDims { heads, capacity: CAPACITY, scale: heads.scale() };
    let (width, count) = (heads.kv * heads.dim, rows.list().len());
    let upload = |seed: u64, len: usize, dtype: Dtype| {
        let values: Vec<f32> = numbers(seed, len).iter().map(|&x| 3.0 * x as f32).collect();
        narrowed(device, &values, dtype)
    };
    let q = upload(1, count * heads.query * heads.dim, Dtype::F32)?;
    let (pk, pv) = (upload(2, PROMPTS * width, stored)?, upload(3, PROMPTS * width, stored)?);
    let suffix = SLOTS * CAPACITY * width;
    let (mut sk, mut sv) = (upload(4, suffix, stored)?, upload(5, suffix, stored)?);
    let (k, v) = (upload(6, count * width, Dtype::F32)?, upload(7, count * width, Dtype::F32)?);
    // another holder must not see the writes
    let before = sk.clone();
    write_tokens((&mut sk, &mut sv), (&k, &v), &rows.places()?, dims)?;
    let first = decode(&q, (&pk, &pv), (&sk, &sv), rows, dims)?;
    copy_slots((&mut sk, &mut sv), (&[4, 0, 0, 3], &[0, 1, 4, 3]), CAPACITY - 1, dims)?;
    let second = decode(&q, (&pk, &pv), (&sk, &sv), rows, dims)?;
    let (grown_k, grown_v) = grown_slots((&sk, &sv), CAPACITY - 2, 2 * CAPACITY + 1, dims)?;
    let wide = |b: &Buffer| match b.dtype() {
        Dtype::F16 => Ok(b.to_vec::<f16>()?.into_iter().map(f64::from).collect()),
        _ => Ok(b.to_vec::<f32>()?.into_iter().map(f64::from).collect()),
    };
    [&first, &second, &sk, &sv, &before, &grown_k, &grown_v].into_iter().map(wide).collect()
}

#[test]
fn decoding_agrees_with_its_twin() {
    let Some(device) = gpu("parity_decode") else { return };
    let row = |prompt_start, prompt_len, slot, suffix_len| DecodeRow { prompt_start, prompt_len, slot, suffix_len };
    // two rows with one prompt, a full slot, no prompt, a prompt of one token
    let rows = || {
        let list = [row(0, 33, 4, 1), row(0, 33, 0, 9), row(33, 7, 2, 21), row(0, 0, 1, 5), row(12, 1, 3, 20)];
        DecodeRows::new(list.to_vec())
    };
    for heads in [Heads { query: 4, kv: 2, dim: 24 }, Heads { query: 1, kv: 1, dim: 64 }] {
        for stored in [Dtype::F32, Dtype::F16] {
            let expected = two_steps(&Device::Cpu, heads, &rows(), stored).expect("cpu");
            let found = two_steps(&device, heads, &rows(), stored).expect("gpu");
            for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
                // scores of up to 9 √D: their rounding is the error of the exponential
                let tolerance = if i < 2 { sum_tolerance(40) * heads.dim as f64 } else { 0.0 };
                assert_close(&format!("{heads:?} {stored}: result {i}"), found, expected, tolerance);
            }
        }
    }
}
