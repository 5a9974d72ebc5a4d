//! GPU kernels against their CPU twins, over the case table: outputs and every gradient.

mod support;

use gr2::autograd::Tape;
use gr2::tensor::Tensor;
use gr2_kernels::Device;
use support::{assert_close_at, cases, gpu, numbers};

/// Output and gradients of one case on one device, inputs and output gradient fixed by the case's position.
fn evaluate(case: &cases::Case, device: &Device) -> gr2::Result<Vec<Vec<f64>>> {
    let tape = Tape::new();
    let mut inputs = vec![];
    for (i, shape) in case.inputs.iter().enumerate() {
        let values: Vec<f32> = numbers(i as u64, shape.len()).iter().map(|v| (v * case.scale) as f32).collect();
        inputs.push(tape.leaf(Tensor::from_slice(device, &values, shape.clone())?));
    }
    let y = (case.run)(device, &tape, &inputs)?;
    let dy: Vec<f32> = numbers(77, y.tensor().shape().len()).iter().map(|v| *v as f32).collect();
    let dy = Tensor::from_slice(device, &dy, y.tensor().shape().clone())?;
    let mut results = vec![y.tensor().to_f64()?];
    let gradients = tape.backward(&[(&y, dy)])?;
    for x in &inputs {
        results.push(match gradients.get(x) {
            Some(g) => g.to_f64()?,
            None => vec![],
        });
    }
    Ok(results)
}

#[test]
fn every_case_agrees_with_its_twin() {
    let Some(device) = gpu("parity") else { return };
    for case in cases::all() {
        let expected = evaluate(&case, &Device::Cpu).unwrap_or_else(|e| panic!("{}: cpu: {e}", case.name));
        let found = evaluate(&case, &device).unwrap_or_else(|e| panic!("{}: gpu: {e}", case.name));
        // a result that cancels to nothing is compared at a hundredth of the case's largest
        let largest = expected.iter().flatten().fold(0.0f64, |m, e| if e.is_finite() { m.max(e.abs()) } else { m });
        for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let part = if i == 0 { "output".to_string() } else { format!("gradient {}", i - 1) };
            assert_close_at(&format!("{}: {part}", case.name), found, expected, case.tolerance, largest * 1e-2);
        }
    }
}
