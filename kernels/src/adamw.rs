//! The AdamW update.

use crate::buffer::{Buffer, Dtype, Float};
use crate::device::{Access, Device, Widths};
use crate::elementwise::{element_kernel, launch, sources};
use crate::error::{Error, Result};
use crate::profile;

const SOURCES: &[[&str; 4]; 2] = &sources(include_str!("../../shaders/adamw.wgsl"));

pub(crate) static UPDATE: Widths = element_kernel::<Params>(
    "adamw.update",
    SOURCES,
    "update",
    &[Access::Write, Access::Read, Access::Write, Access::Write],
);

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    n: u32,
    grad_scale: f32,
    decay: f32,
    one_minus_beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
    step_size: f32,
    inverse_correction: f32,
    eps: f32,
}

/// What a step needs besides the tensors.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// Learning rate of this step.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the corrected second moment.
    pub eps: f64,
    /// Decoupled weight decay: each step multiplies the parameter by `1 - lr weight_decay` first.
    pub weight_decay: f64,
    /// Number of this step, from 1.
    pub step: u64,
    /// Factor on the gradient: clipping, loss scale, gradient accumulation.
    pub grad_scale: f64,
}

/// The factors of the update, in f64: only they see the difference of `1 - beta` from 1.
struct Factors {
    grad_scale: f64,
    decay: f64,
    one_minus_beta1: f64,
    beta2: f64,
    one_minus_beta2: f64,
    step_size: f64,
    inverse_correction: f64,
    eps: f64,
}

impl AdamW {
    fn factors(&self) -> Factors {
        let corrected = |beta: f64| 1.0 - beta.powf(self.step as f64);
        Factors {
            grad_scale: self.grad_scale,
            decay: 1.0 - self.lr * self.weight_decay,
            one_minus_beta1: 1.0 - self.beta1,
            beta2: self.beta2,
            one_minus_beta2: 1.0 - self.beta2,
            step_size: self.lr / corrected(self.beta1),
            inverse_correction: 1.0 / corrected(self.beta2).sqrt(),
            eps: self.eps,
        }
    }
}

/// One step in place: with `g = grad_scale grad`, `m ← beta1 m + (1 - beta1) g`, `v ← beta2 v + (1 - beta2) g²`,
/// `param ← (1 - lr weight_decay) param - lr m̂ / (√v̂ + eps)`, m̂ and v̂ corrected by `1 - beta^step`.
///
/// Shapes: equal. Dtypes: f32; f64 on the CPU.
/// Errors: `Shape` if lengths differ or `step` is 0; `Dtype`, `DeviceMismatch`.
/// Source: Loshchilov and Hutter 2019, arXiv:1711.05101; torch.optim.AdamW.
pub fn update(param: &mut Buffer, grad: &Buffer, m: &mut Buffer, v: &mut Buffer, adamw: &AdamW) -> Result<()> {
    const OP: &str = "adamw";
    let _span = profile::span(OP);
    param.device().expect_all(OP, &[grad, m, v])?;
    for (name, x) in [("grad", grad), ("m", &*m), ("v", &*v)] {
        x.expect_len(OP, name, param.len())?;
        x.expect_dtype(OP, name, param.dtype())?;
    }
    if adamw.step == 0 {
        return Err(Error::shape(OP, "step is 0, steps count from 1"));
    }
    let factors = adamw.factors();
    match param.device().clone() {
        Device::Cpu => match param.expect_float(OP, "param")? {
            Float::Single => {
                let state = [param.as_mut_slice(), m.as_mut_slice(), v.as_mut_slice()];
                cpu::update::<f32>(state, grad.as_slice(), &factors);
            }
            Float::Double => {
                let state = [param.as_mut_slice(), m.as_mut_slice(), v.as_mut_slice()];
                cpu::update::<f64>(state, grad.as_slice(), &factors);
            }
        },
        Device::Gpu(gpu) => {
            param.expect_dtype(OP, "param", Dtype::F32)?;
            for x in [&mut *param, &mut *m, &mut *v] {
                x.make_unique(OP)?;
            }
            launch(&gpu, &UPDATE, param.len(), |r| {
                let params = Params {
                    n: r.len() as u32,
                    grad_scale: factors.grad_scale as f32,
                    decay: factors.decay as f32,
                    one_minus_beta1: factors.one_minus_beta1 as f32,
                    beta2: factors.beta2 as f32,
                    one_minus_beta2: factors.one_minus_beta2 as f32,
                    step_size: factors.step_size as f32,
                    inverse_correction: factors.inverse_correction as f32,
                    eps: factors.eps as f32,
                };
                ([param.bind(r.clone()), grad.bind(r.clone()), m.bind(r.clone()), v.bind(r)], params)
            })?;
        }
    }
    Ok(())
}

mod cpu {
    use super::Factors;
    use crate::parallel;
    use crate::real::Real;

