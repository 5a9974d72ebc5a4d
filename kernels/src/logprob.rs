//! Log-probability of a target and entropy of every row of logits, and the gradient that overwrites the logits.
//!
//! Rows come in chunks, because the logits of a whole batch do not fit: `src/ops/logprob.rs` of `gr2` has the loop.

use crate::buffer::{Buffer, Dtype, Float};
use crate::device::{Access, Device, FOURS, Kernel, ONES, REDUCE, Widths, split_rows};
use crate::error::{Error, Result};
use crate::profile;
use crate::{REDUCE_WIDTH, parallel};

const GRID: &str = include_str!("../../shaders/common/grid.wgsl");
const SHADER: &str = include_str!("../../shaders/logprob.wgsl");
const SOURCES: &[[&str; 4]; 2] = &[[GRID, ONES, REDUCE, SHADER], [GRID, FOURS, REDUCE, SHADER]];

const fn kernel(name: &'static str, entry: &'static str, bindings: &'static [Access]) -> Widths {
    let (constants, params) = (&[REDUCE_WIDTH], size_of::<Params>());
    Widths::new(Kernel { name, sources: &[], entry, bindings, constants, params }, SOURCES)
}

use Access::{Read, Write};
pub(crate) static STATS: Widths = kernel("logprob.stats", "stats", &[Read, Read, Write, Write, Write]);
pub(crate) static GRADIENT: Widths = kernel("logprob.gradient", "gradient", &[Write, Read, Read, Read]);

/// Accesses of one invocation of the gradient, `ELEMENTS` in the shader.
const ELEMENTS: usize = 2;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    cols: u32,
    inverse: f32,
}

/// What the logits of R rows say of their targets.
#[derive(Debug, Clone)]
pub struct Stats {
    /// `log softmax(logits / temperature)[target]` (R).
    pub logp: Buffer,
    /// Entropy of `softmax(logits / temperature)` in nats (R).
    pub entropy: Buffer,
    /// Largest logit, and log of the sum of `e^((logit - largest) / temperature)` (R, 2): apart, because their sum
    /// rounds the probabilities of large logits.
    pub norm: Buffer,
}

impl Stats {
    /// Room for `rows` rows, to be filled by [`stats`].
    pub fn uninit(device: &Device, dtype: Dtype, rows: usize) -> Result<Stats> {
        let room = |len| Buffer::uninit(device, "logprob", dtype, len);
        Ok(Stats { logp: room(rows)?, entropy: room(rows)?, norm: room(2 * rows)? })
    }
}

/// A chunk of rows of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Chunk {
    /// Its first row in the batch, a multiple of 64.
    pub first: usize,
    /// Its rows.
    pub rows: usize,
    /// V.
    pub cols: usize,
    /// What logits are divided by, positive.
    pub temperature: f32,
}

/// Fills `out` for the rows of one chunk.
///
/// Shapes: `logits` (chunk rows, V); `targets` (R) u32, below V; `out` of R rows. Dtypes: f32; f64 on the CPU.
/// Errors: `Shape`, `Dtype`, `DeviceMismatch`.
pub fn stats(logits: &Buffer, targets: &Buffer, chunk: &Chunk, out: &mut Stats) -> Result<()> {
    const OP: &str = "logprob";
    let _span = profile::span(OP);
    let rows = expect(OP, logits, targets, &out.norm, chunk)?;
    out.logp.expect_len(OP, "logp", targets.len())?;
    out.entropy.expect_len(OP, "entropy", targets.len())?;
    match logits.device() {
        Device::Cpu => match logits.expect_float(OP, "logits")? {
            Float::Single => cpu::stats::<f32>(logits.as_slice(), &targets.as_slice()[rows], chunk, out),
            Float::Double => cpu::stats::<f64>(logits.as_slice(), &targets.as_slice()[rows], chunk, out),
        },
        Device::Gpu(gpu) => {
            logits.expect_dtype(OP, "logits", Dtype::F32)?;
            for out in [&mut out.logp, &mut out.entropy, &mut out.norm] {
                out.make_unique(OP)?;
            }
            for r in split_rows(OP, chunk.rows, &[chunk.cols * 4], gpu.max_binding())? {
                let at = chunk.first + r.start..chunk.first + r.end;
                let binds = [
                    logits.bind(r.start * chunk.cols..r.end * chunk.cols),
                    targets.bind(at.clone()),
                    out.logp.bind(at.clone()),
                    out.entropy.bind(at.clone()),
                    out.norm.bind(2 * at.start..2 * at.end),
                ];
                gpu.run(STATS.of(chunk.cols).0, &binds, &params(chunk, r.len()), r.len() as u64)?;
            }
        }
    }
    Ok(())
}

