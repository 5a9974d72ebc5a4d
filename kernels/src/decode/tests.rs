use super::*;
use crate::attention::{Operands, Segments, forward};
use crate::check::numbers;

const DIMS: DecodeDims = DecodeDims { heads: Heads { query: 4, kv: 2, dim: 6 }, capacity: 5, scale: 0.4 };
const WIDTH: usize = 12;

fn row(prompt_start: u32, prompt_len: u32, slot: u32, suffix_len: u32) -> DecodeRow {
    DecodeRow { prompt_start, prompt_len, slot, suffix_len }
}

fn upload(x: &[f64]) -> Buffer {
    Buffer::from_slice(&Device::Cpu, x).unwrap()
}

/// Prompts of 9 tokens in all, 4 slots, and as many queries as there are rows.
fn caches(rows: usize) -> (Buffer, [Buffer; 2], [Buffer; 2]) {
    let cache = |seed, len: usize| upload(&numbers(seed, len));
    let q = cache(1, rows * DIMS.heads.q_width());
    (q, [cache(2, 9 * WIDTH), cache(3, 9 * WIDTH)], [cache(4, 20 * WIDTH), cache(5, 20 * WIDTH)])
}

#[test]
fn each_row_equals_the_last_row_of_the_whole_sequence() {
    // neighbours with one prompt, a prompt without suffix, a suffix without prompt, a full slot
    let rows = vec![row(0, 4, 2, 3), row(0, 4, 0, 1), row(4, 5, 1, 0), row(0, 0, 3, 5), row(3, 2, 2, 2)];
    let rows = DecodeRows::new(rows);
    let (q, [pk, pv], [sk, sv]) = caches(rows.list().len());
    let out = decode(&q, (&pk, &pv), (&sk, &sv), &rows, DIMS).unwrap().to_vec::<f64>().unwrap();
    for (r, row) in rows.list().iter().enumerate() {
        let join = |prompt: &Buffer, suffix: &Buffer| {
            let mut all = prompt.as_slice::<f64>()[row.prompt().start * WIDTH..row.prompt().end * WIDTH].to_vec();
            let suffix_rows = row.suffix(DIMS.capacity);
            all.extend(&suffix.as_slice::<f64>()[suffix_rows.start * WIDTH..suffix_rows.end * WIDTH]);
            upload(&all)
        };
        let (k, v) = (join(&pk, &sk), join(&pv, &sv));
        let tokens = k.len() / WIDTH;
        let width = DIMS.heads.q_width();
        let mut queries = vec![0.0; (tokens - 1) * width];
        queries.extend(&q.as_slice::<f64>()[r * width..(r + 1) * width]);
        let segments = Segments::single(tokens).unwrap();
        let whole = Operands {
            q: &upload(&queries),
            k: &k,
            v: &v,
            segments: &segments,
            heads: DIMS.heads,
            scale: DIMS.scale,
            half: false,
        };
        let whole = forward(&whole).unwrap().out.to_vec::<f64>().unwrap();
        for (found, expected) in out[r * width..(r + 1) * width].iter().zip(&whole[(tokens - 1) * width..]) {
            assert!((found - expected).abs() < 1e-14, "row {r}: found {found} expected {expected}");
        }
    }
}

#[test]
fn the_current_token_goes_to_the_end_of_its_suffix_and_nowhere_else() {
    let rows = DecodeRows::new(vec![row(0, 4, 2, 3), row(0, 4, 0, 1)]);
    let (_, _, [mut sk, mut sv]) = caches(0);
    let (before_k, before_v) = (sk.to_vec::<f64>().unwrap(), sv.to_vec::<f64>().unwrap());
    let (k, v) = (upload(&numbers(6, 2 * WIDTH)), upload(&numbers(7, 2 * WIDTH)));
    write_suffix((&mut sk, &mut sv), (&k, &v), &rows.places().unwrap(), DIMS).unwrap();
    for (mut expected, new, found) in [(before_k, k, sk), (before_v, v, sv)] {
        let new = new.as_slice::<f64>();
        expected[(2 * 5 + 2) * WIDTH..(2 * 5 + 3) * WIDTH].copy_from_slice(&new[..WIDTH]);
        expected[..WIDTH].copy_from_slice(&new[WIDTH..]);
        assert_eq!(found.to_vec::<f64>().unwrap(), expected);
    }
}

