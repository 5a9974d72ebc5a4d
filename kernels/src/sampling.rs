//! One token per row of logits: the largest, or one drawn by inverse transform. Only tokens leave the device.

use crate::buffer::{Buffer, Dtype};
use crate::device::{Access, Device, Kernel, REDUCE, split_rows};
use crate::error::{Error, Result};
use crate::profile;
use crate::{REDUCE_WIDTH, parallel};

const SOURCES: &[&str] = &[
    include_str!("../../shaders/common/grid.wgsl"),
    REDUCE,
    include_str!("../../shaders/common/best.wgsl"),
    include_str!("../../shaders/sampling.wgsl"),
];

const fn kernel(name: &'static str, entry: &'static str, bindings: &'static [Access]) -> Kernel {
    Kernel { name, sources: SOURCES, entry, bindings, constants: &[REDUCE_WIDTH], params: size_of::<Params>() }
}

use Access::{Read, Write};
pub(crate) static ARGMAX: Kernel = kernel("sampling.argmax", "argmax", &[Read, Write]);
pub(crate) static MEASURE: Kernel = kernel("sampling.measure", "measure", &[Read, Write]);
pub(crate) static SAMPLE: Kernel = kernel("sampling.sample", "sample", &[Read, Read, Write, Write, Read]);

/// Logits of a lane in a span: `TURNS` of the shader.
const TURNS: usize = 16;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    cols: u32,
    inverse: f32,
}

/// The token of a row with a NaN or infinite logit, or with every logit masked.
pub const NO_TOKEN: u32 = u32::MAX;

/// Logits from here on down (minus infinity among them) are masked: never chosen, no part of the distribution.
pub const MASKED: f32 = -3e38;

/// Drawn tokens.
#[derive(Debug, Clone)]
pub struct Sampled {
    /// The tokens (B) u32.
    pub tokens: Buffer,
    /// Their log-probabilities under `softmax(logits / temperature)` (B).
    pub logp: Buffer,
}

/// The lowest index of the largest logit of each row, [`NO_TOKEN`] where there is none.
///
/// Shapes: `logits` (B, V), result (B) u32. Dtypes: f32.
/// Errors: `Shape`, `Dtype`.
pub fn argmax(logits: &Buffer, rows: usize, cols: usize) -> Result<Buffer> {
    const OP: &str = "argmax";
    let _span = profile::span(OP);
    expect(OP, logits, rows, cols)?;
    let mut tokens = Buffer::uninit(logits.device(), OP, Dtype::U32, rows)?;
    match logits.device() {
        Device::Cpu => cpu::argmax(logits.as_slice(), tokens.as_mut_slice(), cols),
        Device::Gpu(gpu) => {
            for r in split_rows(OP, rows, &[cols * 4], gpu.max_binding())? {
                let params = Params { rows: r.len() as u32, cols: cols as u32, inverse: 1.0 };
                let groups = r.len() as u64;
                let binds = [logits.bind(r.start * cols..r.end * cols), tokens.bind(r)];
                gpu.run(&ARGMAX, &binds, &params, groups)?;
            }
        }
    }
    Ok(tokens)
}

