//! Products of normalised rows: where no gradient is wanted, a few rows on a GPU are one launch, norm included.

use super::linear::expect_inner;
use super::{linear_each, linear_swiglu, rms_norm, same_shape};
use crate::autograd::{Tape, Var};
use crate::error::Result;
use crate::tensor::Tensor;
use gr2_kernels::matmul::{Norm, normed_matmul_each, normed_matmul_swiglu};

/// `linear(rms_norm(x, norm), w)` for several weights.
///
/// Shapes: `x` (…, in), `norm` (in), each `w` (out, in) with an `out` of its own, results (…, out). Weights may be f16 or bf16
/// where no gradient is wanted.
/// Errors: `Shape` if inner dimensions differ.
pub fn norm_linear_each<const N: usize>(
    tape: &Tape,
    x: &Var,
    (norm, eps): (&Var, f32),
    ws: [&Var; N],
) -> Result<[Var; N]> {
    if ws.into_iter().chain([x, norm]).any(Var::tracked) {
        return linear_each(tape, &rms_norm(tape, x, norm, eps)?, ws);
    }
    let mut operands = vec![];
    for w in ws {
        operands.push((w.tensor().buffer(), expect_inner("linear", x, w)?));
    }
    let (rows, inner) = x.tensor().shape().rows();
    let norm = Norm { weight: norm.tensor().buffer(), eps };
    let products = normed_matmul_each(x.tensor().buffer(), norm, &operands, [rows, inner])?;
    let of = |(product, w): (_, &Var)| {
        Ok(tape.constant(Tensor::new(product, x.tensor().shape().with_last(w.tensor().shape()[0]))?))
    };
    let results: Vec<Var> = products.into_iter().zip(ws).map(of).collect::<Result<_>>()?;
    Ok(results.try_into().expect("invariant: one result for each weight"))
}

/// `linear_swiglu(rms_norm(x, norm), gate, up)`.
///
/// Shapes: `x` (…, in), `norm` (in), `gate` and `up` (out, in), result (…, out). Weights may be f16 or bf16 where no gradient is
/// wanted.
/// Errors: `Shape` if inner dimensions differ.
pub fn norm_linear_swiglu(tape: &Tape, x: &Var, (norm, eps): (&Var, f32), gate: &Var, up: &Var) -> Result<Var> {
    if [x, norm, gate, up].into_iter().any(Var::tracked) {
        return linear_swiglu(tape, &rms_norm(tape, x, norm, eps)?, gate, up);
    }
    same_shape("swiglu", gate, up)?;
    let (out, (rows, inner)) = (expect_inner("swiglu", x, gate)?, x.tensor().shape().rows());
    let norm = Norm { weight: norm.tensor().buffer(), eps };
    let weights = [gate, up].map(|w| w.tensor().buffer());
    let y = normed_matmul_swiglu(x.tensor().buffer(), norm, weights, [rows, out, inner])?;
    Ok(tape.constant(Tensor::new(y, x.tensor().shape().with_last(out))?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::gpu;
    use crate::ops::linear_onto;
    use gr2_kernels::Device;

    /// With a gradient wanted and without: the same numbers, on the CPU and on a GPU.
    #[test]
    fn riding_along_is_one_after_the_other() {
        let gpu = gpu("products of normalised rows").map(|(device, _)| device);
        for device in [Device::Cpu].into_iter().chain(gpu) {
            for rows in [1, 3, 40] {
                let values = |step: usize, n: usize| (0..n).map(|i| (i * step % 31) as f32 / 16.0 - 0.9).collect();
                let tensor = |step, shape: [usize; 2]| {
                    let values: Vec<f32> = values(step, shape[0] * shape[1]);
                    Tensor::from_slice(&device, &values, shape).unwrap()
                };
                let norm = Tensor::from_slice(&device, &values(3, 8) as &Vec<f32>, [8]).unwrap();
                let inputs = [tensor(5, [rows, 8]), norm, tensor(7, [6, 8]), tensor(11, [6, 8]), tensor(13, [8, 6])];
                let run = |tape: &Tape| {
                    let [x, norm, a, b, back] = inputs.clone().map(|tensor| tape.leaf(tensor));
                    let [y, z] = norm_linear_each(tape, &x, (&norm, 0.1), [&a, &b]).unwrap();
                    let gated = norm_linear_swiglu(tape, &x, (&norm, 0.1), &a, &b).unwrap();
                    let sum = linear_onto(tape, x.clone(), &gated, &back).unwrap();
                    // what was added to is as it was
                    [y, z, gated, sum, x].map(|y| y.tensor().to_f64().unwrap())
                };
                for (found, expected) in run(&Tape::inference()).iter().zip(&run(&Tape::new())) {
                    assert_eq!(found.len(), expected.len());
                    assert!(found.iter().zip(expected).all(|(f, e)| (f - e).abs() < 1e-5), "{device} {rows}");
                }
            }
        }
    }
}