#[test]
fn slots_are_permuted_and_duplicated_as_if_all_at_once() {
    let (_, _, [mut sk, mut sv]) = caches(0);
    let before = sk.to_vec::<f64>().unwrap();
    // 0 and 1 change places, 3 gets a copy of the old 1, 2 stays
    copy_slots((&mut sk, &mut sv), (&[1, 0, 2, 1], &[0, 1, 2, 3]), 3, DIMS).unwrap();
    let after = sk.to_vec::<f64>().unwrap();
    for (slot, from) in [(0, 1), (1, 0), (2, 2), (3, 1)] {
        let (new, old) = (slot * 5 * WIDTH, from * 5 * WIDTH);
        assert_eq!(after[new..new + 3 * WIDTH], before[old..old + 3 * WIDTH]);
        assert_eq!(after[new + 3 * WIDTH..new + 5 * WIDTH], before[new + 3 * WIDTH..new + 5 * WIDTH]);
    }
}

#[test]
fn what_lies_outside_the_caches_is_refused() {
    let refusal = |r: DecodeRow| {
        let (q, [pk, pv], [sk, sv]) = caches(1);
        decode(&q, (&pk, &pv), (&sk, &sv), &DecodeRows::new(vec![r]), DIMS).unwrap_err().to_string()
    };
    assert_eq!(refusal(row(5, 5, 0, 1)), "decode: row 0 reads prompt tokens 5..10 of 9");
    assert_eq!(refusal(row(0, 1, 4, 1)), "decode: row 0 reads slot 4 of 4");
    assert_eq!(refusal(row(0, 1, 3, 6)), "decode: row 0 has a suffix of 6 tokens, a slot holds 5");
    assert_eq!(refusal(row(0, 0, 0, 0)), "decode: row 0 attends to no token");
    let (_, _, [mut sk, mut sv]) = caches(0);
    let twice = copy_slots((&mut sk, &mut sv), (&[0, 1], &[2, 2]), 1, DIMS).unwrap_err().to_string();
    assert_eq!(twice, "copy slots: two values for slot 2");
    assert!(Places::new(vec![(1, 2), (0, 0), (1, 2)]).is_err());
}

/// Both parts in pieces, with the smallest bindings that the alignment of 64 rows allows, and columns past one
/// dispatch.
#[test]
fn pieces_of_a_gpus_bindings_give_what_the_twin_gives() {
    let Some((device, gpu)) = crate::check::gpu("decode") else { return };
    let heads = Heads { query: 2, kv: 1, dim: 513 };
    let dims = DecodeDims { heads, capacity: 75, scale: 0.05 };
    let rows = DecodeRows::new(vec![row(0, 130, 1, 75), row(100, 40, 0, 3), row(0, 0, 2, 70)]);
    let data: Vec<Vec<f32>> = [(1, 3 * 2 * 513), (2, 140 * 513), (3, 140 * 513), (4, 225 * 513), (5, 225 * 513)]
        .map(|(seed, len)| numbers(seed, len).iter().map(|&x| x as f32).collect())
        .to_vec();
    let on = |device: &Device| data.iter().map(|x| Buffer::from_slice(device, x).unwrap()).collect::<Vec<_>>();
    let x = on(&Device::Cpu);
    let expected = decode(&x[0], (&x[1], &x[2]), (&x[3], &x[4]), &rows, dims).unwrap().to_vec::<f32>().unwrap();
    let x = on(&device);
    let out = Buffer::uninit(&device, "test", crate::Dtype::F32, x[0].len()).unwrap();
    let part = |k, v, table| gpu::Part { keys: k, values: v, table };
    let parts = [part(&x[1], &x[2], 0), part(&x[3], &x[4], 2)];
    gpu::decode(&gpu, (&x[0], &out), parts, &rows, dims, 64 * 2 * 513 * 4).unwrap();
    for (i, (found, expected)) in out.to_vec::<f32>().unwrap().iter().zip(&expected).enumerate() {
        assert!((found - expected).abs() < 3e-6, "[{i}]: found {found} expected {expected}");
    }
}
