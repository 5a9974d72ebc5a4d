use super::super::reference::{Agreement, noise, noise_on, rounding, spread, sum_tolerance};
use super::super::{Case, Opened, Run, Work};
use super::bytes;
use crate::attention::{Heads, Operands, backward, forward};
use crate::buffer::Buffer;
use crate::{Device, Result, Segments};

/// Those of Qwen3.
const HEADS: Heads = Heads { query: 16, kv: 8, dim: 128 };

pub fn cases() -> Vec<Case> {
    [512, 1024, 2048, 4096, 8192].into_iter().flat_map(|tokens| [case(tokens, false), case(tokens, true)]).collect()
}

/// Queries, keys, values and the gradient of the output.
struct Inputs {
    q: Buffer,
    k: Buffer,
    v: Buffer,
    dout: Buffer,
    segments: Segments,
}

impl Inputs {
    fn new(device: &Device, tokens: usize) -> Result<Inputs> {
        let (queries, keys) = (tokens * HEADS.q_width(), tokens * HEADS.kv_width());
        Ok(Inputs {
            q: noise_on(device, 1, queries)?,
            k: noise_on(device, 2, keys)?,
            v: noise_on(device, 3, keys)?,
            dout: noise_on(device, 4, queries)?,
            segments: Segments::packed(&[tokens])?,
        })
    }

    fn operands(&self) -> Operands<'_> {
        let Inputs { q, k, v, segments, .. } = self;
        Operands { q, k, v, segments, heads: HEADS, scale: HEADS.scale() }
    }
}

fn case(tokens: usize, is_backward: bool) -> Case {
    let open = move |device: &Device| {
        let inputs = Inputs::new(device, tokens)?;
        let attended = forward(&inputs.operands())?;
        let run: Run = match is_backward {
            false => Box::new(move || Ok(vec![forward(&inputs.operands())?.out])),
            true => Box::new(move || {
                let gradients = backward(&inputs.operands(), &attended, &inputs.dout)?;
                Ok(vec![gradients.dq, gradients.dv])
            }),
        };
        let tolerance = sum_tolerance(tokens) + 4.0 * rounding(device);
        Ok(Opened { run, check: Box::new(move |found| check(tokens, found, tolerance)) })
    };
    let operands = tokens * (2 * HEADS.q_width() + 2 * HEADS.kv_width());
    // q k and p v over half of all pairs; twice and a half as much on the way back
    let flops = 2.0 * (tokens * tokens * HEADS.q_width()) as f64;
    Case {
        name: format!("attention{} T {tokens}", if is_backward { " backward" } else { "" }),
        work: Work::Flops(if is_backward { 2.5 * flops } else { flops }),
        memory: bytes(if is_backward { 2 * operands } else { operands }),
        open: Box::new(open),
    }
}

/// Some rows of the output, or of dq and dv, against f64.
fn check(tokens: usize, found: &[Buffer], tolerance: f64) -> Result<Agreement> {
    let (width, kv_width, dim) = (HEADS.q_width(), HEADS.kv_width(), HEADS.dim);
    let wide = |seed, n| noise(seed, n).into_iter().map(f64::from).collect::<Vec<f64>>();
    let (q, dout) = (wide(1, tokens * width), wide(4, tokens * width));
    let (k, v) = (wide(2, tokens * kv_width), wide(3, tokens * kv_width));
    let query = |x: &[f64], t: usize, h: usize| x[t * width + h * dim..][..dim].to_vec();
    let key = |x: &[f64], t: usize, h: usize| x[t * kv_width + h / HEADS.group() * dim..][..dim].to_vec();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    // the probabilities of a query's keys
    let weights = |t: usize, h: usize| {
        let own = query(&q, t, h);
        let e: Vec<f64> = (0..=t).map(|s| (HEADS.scale() * dot(&own, &key(&k, s, h))).exp()).collect();
        let total: f64 = e.iter().sum();
        e.into_iter().map(move |e| e / total).collect::<Vec<f64>>()
    };
    let mix = |weights: &[f64], of: &dyn Fn(usize) -> Vec<f64>| {
        let mut sum = vec![0.0; dim];
        weights.iter().enumerate().for_each(|(s, w)| sum.iter_mut().zip(of(s)).for_each(|(sum, x)| *sum += w * x));
        sum
    };
    let first = found[0].to_vec::<f32>()?;
    let mut compared = vec![];
    for (t, h) in spread(tokens, 5).zip([0, 3, 7, 12, 15]) {
        let p = weights(t, h);
        let expected = match found.len() {
            1 => mix(&p, &|s| key(&v, s, h)),
            _ => {
                let upstream = query(&dout, t, h);
                let dp: Vec<f64> = (0..=t).map(|s| dot(&upstream, &key(&v, s, h))).collect();
                let delta = dot(&p, &dp);
                let ds: Vec<f64> = p.iter().zip(dp).map(|(p, dp)| HEADS.scale() * p * (dp - delta)).collect();
                mix(&ds, &|s| key(&k, s, h))
            }
        };
        let row = &first[t * width + h * dim..][..dim];
        compared.extend(row.iter().map(|&x| x as f64).zip(expected));
    }
    if let Some(dv) = found.get(1) {
        // the last token's values are seen by its own queries only
        let (dv, t) = (dv.to_vec::<f32>()?, tokens - 1);
        let mut expected = vec![0.0; dim];
        for h in 0..HEADS.group() {
            let last = weights(t, h)[t];
            expected.iter_mut().zip(query(&dout, t, h)).for_each(|(sum, x)| *sum += last * x);
        }
        compared.extend(dv[t * kv_width..][..dim].iter().map(|&x| x as f64).zip(expected));
    }
    Ok(Agreement::of(compared, tolerance))
}
