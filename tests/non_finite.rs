//! NaN in a loss: the update is skipped and counted, a run that only skips stops, weights stay as they were.

mod support;

use gr2::Error;
use gr2::data::Example;
use gr2::model::{self, Qwen3};
use gr2::tensor::Tensor;
use gr2::text::Tokenizer;
use gr2::train::{TrainConfig, Trainer};
use gr2_kernels::Device;
use std::path::Path;
use support::{fixture, gpu, smoke};

fn config(epochs: u64, max_skipped: u64) -> TrainConfig {
    // one example an update
    TrainConfig { epochs, max_skipped, lr: 1e-2, batch_tokens: 2, ..TrainConfig::default() }
}

fn examples(weights: &[f32]) -> Vec<Example> {
    let example = |(i, &weight): (usize, &f32)| {
        let tokens: Vec<u32> = (0..6).map(|t| 10 + 7 * i as u32 + t).collect();
        Example { weights: vec![weight; tokens.len()], tokens }
    };
    weights.iter().enumerate().map(example).collect()
}

fn train(model: &mut Qwen3, config: &TrainConfig, examples: &Vec<Example>, directory: &Path) -> gr2::Result<u64> {
    let tokenizer = Tokenizer::load(fixture("qwen3-tied")).expect("tokenizer");
    Trainer { stage: "sft", model, tokenizer: &tokenizer, config, seed: 1, directory }.run(examples)
}

fn bits(model: &Qwen3) -> Vec<Vec<u32>> {
    let read = |tensor: &Tensor| tensor.to_vec::<f32>().expect("f32").into_iter().map(f32::to_bits).collect();
    model.params().iter().map(|param| read(&param.value)).collect()
}

#[test]
fn a_model_with_nan_in_its_weights_stops_the_run_and_is_left_alone() {
    for device in std::iter::once(Device::Cpu).chain(gpu("non_finite")) {
        let directory = tempfile::tempdir().expect("temporary directory");
        let mut model = model::load(&fixture("qwen3-tied"), &device).expect("loads");
        let param = model.params_mut().into_iter().find(|p| p.name.contains("up_proj")).expect("a matrix");
        let mut values = param.value.to_vec::<f32>().expect("f32");
        values[5] = f32::NAN;
        param.value = Tensor::from_slice(&device, &values, param.value.shape().clone()).expect("uploads");
        let before = bits(&model);

        let examples = examples(&[1.0; 5]);
        let error = train(&mut model, &config(9, 3), &examples, directory.path()).expect_err("must stop");
        let Error::NonFinite { stage, step, skipped, limit, batch } = &error else { panic!("{error}") };
        assert_eq!((stage.as_str(), *step, *skipped, *limit), ("sft", 3, 3, 3), "{device}");
        assert!(error.to_string().contains("hint: lower the learning rate"), "{error}");
        assert!(bits(&model) == before, "{device}: a skipped update changed a weight");
        assert!(!directory.path().join("checkpoint").exists(), "{device}: the broken model was saved");
        let dump = smoke::json(batch);
        let tokens: Vec<u64> = dump["tokens"].as_array().expect("tokens").iter().filter_map(|t| t.as_u64()).collect();
        let inputs = |e: &Example| e.tokens[..5].iter().map(|&t| u64::from(t)).collect::<Vec<_>>();
        assert!(examples.iter().any(|e| inputs(e) == tokens), "{device}: {dump} is none of the batches");
    }
}

#[test]
fn one_bad_example_is_skipped_and_counted_and_the_others_are_learnt() {
    for device in std::iter::once(Device::Cpu).chain(gpu("non_finite")) {
        let directory = tempfile::tempdir().expect("temporary directory");
        let mut model = model::load(&fixture("qwen3-tied"), &device).expect("loads");
        let before = bits(&model);
        let examples = examples(&[1.0, 1.0, f32::NAN, 1.0, 1.0]);
        // 20 updates, 4 of them bad, never two in a row within an epoch of five
        let updates = train(&mut model, &config(4, 3), &examples, directory.path()).expect("goes on");
        assert_eq!(updates, 16, "{device}: those that were made");
        let log = directory.path().join("metrics.jsonl");
        assert_eq!(smoke::column(&log, "skipped"), [2.0, 4.0], "{device}");
        let loss = smoke::column(&log, "loss");
        assert!(loss[1] < loss[0], "{device}: nothing was learnt: {loss:?}");
        assert!(bits(&model) != before, "{device}");
        let finite = |bits: &u32| f32::from_bits(*bits).is_finite();
        assert!(bits(&model).iter().flatten().all(finite), "{device}: the bad example reached the weights");
    }
}