/// Overwrites the logits of a chunk with their gradient `g (onehot(target) - softmax(logits / temperature)) / temperature`.
///
/// Shapes: `logits` (chunk rows, V); `targets` (R) u32; `norm` (R, 2) of [`Stats`]; `g` (R), the gradient of `logp`.
/// Dtypes: f32; f64 on the CPU. Errors: `Shape`, `Dtype`, `DeviceMismatch`.
pub fn gradient_in_place(
    logits: &mut Buffer,
    targets: &Buffer,
    norm: &Buffer,
    g: &Buffer,
    chunk: &Chunk,
) -> Result<()> {
    const OP: &str = "logprob backward";
    let _span = profile::span(OP);
    let rows = expect(OP, logits, targets, norm, chunk)?;
    logits.device().expect_all(OP, &[g])?;
    g.expect_len(OP, "g", targets.len())?;
    g.expect_dtype(OP, "g", logits.dtype())?;
    match logits.device().clone() {
        Device::Cpu => {
            let targets = &targets.as_slice()[rows];
            match logits.expect_float(OP, "logits")? {
                Float::Single => cpu::gradient::<f32>(logits.as_mut_slice(), targets, norm, g, chunk),
                Float::Double => cpu::gradient::<f64>(logits.as_mut_slice(), targets, norm, g, chunk),
            }
        }
        Device::Gpu(gpu) => {
            logits.expect_dtype(OP, "logits", Dtype::F32)?;
            logits.make_unique(OP)?;
            let (kernel, width) = GRADIENT.of(chunk.cols);
            for r in split_rows(OP, chunk.rows, &[chunk.cols * 4], gpu.max_binding())? {
                let at = chunk.first + r.start..chunk.first + r.end;
                let span = r.start * chunk.cols..r.end * chunk.cols;
                let groups = span.len().div_ceil(ELEMENTS * width * REDUCE_WIDTH.on(&gpu)) as u64;
                let norm = norm.bind(2 * at.start..2 * at.end);
                let binds = [logits.bind(span), targets.bind(at.clone()), norm, g.bind(at)];
                gpu.run(kernel, &binds, &params(chunk, r.len()), groups)?;
            }
        }
    }
    Ok(())
}

fn params(chunk: &Chunk, rows: usize) -> Params {
    Params { rows: rows as u32, cols: chunk.cols as u32, inverse: 1.0 / chunk.temperature }
}

/// Checks a chunk against its batch: its rows there.
fn expect(
    op: &'static str,
    logits: &Buffer,
    targets: &Buffer,
    norm: &Buffer,
    chunk: &Chunk,
) -> Result<std::ops::Range<usize>> {
    logits.device().expect_all(op, &[targets, norm])?;
    targets.expect_dtype(op, "targets", Dtype::U32)?;
    logits.expect_len(op, "logits", chunk.rows * chunk.cols)?;
    norm.expect_len(op, "norm", 2 * targets.len())?;
    norm.expect_dtype(op, "norm", logits.dtype())?;
    let rows = chunk.first..chunk.first + chunk.rows;
    if rows.end > targets.len() || !chunk.first.is_multiple_of(64) || (chunk.cols == 0 && chunk.rows > 0) {
        let problem = format!("rows {rows:?} of {}, a chunk starts at a multiple of 64 and has columns", targets.len());
        return Err(Error::shape(op, problem));
    }
    if matches!(logits.device(), Device::Cpu)
        && let Some(far) = targets.as_slice::<u32>()[rows.clone()].iter().find(|t| **t as usize >= chunk.cols)
    {
        return Err(Error::shape(op, format!("target {far} of {} columns", chunk.cols)));
    }
    Ok(rows)
}

mod cpu {
    use super::{Buffer, Chunk, Stats, parallel};
    use crate::real::{Real, max};

    pub fn stats<T: Real>(logits: &[T], targets: &[u32], chunk: &Chunk, out: &mut Stats) {
        let Chunk { first, rows, cols, temperature } = *chunk;
        let inverse = T::of(1.0 / temperature as f64);
        parallel::rows3(
            chunk.cols,
            (&mut out.logp.as_mut_slice::<T>()[first..first + rows], 1),
            (&mut out.entropy.as_mut_slice::<T>()[first..first + rows], 1),
            (&mut out.norm.as_mut_slice::<T>()[2 * first..2 * (first + rows)], 2),
            #[inline(always)]
            |r, logp, entropy, norm| {
                let row = &logits[r * cols..(r + 1) * cols];
                let largest = max(row);
                let (total, slope) = sums(row, largest, inverse);
                let log_sum = T::of(total.ln());
                logp[0] = (row[targets[r] as usize] - largest) * inverse - log_sum;
                entropy[0] = T::of(total.ln() - slope / total);
                (norm[0], norm[1]) = (largest, log_sum);
            },
        );
    }

    const LANES: usize = 16;

