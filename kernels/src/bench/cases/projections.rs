use super::super::reference::{Agreement, noise, rounding, spread, sum_tolerance};
use super::super::{Case, Opened, Work};
use super::{KEYS, QUERIES, QWEN3};
use crate::buffer::{Buffer, Dtype};
use crate::matmul::{matmul_each, matmul_swiglu};
use crate::narrow::narrowed;
use std::rc::Rc;

/// The projections of a decoding step that share their input.
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

/// Products of `m` rows with matrices of `ns` rows, stored as `dtype`.
fn case(name: String, kind: Kind, ns: Rc<[usize]>, [m, k]: [usize; 2], dtype: Dtype) -> Case {
    let weights: usize = ns.iter().sum::<usize>() * k;
    let results = m * if kind == Kind::Each { ns.iter().sum() } else { ns[0] };
    let moved = 4 * (m * k + results) + dtype.size() * weights;
    let open = move |device: &crate::Device| {
        let (a, mut b): (_, Vec<Vec<f32>>) =
            (noise(1, m * k), ns.iter().zip(2..).map(|(n, seed)| noise(seed, n * k)).collect());
        let on = Buffer::from_slice(device, &a)?;
        let stored: Vec<Buffer> = b.iter().map(|b| narrowed(device, b, dtype)).collect::<Result<_, _>>()?;
        if dtype == Dtype::Bf16 {
            b.iter_mut().flatten().for_each(|x| *x = half::bf16::from_f32(*x).to_f32());
        }
        let (ns_run, ns) = (ns.clone(), ns.clone());
        let tolerance = sum_tolerance(k) + rounding(device);
        Ok(Opened {
            run: Box::new(move || match kind {
                Kind::Gated => Ok(vec![matmul_swiglu(&on, [&stored[0], &stored[1]], [m, ns_run[0], k])?]),
                Kind::Each => {
                    let pairs: Vec<(&Buffer, usize)> = stored.iter().zip(ns_run.iter().copied()).collect();
                    matmul_each(&on, &pairs, [m, k])
                }
            }),
            check: Box::new(move |found| {
                let mut compared = vec![];
                for (x, found) in found.iter().enumerate() {
                    let found = found.to_vec::<f32>()?;
                    for (i, j) in spread(m, 5).flat_map(|i| spread(ns[x], 17).map(move |j| (i, j))) {
                        let product =
                            |b: &[f32]| -> f64 { (0..k).map(|l| a[i * k + l] as f64 * b[j * k + l] as f64).sum() };
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
