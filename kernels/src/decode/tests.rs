use super::*;
use crate::attention::{Operands, Segments, forward};
use crate::check::numbers;
use crate::narrow::narrowed;

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
    let (q, prompt, suffix) = caches(rows.len());
    assert_rows_end_sequences(&q, prompt, suffix, rows, DIMS);
}

/// Many rows with a prompt of several tiles, whose keys are 2048 bytes apart.
#[test]
fn rows_that_share_a_long_prompt_equal_the_last_rows_of_whole_sequences() {
    let heads = Heads { query: 8, kv: 4, dim: 64 };
    let dims = DecodeDims { heads, capacity: 2, scale: 0.1 };
    let rows: Vec<_> = (0..19).map(|r| row(1, 300, r, r % 3)).collect();
    let cache = |seed, tokens: usize| upload(&numbers(seed, tokens * heads.kv_width()));
    let (prompt, suffix) = ([cache(2, 301), cache(3, 301)], [cache(4, 38), cache(5, 38)]);
    assert_rows_end_sequences(&upload(&numbers(1, rows.len() * heads.q_width())), prompt, suffix, rows, dims);
}

fn assert_rows_end_sequences(
    q: &Buffer,
    [pk, pv]: [Buffer; 2],
    [sk, sv]: [Buffer; 2],
    rows: Vec<DecodeRow>,
    dims: DecodeDims,
) {
    let (width, kv_width) = (dims.heads.q_width(), dims.heads.kv_width());
    let rows = DecodeRows::new(rows);
    let out = decode(q, (&pk, &pv), (&sk, &sv), &rows, dims).unwrap().to_vec::<f64>().unwrap();
    for (r, row) in rows.list().iter().enumerate() {
        let join = |prompt: &Buffer, suffix: &Buffer| {
            let of = |x: &Buffer, tokens: Range<usize>| {
                x.as_slice::<f64>()[tokens.start * kv_width..tokens.end * kv_width].to_vec()
            };
            upload(&[of(prompt, row.prompt()), of(suffix, row.suffix(dims.capacity))].concat())
        };
        let (k, v) = (join(&pk, &sk), join(&pv, &sv));
        let tokens = k.len() / kv_width;
        let mut queries = vec![0.0; (tokens - 1) * width];
        queries.extend(&q.as_slice::<f64>()[r * width..(r + 1) * width]);
        let segments = Segments::single(tokens).unwrap();
        let whole =
            Operands { q: &upload(&queries), k: &k, v: &v, segments: &segments, heads: dims.heads, scale: dims.scale };
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
    write_tokens((&mut sk, &mut sv), (&k, &v), &rows.places().unwrap(), DIMS).unwrap();
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
    let mut numbers = [(); 2].map(|()| Buffer::zeros(&Device::Cpu, "test", Dtype::U32, 20 * WIDTH).unwrap());
    let [k, v] = &mut numbers;
    let integers = copy_slots((k, v), (&[0], &[2]), 1, DIMS).unwrap_err().to_string();
    assert_eq!(integers, "copy slots: suffix k is u32, expected f32 or f64");
    assert!(Places::new(vec![(1, 2), (0, 0), (1, 2)]).is_err());
}

#[test]
fn an_f16_cache_is_what_it_is_rounded_to() {
    let heads = Heads { query: 6, kv: 2, dim: 64 };
    let dims = DecodeDims { heads, capacity: 120, scale: 0.1 };
    // several pieces of prompt and suffix, few queries to a key and many
    let rows = |count: u32| DecodeRows::new((0..count).map(|r| row(1, 300, r, r * 11)).collect());
    let values = |seed, len: usize| numbers(seed, len).iter().map(|&x| 8.0 * x as f32).collect::<Vec<f32>>();
    let cache = |seed, tokens: usize, stored| {
        let rounded: Vec<f32> =
            values(seed, tokens * heads.kv_width()).iter().map(|&x| f16::from_f32(x).to_f32()).collect();
        narrowed(&Device::Cpu, &rounded, stored).unwrap()
    };
    for count in [1, 10] {
        let q = Buffer::from_slice(&Device::Cpu, &values(1, count as usize * heads.q_width())).unwrap();
        let attend = |stored| {
            let [(pk, pv), (sk, sv)] =
                [(2, 301), (4, 10 * 120)].map(|(i, tokens)| (cache(i, tokens, stored), cache(i + 1, tokens, stored)));
            decode(&q, (&pk, &pv), (&sk, &sv), &rows(count), dims).unwrap().to_vec::<f32>().unwrap()
        };
        for (found, expected) in attend(Dtype::F16).iter().zip(attend(Dtype::F32)) {
            assert!((found - expected).abs() < 1e-5, "{count}: found {found} expected {expected}");
        }
    }
    let q = Buffer::from_slice(&Device::Cpu, &values(1, heads.q_width())).unwrap();
    let (half, single) = (cache(2, 301, Dtype::F16), cache(2, 1200, Dtype::F32));
    let mixed = decode(&q, (&half, &half), (&single, &single), &rows(1), dims).unwrap_err().to_string();
    assert_eq!(mixed, "decode: suffix k is f32, expected f16");
}

#[test]
fn tokens_are_rounded_into_an_f16_cache() {
    let rows = DecodeRows::new(vec![row(0, 4, 2, 3)]);
    let zeros = || Buffer::zeros(&Device::Cpu, "test", Dtype::F16, 20 * WIDTH).unwrap();
    let (mut sk, mut sv) = (zeros(), zeros());
    let values: Vec<f32> = [0.1, 65_519.0, 65_520.0, f32::NEG_INFINITY, 3.0e-6, -1.0].repeat(2);
    let new = Buffer::from_slice(&Device::Cpu, &values).unwrap();
    write_tokens((&mut sk, &mut sv), (&new, &new), &rows.places().unwrap(), DIMS).unwrap();
    let at = (2 * 5 + 2) * WIDTH;
    for cache in [sk, sv] {
        let found = cache.to_vec::<f16>().unwrap();
        assert_eq!(found[at..at + WIDTH], values.iter().map(|&x| f16::from_f32(x)).collect::<Vec<_>>());
        assert_eq!((found[at + 1], found[at + 2]), (f16::MAX, f16::INFINITY));
        assert!(found[..at].iter().chain(&found[at + WIDTH..]).all(|&x| x == f16::ZERO));
    }
}

/// Decoding of these rows by the twin, and by `way` on a GPU, which writes to its last argument.
fn compare(
    device: &Device,
    (rows, dims): (Vec<DecodeRow>, DecodeDims),
    [prompt, slots]: [usize; 2],
    stored: Dtype,
    way: impl Fn(&Buffer, [gpu::Part; 2], &DecodeRows, &Buffer),
) {
    let (width, what) = (dims.heads.kv_width(), format!("{stored} {:?} {rows:?}", dims.heads));
    let suffix = slots * dims.capacity;
    let sizes = [rows.len() * dims.heads.q_width(), prompt * width, prompt * width, suffix * width, suffix * width];
    let values = |(seed, len): (u64, usize)| numbers(seed, len).iter().map(|&x| x as f32).collect::<Vec<f32>>();
    let data: Vec<Vec<f32>> = (1..).zip(sizes).map(values).collect();
    let on = |device: &Device| -> Vec<Buffer> {
        let dtypes = std::iter::once(Dtype::F32).chain(std::iter::repeat(stored));
        data.iter().zip(dtypes).map(|(x, dtype)| narrowed(device, x, dtype).unwrap()).collect()
    };
    let (x, rows) = (on(&Device::Cpu), DecodeRows::new(rows));
    let expected = decode(&x[0], (&x[1], &x[2]), (&x[3], &x[4]), &rows, dims).unwrap().to_vec::<f32>().unwrap();
    let x = on(device);
    let out = Buffer::uninit(device, "test", Dtype::F32, x[0].len()).unwrap();
    let [prompt, suffix] = [(1, 0), (3, 2)].map(|(i, table)| gpu::Part { keys: &x[i], values: &x[i + 1], table });
    way(&x[0], [prompt, suffix], &rows, &out);
    for (i, (found, expected)) in out.to_vec::<f32>().unwrap().iter().zip(&expected).enumerate() {
        assert!((found - expected).abs() < 3e-6, "{what} [{i}]: found {found} expected {expected}");
    }
}

/// Both parts in pieces, with the smallest bindings that the alignment of 64 rows allows, and columns past one
/// dispatch.
#[test]
fn pieces_of_a_gpus_bindings_give_what_the_twin_gives() {
    let Some((device, gpu)) = crate::check::gpu("decode") else { return };
    for (stored, dim) in [(Dtype::F32, 513), (Dtype::F16, 514)] {
        let dims = DecodeDims { heads: Heads { query: 2, kv: 1, dim }, capacity: 75, scale: 0.05 };
        let rows = vec![row(0, 130, 1, 75), row(100, 40, 0, 3), row(0, 0, 2, 70)];
        compare(&device, (rows, dims), [140, 3], stored, |q, parts, rows, out| {
            gpu::decode(&gpu, (q, out), parts, rows, dims, 64 * 2 * dim as u64 * 4).unwrap();
        });
    }
}

/// Rows that share a prompt and rows that do not, with and without a suffix, for every count of queries a workgroup
/// takes; whole and in pieces of 64 tokens.
#[test]
fn tokens_side_by_side_give_what_the_twin_gives() {
    let Some((device, gpu)) = crate::check::gpu("decode") else { return };
    for (query, kv, dim) in
        [(1, 1, 4), (2, 2, 64), (4, 2, 128), (4, 1, 36), (3, 1, 160), (10, 2, 20), (11, 1, 24), (2, 1, 256)]
    {
        let heads = Heads { query, kv, dim };
        let dims = DecodeDims { heads, capacity: 75, scale: heads.scale() };
        let mut shared: Vec<DecodeRow> = (0..5).map(|slot| row(3, 190, slot, 15 * slot)).collect();
        shared.extend([row(0, 0, 5, 1), row(100, 93, 6, 75), row(7, 1, 7, 0), row(0, 64, 7, 2)]);
        let lone = vec![row(0, 193, 2, 75)];
        let whole = vec![row(0, 40, 2, 24), row(60, 0, 1, 64), row(129, 64, 0, 0)];
        for rows in [shared, lone, whole] {
            // the queries and what the parts make fit a binding; the caches may not
            let outputs = rows.len() * 10 * heads.q_width() * 4;
            for stored in [Dtype::F32, Dtype::F16] {
                for limit in [gpu.max_binding(), outputs.max(64 * heads.kv_width() * 4) as u64] {
                    compare(&device, (rows.clone(), dims), [193, 8], stored, |q, parts, rows, out| {
                        assert!(split::decode(&gpu, (q, out), &parts, rows, dims, limit).unwrap());
                    });
                }
            }
        }
    }
}

#[test]
fn slots_that_grow_keep_their_tokens_and_end_in_zeros() {
    let (_, _, [k, v]) = caches(1);
    let (grown_k, grown_v) = grown_slots((&k, &v), 3, 7, DIMS).unwrap();
    for (from, to) in [(&k, &grown_k), (&v, &grown_v)] {
        for (from, to) in from.as_slice::<f64>().chunks(5 * WIDTH).zip(to.as_slice::<f64>().chunks(7 * WIDTH)) {
            assert_eq!(from[..3 * WIDTH], to[..3 * WIDTH]);
            assert!(to[3 * WIDTH..].iter().all(|&x| x == 0.0));
        }
    }
    assert_eq!(grown_k.len(), 4 * 7 * WIDTH);
    let message = grown_slots((&k, &v), 6, 7, DIMS).unwrap_err().to_string();
    assert_eq!(message, "kv cache: 6 tokens of 5, into 7");
    let error = grown_slots((&k, &v), 3, usize::MAX / 2, DIMS).unwrap_err();
    assert!(matches!(error, Error::OutOfMemory { .. }), "{error}");
}