/// Draws a token per row: the first whose cumulative probability under `softmax(logits / temperature)`, in index
/// order, exceeds the row's uniform number. [`NO_TOKEN`] where a row has no distribution.
///
/// Devices differ only where a uniform falls within rounding of a boundary between tokens.
///
/// Shapes: `logits` (B, V); `uniforms` (B) in [0, 1). Dtypes: f32.
/// Errors: `Shape` (also for a temperature that is not positive), `Dtype`, `DeviceMismatch`.
pub fn sample(logits: &Buffer, uniforms: &Buffer, rows: usize, cols: usize, temperature: f32) -> Result<Sampled> {
    const OP: &str = "sample";
    let _span = profile::span(OP);
    expect(OP, logits, rows, cols)?;
    logits.device().expect_all(OP, &[uniforms])?;
    uniforms.expect_len(OP, "uniforms", rows)?;
    uniforms.expect_dtype(OP, "uniforms", Dtype::F32)?;
    if !(temperature.is_finite() && temperature > 0.0) {
        return Err(Error::shape(OP, format!("temperature {temperature} must be positive")));
    }
    let mut tokens = Buffer::uninit(logits.device(), OP, Dtype::U32, rows)?;
    let mut logp = Buffer::uninit(logits.device(), OP, Dtype::F32, rows)?;
    let inverse = 1.0 / temperature;
    match logits.device() {
        Device::Cpu => {
            let out = (tokens.as_mut_slice(), logp.as_mut_slice());
            cpu::sample(logits.as_slice(), uniforms.as_slice(), out, cols, inverse);
        }
        Device::Gpu(gpu) => {
            let spans = cols.div_ceil(TURNS * REDUCE_WIDTH.on(gpu));
            for r in split_rows(OP, rows, &[cols * 4], gpu.max_binding())? {
                let params = Params { rows: r.len() as u32, cols: cols as u32, inverse };
                let row = logits.bind(r.start * cols..r.end * cols);
                let measured = Buffer::uninit(logits.device(), OP, Dtype::F32, 2 * r.len() * spans)?;
                gpu.run(&MEASURE, &[row, measured.bind_all()], &params, (r.len() * spans) as u64)?;
                let (tokens, logp) = (tokens.bind(r.clone()), logp.bind(r.clone()));
                let binds = [row, uniforms.bind(r.clone()), tokens, logp, measured.bind_all()];
                gpu.run(&SAMPLE, &binds, &params, r.len() as u64)?;
            }
        }
    }
    Ok(Sampled { tokens, logp })
}

/// Reads tokens of [`argmax`] or [`sample`] back.
///
/// Errors: as of [`checked`].
pub fn read(tokens: &Buffer) -> Result<Vec<u32>> {
    checked(tokens.to_vec()?)
}

/// Tokens of [`argmax`] or [`sample`] that were read back.
///
/// Errors: `Shape` naming the first row that has no token.
pub fn checked(tokens: Vec<u32>) -> Result<Vec<u32>> {
    match tokens.iter().position(|t| *t == NO_TOKEN) {
        Some(row) => Err(Error::shape("sample", format!("row {row} has a NaN or infinite logit, or none unmasked"))),
        None => Ok(tokens),
    }
}

fn expect(op: &'static str, logits: &Buffer, rows: usize, cols: usize) -> Result<()> {
    logits.expect_dtype(op, "logits", Dtype::F32)?;
    logits.expect_len(op, "logits", rows * cols)?;
    if cols == 0 && rows > 0 {
        return Err(Error::shape(op, format!("{rows} rows without columns")));
    }
    Ok(())
}

mod cpu {
    use super::{MASKED, NO_TOKEN, parallel};
    use crate::real::{Real, max, sum};

    /// The largest logit of a row, if it is one a distribution can have.
    #[inline(always)]
    fn top(row: &[f32]) -> Option<f32> {
        let top = max(row);
        (top > MASKED && top < -MASKED).then_some(top)
    }

    pub fn argmax(logits: &[f32], tokens: &mut [u32], cols: usize) {
        parallel::rows(
            cols,
            tokens,
            1,
            #[inline(always)]
            |r, token| {
                let row = &logits[r * cols..(r + 1) * cols];
                let found = top(row).and_then(|top| row.iter().position(|x| *x == top));
                token[0] = found.map_or(NO_TOKEN, |i| i as u32);
            },
        );
    }

    const BLOCK: usize = 512;

    pub fn sample(
        logits: &[f32],
        uniforms: &[f32],
        (tokens, logp): (&mut [u32], &mut [f32]),
        cols: usize,
        inverse: f32,
    ) {
        parallel::rows2(
            cols,
            (tokens, 1),
            (logp, 1),
            #[inline(always)]
            |r, token, logp| {
                let row = &logits[r * cols..(r + 1) * cols];
                let Some(top) = top(row) else {
                    (token[0], logp[0]) = (NO_TOKEN, f32::NAN);
                    return;
                };
                let mut weights = [0.0; BLOCK];
                // a loop, because what iterator adaptors call is not compiled for wide vectors
                let mut sums = Vec::with_capacity(cols.div_ceil(BLOCK));
                for x in row.chunks(BLOCK) {
                    sums.push(sum(weigh(x, top, inverse, &mut weights)));
                }
                let total: f64 = sums.iter().map(|s| *s as f64).sum();
                let (block, rest) = find(&sums, uniforms[r] as f64 * total);
                let within = &row[block * BLOCK..cols.min((block + 1) * BLOCK)];
                let (offset, _) = find(weigh(within, top, inverse, &mut weights), rest);
                token[0] = (block * BLOCK + offset) as u32;
                logp[0] = (within[offset] - top) * inverse - total.ln() as f32;
            },
        );
    }

