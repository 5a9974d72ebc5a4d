use super::super::reference::{Agreement, noise, rounding, spread, sum_tolerance};
use super::super::{Case, Opened, Work};
use super::{KEYS, QUERIES, QWEN3};
use crate::buffer::{Buffer, Dtype};
use crate::matmul::{Norm, normed_matmul_each, normed_matmul_swiglu};
use crate::narrow::narrowed;
use std::rc::Rc;

/// Added to the mean of a row's squares.
const EPS: f32 = 1e-6;

/// The projections of a decoding step that share their input, and its normalisation.
pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for model in QWEN3 {
        for dtype in [Dtype::F32, Dtype::Bf16] {
            for rows in [1, 16] {
                let (sizes, what) = ([rows, model.hidden], format!("{} decode {rows} {dtype}", model.name));
                cases.push(case(format!("qkv {what}"), Kind::Each, [QUERIES, KEYS, KEYS].into(), sizes, dtype));
                cases.push(case(format!("gate up {what}"), Kind::Gated, [model.ffn; 2].into(), sizes, dtype));
            }
        }
    }
    cases
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Each,
    Gated,
}

/// Products of `m` normalised rows with matrices of `ns` rows, stored as `dtype`.
fn case(name: String, kind: Kind, ns: Rc<[usize]>, [m, k]: [usize; 2], dtype: Dtype) -> Case {
    let weights: usize = ns.iter().sum::<usize>() * k;
    let results = m * if kind == Kind::Each { ns.iter().sum() } else { ns[0] };
    let moved = 4 * (m * k + k + results) + dtype.size() * weights;
    let open = move |device: &crate::Device| {
        let (a, mut b): (_, Vec<Vec<f32>>) =
            (noise(1, m * k), ns.iter().zip(2..).map(|(n, seed)| noise(seed, n * k)).collect());
        let w = noise(9, k);
        let (on, on_w) = (Buffer::from_slice(device, &a)?, Buffer::from_slice(device, &w)?);
        let stored: Vec<Buffer> = b.iter().map(|b| narrowed(device, b, dtype)).collect::<Result<_, _>>()?;
        if dtype == Dtype::Bf16 {
            b.iter_mut().flatten().for_each(|x| *x = half::bf16::from_f32(*x).to_f32());
        }
        let (ns_run, ns) = (ns.clone(), ns.clone());
        let tolerance = sum_tolerance(k) + rounding(device);
        Ok(Opened {
            run: Box::new(move || {
                let norm = Norm { weight: &on_w, eps: EPS };
                match kind {
                    Kind::Gated => {
                        Ok(vec![normed_matmul_swiglu(&on, norm, [&stored[0], &stored[1]], [m, ns_run[0], k])?])
                    }
                    Kind::Each => {
                        let pairs: Vec<(&Buffer, usize)> = stored.iter().zip(ns_run.iter().copied()).collect();
                        normed_matmul_each(&on, norm, &pairs, [m, k])
                    }
                }
            }),
            check: Box::new(move |found| {
                let mut compared = vec![];
                let normed = |i: usize| -> Vec<f64> {
                    let row = &a[i * k..(i + 1) * k];
                    let mean = row.iter().map(|&x| (x as f64).powi(2)).sum::<f64>() / k as f64;
                    let factor = 1.0 / (mean + EPS as f64).sqrt();
                    row.iter().zip(&w).map(|(&x, &w)| x as f64 * factor * w as f64).collect()
                };
                for (x, found) in found.iter().enumerate() {
                    let found = found.to_vec::<f32>()?;
                    for (i, j) in spread(m, 5).flat_map(|i| spread(ns[x], 17).map(move |j| (i, j))) {
                        let y = normed(i);
                        let product =
                            |b: &[f32]| -> f64 { y.iter().zip(&b[j * k..]).map(|(y, &b)| y * b as f64).sum() };
                        let expected = match kind {
                            Kind::Each => product(&b[x]),
                            Kind::Gated => {
                                let gate = product(&b[0]);
                                gate / (1.0 + (-gate).exp()) * product(&b[1])
                            }
                        };
                        compared.push((found[i * ns[x] + j] as f64, expected));
                    }
                }
                Ok(Agreement::of(compared, tolerance))
            }),
        })
    };
    Case { name, work: Work::Bytes(moved as f64), memory: moved as u64, open: Box::new(open) }
}