    /// `Σ e^d` and `Σ d e^d` with `d = (x - largest) inverse`, in blocks that are added up in f64.
    #[inline(always)]
    fn sums<T: Real>(row: &[T], largest: T, inverse: T) -> (f64, f64) {
        // e^d is 0 from there on down, and a masked logit's d may be infinite
        let lowest = T::of(-1e4);
        let term = |x: T| {
            let d = (x - largest) * inverse;
            let d = if d < lowest { lowest } else { d };
            let e = d.fast_exp();
            (e, d * e)
        };
        let (mut total, mut slope) = (0.0, 0.0);
        for block in row.chunks(128 * LANES) {
            let (mut totals, mut slopes) = ([T::zero(); LANES], [T::zero(); LANES]);
            let chunks = block.chunks_exact(LANES);
            for &x in chunks.remainder() {
                let (e, de) = term(x);
                total += e.wide();
                slope += de.wide();
            }
            for x in chunks {
                for i in 0..LANES {
                    let (e, de) = term(x[i]);
                    totals[i] += e;
                    slopes[i] += de;
                }
            }
            total += totals.iter().map(|t| t.wide()).sum::<f64>();
            slope += slopes.iter().map(|s| s.wide()).sum::<f64>();
        }
        (total, slope)
    }

    pub fn gradient<T: Real>(logits: &mut [T], targets: &[u32], norm: &Buffer, g: &Buffer, chunk: &Chunk) {
        let inverse = T::of(1.0 / chunk.temperature as f64);
        let norm = &norm.as_slice::<T>()[2 * chunk.first..];
        let g = &g.as_slice::<T>()[chunk.first..];
        parallel::rows(
            chunk.cols,
            logits,
            chunk.cols,
            #[inline(always)]
            |r, row| {
                let (largest, log_sum) = (norm[2 * r], norm[2 * r + 1]);
                let scale = g[r] * inverse;
                for x in row.iter_mut() {
                    *x = -scale * ((*x - largest) * inverse - log_sum).fast_exp();
                }
                row[targets[r] as usize] += scale;
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::central_differences;

    fn run(logits: &Buffer, targets: &[u32], temperature: f32) -> Result<Stats> {
        let chunk = Chunk { first: 0, rows: targets.len(), cols: logits.len() / targets.len(), temperature };
        let mut out = Stats::uninit(&Device::Cpu, logits.dtype(), targets.len())?;
        stats(logits, &Buffer::from_slice(&Device::Cpu, targets)?, &chunk, &mut out)?;
        Ok(out)
    }

    #[test]
    fn backward_equals_central_differences() {
        let (targets, temperature) = ([4u32, 0, 19], 0.7);
        let chunk = Chunk { first: 0, rows: 3, cols: 20, temperature };
        central_differences(
            &[60],
            |x| Ok(run(&x[0], &targets, temperature)?.logp),
            |x, g| {
                let (norm, mut logits) = (run(&x[0], &targets, temperature)?.norm, x[0].clone());
                let targets = Buffer::from_slice(&Device::Cpu, &targets)?;
                gradient_in_place(&mut logits, &targets, &norm, g, &chunk)?;
                Ok(vec![logits])
            },
        );
    }

    #[test]
    fn known_rows_and_large_or_masked_logits() {
        let ln2 = std::f32::consts::LN_2;
        let x = [0.0f32, 0.0, -3e38, 1000.0, 1000.0, -1000.0, 1000.0, 0.0, f32::NEG_INFINITY];
        let out = run(&Buffer::from_slice(&Device::Cpu, &x).unwrap(), &[1, 2, 0], 0.5).unwrap();
        assert_eq!(out.logp.to_vec::<f32>().unwrap(), [-ln2, -4000.0 - ln2, 0.0]);
        assert_eq!(out.entropy.to_vec::<f32>().unwrap(), [ln2, ln2, 0.0]);
    }

    #[test]
    fn a_wide_row_is_accurate_to_a_few_units() {
        // V = 150,001 equal logits but one: entropy and log-probability in closed form
        let mut x = vec![999.0f32; 150_001];
        x[77] = 1003.0;
        let out = run(&Buffer::from_slice(&Device::Cpu, &x).unwrap(), &[77], 1.0).unwrap();
        let (n, e4) = (150_000.0f64, 4.0f64.exp());
        let logp = 4.0 - (n + e4).ln();
        let p = e4 / (n + e4);
        let entropy = -p * logp + (1.0 - p) * (n + e4).ln();
        assert!((out.logp.to_vec::<f32>().unwrap()[0] as f64 - logp).abs() < 2e-6);
        assert!((out.entropy.to_vec::<f32>().unwrap()[0] as f64 - entropy).abs() < 2e-6);
    }

    #[test]
    fn a_target_past_the_columns_is_an_error() {
        let x = Buffer::from_slice(&Device::Cpu, &[0.0f32, 1.0]).unwrap();
        assert_eq!(run(&x, &[2], 1.0).unwrap_err().to_string(), "logprob: target 2 of 2 columns");
    }
}
