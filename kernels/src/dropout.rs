//! Dropout with a counter-based generator: what is kept depends on an element's index and the seed only.

use crate::buffer::{Buffer, Dtype, Float};
use crate::device::{Access, Device, Widths};
use crate::elementwise::{element_kernel, launch, sources};
use crate::error::{Error, Result};
use crate::profile;

const SOURCES: &[[&str; 4]; 2] = &sources(include_str!("../../shaders/dropout.wgsl"));

pub(crate) static DROPOUT: Widths =
    element_kernel::<Params>("dropout", SOURCES, "main", &[Access::Read, Access::Write]);

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    n: u32,
    first: u32,
    low: u32,
    high: u32,
    threshold: u32,
    scale: f32,
}

/// `y = x / (1 - p)` for the elements that are kept, each with probability `1 - p`, and 0 for the others. The gradient
/// is the same function of `dy` with the same seed.
///
/// Shapes: any. Dtypes: f32; f64 on the CPU. The same elements are kept on every device and in every dtype.
/// Errors: `Shape` if `p` is not in [0, 1) or there are more than 2³² elements, `Dtype`.
/// Source: torch.nn.functional.dropout; the draws are this project's.
pub fn dropout(x: &Buffer, p: f32, seed: u64) -> Result<Buffer> {
    const OP: &str = "dropout";
    let _span = profile::span(OP);
    if !(0.0..1.0).contains(&p) {
        return Err(Error::shape(OP, format!("probability {p} is not in [0, 1)")));
    }
    if x.len() as u64 > 1 << 32 {
        return Err(Error::shape(OP, format!("{} elements, of which 2^32 can be told apart", x.len())));
    }
    let draw = Draw { low: seed as u32, high: (seed >> 32) as u32, threshold: (p as f64 * 2f64.powi(32)) as u32 };
    let scale = 1.0 / (1.0 - p as f64);
    let mut y = Buffer::uninit(x.device(), OP, x.dtype(), x.len())?;
    match x.device() {
        Device::Cpu => match x.expect_float(OP, "x")? {
            Float::Single => cpu::dropout::<f32>(x.as_slice(), y.as_mut_slice(), draw, scale as f32),
            Float::Double => cpu::dropout::<f64>(x.as_slice(), y.as_mut_slice(), draw, scale),
        },
        Device::Gpu(gpu) => {
            x.expect_dtype(OP, "x", Dtype::F32)?;
            launch(gpu, &DROPOUT, y.len(), |r| {
                let Draw { low, high, threshold } = draw;
                let params =
                    Params { n: r.len() as u32, first: r.start as u32, low, high, threshold, scale: scale as f32 };
                ([x.bind(r.clone()), y.bind(r)], params)
            })?;
        }
    }
    Ok(y)
}

/// Decides what is kept.
#[derive(Clone, Copy)]
struct Draw {
    low: u32,
    high: u32,
    /// Draws below are dropped.
    threshold: u32,
}

impl Draw {
    #[inline(always)]
    fn keeps(self, index: u32) -> bool {
        pcg(pcg(pcg(index) ^ self.low) ^ self.high) >= self.threshold
    }
}

/// PCG's output permutation of one step of its generator.
///
/// Source: Jarzynski and Olano 2020, "Hash Functions for GPU Rendering", pcg_hash.
#[inline(always)]
fn pcg(v: u32) -> u32 {
    let state = v.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
    let word = ((state >> ((state >> 28) + 4)) ^ state).wrapping_mul(277_803_737);
    (word >> 22) ^ word
}

mod cpu {
    use super::Draw;
    use crate::parallel;
    use crate::real::Real;

    pub fn dropout<T: Real>(x: &[T], y: &mut [T], draw: Draw, scale: T) {
        parallel::blocks(
            y,
            #[inline(always)]
            |start, y| {
                for (i, (y, &x)) in (start as u32..).zip(y.iter_mut().zip(&x[start..])) {
                    *y = if draw.keeps(i) { x * scale } else { T::zero() };
                }
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::central_differences;

    fn run(x: &[f32], p: f32, seed: u64) -> Vec<f32> {
        dropout(&Buffer::from_slice(&Device::Cpu, x).unwrap(), p, seed).unwrap().to_vec().unwrap()
    }

    #[test]
    fn backward_equals_central_differences() {
        central_differences(&[50], |x| dropout(&x[0], 0.4, 7), |_, dy| Ok(vec![dropout(dy, 0.4, 7)?]));
    }

    #[test]
    fn as_many_are_dropped_as_asked_and_seeds_differ() {
        let ones = vec![1.0; 100_000];
        for (p, seed) in [(0.1f32, 1u64), (0.5, 1 << 40), (0.0, 3)] {
            let y = run(&ones, p, seed);
            let dropped = y.iter().filter(|y| **y == 0.0).count() as f64 / 1e5;
            // five standard deviations of a share of 100,000 draws
            assert!((dropped - p as f64).abs() < 5.0 * (0.25f64 / 1e5).sqrt(), "{p}: {dropped}");
            assert!(y.iter().all(|y| *y == 0.0 || (*y - 1.0 / (1.0 - p)).abs() < 1e-6));
        }
        let half = |seed| run(&ones, 0.5, seed).iter().map(|y| *y > 0.0).collect::<Vec<_>>();
        for other in [2, 1 << 32] {
            let same = half(1).iter().zip(half(other)).filter(|(a, b)| **a == *b).count() as f64 / 1e5;
            assert!((same - 0.5).abs() < 5.0 * (0.25f64 / 1e5).sqrt(), "seeds 1 and {other} agree on {same}");
        }
    }

    #[test]
    fn a_probability_of_one_is_refused() {
        let x = Buffer::from_slice(&Device::Cpu, &[1.0f32]).unwrap();
        assert_eq!(dropout(&x, 1.0, 0).unwrap_err().to_string(), "dropout: probability 1 is not in [0, 1)");
    }
}