    /// `e^((x - top) inverse)`, 0 for masked logits.
    #[inline(always)]
    fn weigh<'a>(x: &[f32], top: f32, inverse: f32, weights: &'a mut [f32; BLOCK]) -> &'a [f32] {
        for (w, &x) in weights.iter_mut().zip(x) {
            let e = ((x - top) * inverse).fast_exp();
            *w = if x > MASKED { e } else { 0.0 };
        }
        &weights[..x.len()]
    }

    /// The first index whose cumulative weight exceeds `target`, or the last with any weight should rounding leave
    /// none; and what is left of the target before it.
    #[inline(always)]
    fn find(weights: &[f32], target: f64) -> (usize, f64) {
        let (mut chosen, mut before, mut cumulative) = (0, 0.0, 0.0);
        for (i, &w) in weights.iter().enumerate() {
            if w > 0.0 {
                (chosen, before) = (i, cumulative);
                cumulative += w as f64;
                if cumulative > target {
                    break;
                }
            }
        }
        (chosen, target - before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upload(v: &[f32]) -> Buffer {
        Buffer::from_slice(&Device::Cpu, v).unwrap()
    }

    #[test]
    fn the_lowest_index_wins_a_tie_and_rows_without_a_maximum_are_named() {
        let x = [1.0, 5.0, 5.0, f32::NEG_INFINITY, -2.0, -2.0, -3.4e38, 0.5, f32::NAN];
        let tokens = argmax(&upload(&x), 3, 3).unwrap();
        assert_eq!(tokens.to_vec::<u32>().unwrap(), [1, 1, NO_TOKEN]);
        let message = read(&tokens).unwrap_err().to_string();
        assert_eq!(message, "sample: row 2 has a NaN or infinite logit, or none unmasked");
        let masked = argmax(&upload(&[f32::NEG_INFINITY, -3.2e38]), 1, 2).unwrap();
        assert!(read(&masked).is_err());
    }

    #[test]
    fn uniforms_pick_tokens_in_index_order_and_never_a_masked_one() {
        // probabilities 0, 1/4, 0, 1/2, 1/4 at temperature 2
        let ln2 = std::f32::consts::LN_2;
        let row = [f32::NEG_INFINITY, 1.0, -3.3e38, 1.0 + 2.0 * ln2, 1.0];
        let uniforms = [0.0, 0.249, 0.251, 0.749, 0.751, 0.999_999_94];
        let logits = upload(&row.repeat(uniforms.len()));
        let out = sample(&logits, &upload(&uniforms), uniforms.len(), 5, 2.0).unwrap();
        assert_eq!(read(&out.tokens).unwrap(), [1, 1, 3, 3, 4, 4]);
        for (found, p) in out.logp.to_vec::<f32>().unwrap().iter().zip([0.25f32, 0.25, 0.5, 0.5, 0.25, 0.25]) {
            assert!((found - p.ln()).abs() < 1e-6);
        }
    }

    #[test]
    fn many_draws_from_a_wide_row_follow_its_distribution() {
        // V = 1500, so three blocks; p_i proportional to i + 1
        let cols = 1500;
        let row: Vec<f32> = (0..cols).map(|i| ((i + 1) as f32).ln()).collect();
        let draws = 1000;
        let uniforms: Vec<f32> = (0..draws).map(|i| (i as f32 + 0.5) / draws as f32).collect();
        let out = sample(&upload(&row.repeat(draws)), &upload(&uniforms), draws, cols, 1.0).unwrap();
        for (token, u) in read(&out.tokens).unwrap().iter().zip(&uniforms) {
            // the cumulative probability of i is about (i / V)²
            let expected = (*u as f64).sqrt() * cols as f64;
            assert!((*token as f64 - expected).abs() < 1.5, "{token} {expected}");
        }
    }
}
