use super::super::reference::{Agreement, noise, noise_on, spread, sum_tolerance};
use super::super::{Case, Opened, Work};
use super::bytes;
use crate::attention::Heads;
use crate::decode::{DecodeDims, DecodeRow, DecodeRows, decode};

const HEADS: Heads = Heads { query: 16, kv: 8, dim: 128 };
const PROMPT: usize = 2048;
const SUFFIX: usize = 128;

pub fn cases() -> Vec<Case> {
    // sequences, and prompts they share
    [(1, 1), (64, 64), (64, 4)].into_iter().map(|(rows, prompts)| case(rows, prompts)).collect()
}

fn case(rows: usize, prompts: usize) -> Case {
    let open = move |device: &crate::Device| {
        let q = noise_on(device, 1, rows * HEADS.q_width())?;
        let cache = |seed, tokens: usize| noise_on(device, seed, tokens * HEADS.kv_width());
        let (k, v) = (cache(2, prompts * PROMPT)?, cache(3, prompts * PROMPT)?);
        let (sk, sv) = (cache(4, rows * SUFFIX)?, cache(5, rows * SUFFIX)?);
        let prompt_of = move |row: usize| row * prompts / rows;
        let row = |row: usize| DecodeRow {
            prompt_start: (prompt_of(row) * PROMPT) as u32,
            prompt_len: PROMPT as u32,
            slot: row as u32,
            suffix_len: SUFFIX as u32,
        };
        let list = DecodeRows::new((0..rows).map(row).collect());
        let dims = DecodeDims { heads: HEADS, capacity: SUFFIX, scale: HEADS.scale() };
        Ok(Opened {
            run: Box::new(move || Ok(vec![decode(&q, (&k, &v), (&sk, &sv), &list, dims)?])),
            check: Box::new(move |found| {
                let found = found[0].to_vec::<f32>()?;
                let q = noise(1, rows * HEADS.q_width());
                let [k, v] = [2, 3].map(|seed| noise(seed, prompts * PROMPT * HEADS.kv_width()));
                let [sk, sv] = [4, 5].map(|seed| noise(seed, rows * SUFFIX * HEADS.kv_width()));
                let mut compared = vec![];
                for (row, h) in spread(rows, 5).zip([15, 3, 7, 12, 0]) {
                    let own = &q[row * HEADS.q_width() + h * HEADS.dim..][..HEADS.dim];
                    let (mut total, mut sum) = (0.0, vec![0.0; HEADS.dim]);
                    let parts = [(&k, &v, prompt_of(row) * PROMPT, PROMPT), (&sk, &sv, row * SUFFIX, SUFFIX)];
                    for (k, v, first, tokens) in parts {
                        for t in first..first + tokens {
                            let at = t * HEADS.kv_width() + h / HEADS.group() * HEADS.dim;
                            let pairs = own.iter().zip(&k[at..][..HEADS.dim]);
                            let score: f64 = pairs.map(|(&q, &k)| q as f64 * k as f64).sum();
                            let e = (HEADS.scale() * score).exp();
                            total += e;
                            sum.iter_mut().zip(&v[at..][..HEADS.dim]).for_each(|(sum, &v)| *sum += e * v as f64);
                        }
                    }
                    let row = &found[row * HEADS.q_width() + h * HEADS.dim..][..HEADS.dim];
                    compared.extend(row.iter().zip(sum).map(|(&found, sum)| (found as f64, sum / total)));
                }
                Ok(Agreement::of(compared, sum_tolerance(PROMPT + SUFFIX)))
            }),
        })
    };
    // every key and value once, also where sequences share them
    let cached = 2 * HEADS.kv_width() * (prompts * PROMPT + rows * SUFFIX);
    Case {
        name: format!("decode attention {rows} rows {prompts} prompts"),
        work: Work::Bytes(4.0 * cached as f64),
        memory: bytes(cached),
        open: Box::new(open),
    }
}
