use super::super::reference::{Agreement, noise, noise_on, spread};
use super::super::{Case, Opened, Work};
use super::{GIBIBYTE, bytes};
use crate::adamw::{self, AdamW};
use crate::buffer::Buffer;
use crate::swiglu;

/// Rounding of a few operations and of `exp`.
const FEW_ROUNDINGS: f64 = 1e-6;

pub fn cases() -> Vec<Case> {
    vec![
        silu("silu*x 2048x1024".into(), 2048 * 1024),
        silu(format!("silu*x {}x1024", GIBIBYTE / 1024), GIBIBYTE),
        adamw(1 << 24),
        adamw(1 << 26),
        adamw(GIBIBYTE),
    ]
}

fn silu(name: String, n: usize) -> Case {
    let open = move |device: &crate::Device| {
        let (a, b) = (noise(1, n), noise(2, n));
        let (gate, up) = (Buffer::from_slice(device, &a)?, Buffer::from_slice(device, &b)?);
        Ok(Opened {
            run: Box::new(move || Ok(vec![swiglu::forward(&gate, &up)?])),
            check: Box::new(move |found| {
                let found = found[0].to_vec::<f32>()?;
                let compared = spread(n, 10_000).map(|i| {
                    let (g, u) = (a[i] as f64, b[i] as f64);
                    (found[i] as f64, g / (1.0 + (-g).exp()) * u)
                });
                Ok(Agreement::of(compared, FEW_ROUNDINGS))
            }),
        })
    };
    Case { name, work: Work::Bytes(12.0 * n as f64), memory: bytes(3 * n), open: Box::new(open) }
}

fn adamw(n: usize) -> Case {
    let step = |step| AdamW { lr: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.1, step, grad_scale: 0.5 };
    let open = move |device: &crate::Device| {
        let grad = noise_on(device, 2, n)?;
        let zeros = || Buffer::zeros(device, "adamw", crate::Dtype::F32, n);
        let (mut param, mut m, mut v) = (noise_on(device, 1, n)?, zeros()?, zeros()?);
        let (before, mut at) = (noise(1, n), 0);
        let gradient = noise(2, n);
        Ok(Opened {
            run: Box::new(move || {
                at += 1;
                adamw::update(&mut param, &grad, &mut m, &mut v, &step(at))?;
                // the first step alone is compared; later ones would have to copy what they write
                Ok(if at == 1 { vec![param.to_device(&crate::Device::Cpu)?] } else { vec![] })
            }),
            check: Box::new(move |found| {
                let found = found[0].to_vec::<f32>()?;
                let AdamW { lr, eps, weight_decay, grad_scale, .. } = step(1);
                let compared = spread(n, 10_000).map(|i| {
                    // corrected, the first moments are the gradient and its square
                    let g = grad_scale * gradient[i] as f64;
                    let expected = (1.0 - lr * weight_decay) * before[i] as f64 - lr * g / (g.abs() + eps);
                    (found[i] as f64, expected)
                });
                Ok(Agreement::of(compared, FEW_ROUNDINGS))
            }),
        })
    };
    Case {
        name: format!("adamw {}M", n >> 20),
        // reads parameter, gradient and both moments, writes all but the gradient
        work: Work::Bytes(28.0 * n as f64),
        memory: bytes(4 * n),
        open: Box::new(open),
    }
}
