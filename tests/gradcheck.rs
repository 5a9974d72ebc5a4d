//! Gradients through the tape against central differences in f64, over the case table.

mod support;

use gr2::autograd::Tape;
use gr2::tensor::Tensor;
use gr2_kernels::Device;
use support::{cases, numbers};

/// Elements of one input that are checked at most; they are spread evenly over it.
const PROBES: usize = 24;
const STEP: f64 = 1e-5;

#[test]
fn every_case_has_the_gradient_of_its_differences() {
    for case in cases::all() {
        // differences of large inputs measure rounding, not slopes
        let scale = case.scale.min(2.0);
        let mut inputs: Vec<Vec<f64>> = vec![];
        for (i, shape) in case.inputs.iter().enumerate() {
            inputs.push(numbers(i as u64, shape.len()).iter().map(|v| v * scale).collect());
        }
        let run = |inputs: &[Vec<f64>]| -> gr2::Result<(Tape, Vec<_>, gr2::autograd::Var)> {
            let tape = Tape::new();
            let mut vars = vec![];
            for (values, shape) in inputs.iter().zip(&case.inputs) {
                vars.push(tape.leaf(Tensor::from_slice(&Device::Cpu, values, shape.clone())?));
            }
            let y = (case.run)(&Device::Cpu, &tape, &vars)?;
            Ok((tape, vars, y))
        };
        let (tape, vars, y) = run(&inputs).unwrap_or_else(|e| panic!("{}: {e}", case.name));
        let shape = y.tensor().shape().clone();
        let dy = numbers(77, shape.len());
        let seed = Tensor::from_slice(&Device::Cpu, &dy, shape).expect("seed");
        let gradients = tape.backward(&[(&y, seed)]).unwrap_or_else(|e| panic!("{}: {e}", case.name));
        let loss = |inputs: &[Vec<f64>]| -> f64 {
            let (_, _, y) = run(inputs).expect("ran before");
            y.tensor().to_f64().expect("f64").iter().zip(&dy).map(|(y, d)| y * d).sum()
        };
        for i in 0..inputs.len() {
            let found = gradients.get(&vars[i]).unwrap_or_else(|| panic!("{}: input {i} has no gradient", case.name));
            let found = found.to_f64().expect("f64");
            let stride = inputs[i].len().div_ceil(PROBES).max(1);
            for j in (0..inputs[i].len()).step_by(stride) {
                let centre = inputs[i][j];
                inputs[i][j] = centre + STEP;
                let above = loss(&inputs);
                inputs[i][j] = centre - STEP;
                let below = loss(&inputs);
                inputs[i][j] = centre;
                let expected = (above - below) / (2.0 * STEP);
                // truncation O(STEP²), rounding about 1e-16 |loss| / STEP
                let error = (found[j] - expected).abs() / (1.0 + expected.abs());
                assert!(error < 1e-7, "{}: input {i}[{j}]: found {} expected {expected}", case.name, found[j]);
            }
        }
    }
}

#[test]
fn a_whole_model_with_its_loss_has_the_gradient_of_its_differences() {
    use gr2::data::{Batch, Example};
    use gr2::model::{Qwen3, Qwen3Config};
    use gr2::nn::Dropout;
    use gr2::train::loss_and_gradients;
    use gr2_kernels::Dtype;

    for tied in [true, false] {
        let dropout = (!tied).then_some(Dropout { p: 0.2, seed: 9 });
        let config = Qwen3Config {
            tie_word_embeddings: tied,
            initializer_range: 0.3,
            ..Qwen3Config::small(23, 8, 2, (4, 2, 6), 12)
        };
        let model = Qwen3::random(config, &Device::Cpu, 5).expect("model");
        let mut model = model.convert(Dtype::F64, &Device::Cpu).expect("f64");
        let example = |seed: u64, length: usize| Example {
            tokens: numbers(seed, length).iter().map(|v| ((v + 1.0) * 11.4) as u32).collect(),
            weights: numbers(seed + 1, length).iter().map(|v| (v + 1.0) as f32).collect(),
        };
        let batch = Batch::pack(&[example(1, 7), example(3, 4)]).expect("packs");
        let (_, mut gradients) = loss_and_gradients(&model, &batch, dropout, 1.0).expect("gradients");
        for p in 0..model.params().len() {
            let name = model.params()[p].name.clone();
            let found = gradients.take(model.params()[p]).unwrap_or_else(|| panic!("{name}: no gradient"));
            let found = found.to_f64().expect("f64");
            let shape = model.params()[p].value.shape().clone();
            let values = model.params()[p].value.to_f64().expect("f64");
            for j in (0..values.len()).step_by(values.len().div_ceil(7)) {
                let mut at = |step: f64| {
                    let mut moved = values.clone();
                    moved[j] += step;
                    model.params_mut()[p].value = Tensor::from_slice(&Device::Cpu, &moved, shape.clone()).expect("f64");
                    loss_and_gradients(&model, &batch, dropout, 1.0).expect("loss").0
                };
                let expected = (at(STEP) - at(-STEP)) / (2.0 * STEP);
                at(0.0);
                let error = (found[j] - expected).abs() / (1.0 + expected.abs());
                assert!(error < 1e-7, "tied {tied}: {name}[{j}]: found {} expected {expected}", found[j]);
            }
        }
    }
}