    pub fn update<T: Real>(state: [&mut [T]; 3], grad: &[T], factors: &Factors) {
        let grad_scale = T::of(factors.grad_scale);
        let decay = T::of(factors.decay);
        let one_minus_beta1 = T::of(factors.one_minus_beta1);
        let beta2 = T::of(factors.beta2);
        let one_minus_beta2 = T::of(factors.one_minus_beta2);
        let step_size = T::of(factors.step_size);
        let inverse_correction = T::of(factors.inverse_correction);
        let eps = T::of(factors.eps);
        parallel::blocks_of(
            state,
            #[inline(always)]
            |start, [param, m, v]| {
                let state = param.iter_mut().zip(m.iter_mut()).zip(v.iter_mut());
                for (((param, m), v), &grad) in state.zip(&grad[start..]) {
                    let g = grad_scale * grad;
                    *m += one_minus_beta1 * (g - *m);
                    *v = beta2 * *v + one_minus_beta2 * g * g;
                    *param = decay * *param - step_size * *m / (v.sqrt() * inverse_correction + eps);
                }
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{gpu, numbers};

    const SETTINGS: AdamW =
        AdamW { lr: 0.01, beta1: 0.9, beta2: 0.99, eps: 1e-8, weight_decay: 0.1, step: 1, grad_scale: 1.0 };

    fn run<T: crate::Element>(device: &Device, of: fn(f64) -> T, n: usize, steps: u64) -> Vec<Vec<T>> {
        let upload = |seed| {
            let values: Vec<T> = numbers(seed, n).into_iter().map(of).collect();
            Buffer::from_slice(device, &values).unwrap()
        };
        let zeros = || Buffer::zeros(device, "test", T::DTYPE, n).unwrap();
        let (mut param, mut m, mut v) = (upload(1), zeros(), zeros());
        for step in 1..=steps {
            update(&mut param, &upload(step + 1), &mut m, &mut v, &AdamW { step, grad_scale: 0.5, ..SETTINGS })
                .unwrap();
        }
        [param, m, v].iter().map(|x| x.to_vec().unwrap()).collect()
    }

    #[test]
    fn first_steps_are_those_worked_by_hand() {
        let upload = |x: f64| Buffer::from_slice(&Device::Cpu, &[x]).unwrap();
        let (mut param, mut m, mut v) = (upload(1.0), upload(0.0), upload(0.0));
        // m = 0.2, v = 0.04; corrected both are the gradient: 1 · 0.999 - 0.01 · 2 / (2 + 1e-8)
        update(&mut param, &upload(2.0), &mut m, &mut v, &SETTINGS).unwrap();
        let value = |x: &Buffer| x.to_vec::<f64>().unwrap()[0];
        assert!((value(&param) - (0.999 - 0.02 / (2.0 + 1e-8))).abs() < 1e-15);
        assert!((value(&m) - 0.2).abs() < 1e-15 && (value(&v) - 0.04).abs() < 1e-15);
        // m = 0.18 - 0.1 = 0.08 over 0.19; v = 0.0396 + 0.01 = 0.0496 over 0.0199
        update(&mut param, &upload(-1.0), &mut m, &mut v, &AdamW { step: 2, ..SETTINGS }).unwrap();
        let before = 0.999 - 0.02 / (2.0 + 1e-8);
        let expected = 0.999 * before - 0.01 * (0.08 / 0.19) / ((0.0496f64 / 0.0199).sqrt() + 1e-8);
        assert!((value(&param) - expected).abs() < 1e-14, "{} for {expected}", value(&param));
    }

    #[test]
    fn single_follows_double_on_both_devices() {
        // past one block of the parallel loop and one workgroup, with a remainder, by accesses of one and of four
        let devices = [Some(Device::Cpu), gpu("adamw").map(|(device, _)| device)];
        for (device, n) in devices.into_iter().flatten().flat_map(|d| [(d.clone(), 8301), (d, 8316)]) {
            let exact = run::<f64>(&Device::Cpu, |x| x, n, 3);
            for (found, exact) in run::<f32>(&device, |x| x as f32, n, 3).iter().zip(&exact) {
                for (i, (f, e)) in found.iter().zip(exact).enumerate() {
                    // where v is far below eps the quotient amplifies its rounding; values are below one
                    assert!((*f as f64 - e).abs() < 1e-6, "{device} [{i}]: {f} for {e}");
                }
            }
        }
    }

    #[test]
    fn step_zero_is_refused() {
        let x = Buffer::from_slice(&Device::Cpu, &[1.0f32]).unwrap();
        let (mut p, mut m, mut v) = (x.clone(), x.clone(), x.clone());
        let message = update(&mut p, &x, &mut m, &mut v, &AdamW { step: 0, ..SETTINGS }).unwrap_err().to_string();
        assert_eq!(message, "adamw: step is 0, steps count from 1");
    }
}
