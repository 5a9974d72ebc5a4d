//! The model against transformers: what `tests/fixtures/make_fixture.py` recorded of two random checkpoints, on the
//! CPU and on a GPU.

mod support;

use gr2::autograd::Tape;
use gr2::data::{Batch, Example};
use gr2::generate::{Free, RolloutConfig, SamplerConfig, rollout};
use gr2::model::{self, Qwen3};
use gr2::nn::Packed;
use gr2::optim::{AdamWConfig, Optimizer};
use gr2::text::Tokenizer;
use gr2::train::loss_and_gradients;
use gr2_kernels::{Device, Dtype, Segments};
use safetensors::SafeTensors;
use std::path::Path;
use support::{FIXTURES, assert_close, fixture, gpu, gpu_with_matrices};

/// The recorded tensors of a fixture.
struct Expected(Vec<u8>);

impl Expected {
    fn read(name: &str) -> Expected {
        Expected(std::fs::read(fixture(name).join("expected.safetensors")).expect("fixture"))
    }

    fn floats(&self, name: &str) -> Vec<f64> {
        let tensors = SafeTensors::deserialize(&self.0).expect("safetensors");
        let view = tensors.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
        view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]) as f64).collect()
    }

    /// An integer tensor (rows, columns).
    fn ints(&self, name: &str) -> Vec<Vec<i32>> {
        let tensors = SafeTensors::deserialize(&self.0).expect("safetensors");
        let view = tensors.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
        let values: Vec<i32> =
            view.data().chunks_exact(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        let columns = *view.shape().last().expect("not a scalar");
        values.chunks_exact(columns).map(<[i32]>::to_vec).collect()
    }

    fn tokens(&self) -> Vec<Vec<u32>> {
        self.ints("input_ids").iter().map(|row| row.iter().map(|&t| t as u32).collect()).collect()
    }

    /// The recorded loss as a packed batch: transformers' mean over labels that are not -100.
    fn batch(&self) -> Batch {
        let labels = self.ints("labels");
        let weigh = |row: &Vec<i32>| row.iter().map(|&l| if l == -100 { 0.0 } else { 1.0 }).collect();
        let examples: Vec<Example> = self
            .tokens()
            .into_iter()
            .zip(&labels)
            .map(|(tokens, labels)| Example { tokens, weights: weigh(labels) })
            .collect();
        Batch::pack(&examples).expect("packs")
    }
}

fn devices(test: &str) -> Vec<Device> {
    std::iter::once(Device::Cpu).chain(gpu(test)).collect()
}

fn load(name: &str, device: &Device) -> Qwen3 {
    model::load(&fixture(name), device).unwrap_or_else(|e| panic!("{name}: {e}"))
}

#[test]
fn logits_agree_with_transformers() {
    for name in FIXTURES {
        let expected = Expected::read(name);
        let tokens = expected.tokens();
        for device in devices("logits") {
            let model = load(name, &device);
            let lengths: Vec<usize> = tokens.iter().map(Vec::len).collect();
            let tape = Tape::inference();
            let segments = Segments::packed(&lengths).expect("segments");
            let hidden = model.hidden(&tape, &tokens.concat(), &mut Packed::new(segments)).expect("hidden");
            let logits = model.logits(&tape, &hidden).expect("logits").tensor().to_f64().expect("download");
            assert_close(&format!("{name} on {device}"), &logits, &expected.floats("logits"), 1e-4);
        }
    }
}

#[test]
fn the_loss_and_every_gradient_agree_with_transformers() {
    for name in FIXTURES {
        let expected = Expected::read(name);
        for device in devices("gradients") {
            let model = load(name, &device);
            let (loss, mut gradients) = loss_and_gradients(&model, &expected.batch(), None, 1.0).expect("gradients");
            assert_close(&format!("{name} loss on {device}"), &[loss], &expected.floats("loss"), 1e-4);
            for param in model.params() {
                let found = gradients.take(param).unwrap_or_else(|| panic!("{}: no gradient", param.name));
                let recorded = expected.floats(&format!("grad.{}", param.name));
                let what = format!("{name} {} on {device}", param.name);
                assert_close(&what, &found.to_f64().expect("download"), &recorded, 1e-3);
            }
        }
    }
}

#[test]
fn ten_steps_of_adamw_follow_the_recorded_curve() {
    let config = AdamWConfig { decay_vectors: true, ..AdamWConfig::default() };
    for name in FIXTURES {
        let expected = Expected::read(name);
        for device in devices("adamw") {
            let mut model = load(name, &device);
            let mut optimizer = Optimizer::new(config, &model.params()).expect("optimizer");
            let mut curve = vec![];
            for _ in 0..10 {
                let (loss, mut gradients) =
                    loss_and_gradients(&model, &expected.batch(), None, 1.0).expect("gradients");
                optimizer.step(model.params_mut(), &mut gradients, 1e-2).expect("step");
                curve.push(loss);
            }
            assert_close(&format!("{name} on {device}"), &curve, &expected.floats("curve"), 1e-3);
        }
    }
}

/// Operands of 11 bits: losses differ by some 2^-11 of themselves, and no gradient vanishes or overflows for good.
#[test]
fn mixed_precision_follows_the_curve_of_f32_as_far_as_f16_allows() {
    let Some(device) = gpu_with_matrices("mixed precision") else { return };
    for name in FIXTURES {
        let expected = Expected::read(name);
        let curve = |device: &Device| {
            let mut model = load(name, device);
            let mut optimizer = Optimizer::new(AdamWConfig::default(), &model.params()).expect("optimizer");
            let mut curve = vec![];
            while curve.len() < 10 {
                let scale = optimizer.loss_scale().factor();
                assert_eq!(scale > 1.0, device.rounds_products(), "{name} on {device}: scaled by {scale}");
                let (loss, mut gradients) =
                    loss_and_gradients(&model, &expected.batch(), None, scale).expect("gradients");
                let report = optimizer.step(model.params_mut(), &mut gradients, 1e-3).expect("step");
                assert!(report.applied || report.overflowed, "{name} on {device}: {report:?}");
                curve.extend(report.applied.then_some(loss));
            }
            curve
        };
        assert_close(&format!("{name} on {device}"), &curve(&device), &curve(&Device::Cpu), 2e-3);
    }
}

fn greedy_config(max_new_tokens: usize) -> RolloutConfig {
    RolloutConfig {
        samples: 1,
        max_new_tokens,
        stop: vec![],
        sampler: SamplerConfig::greedy(),
        vocab_limit: usize::MAX,
        seed: 0,
        step: 0,
        max_rows: 4,
        kv_cache: Dtype::F32,
    }
}

#[test]
fn greedy_tokens_are_those_of_transformers() {
    for name in FIXTURES {
        let expected = Expected::read(name);
        let recorded: Vec<u32> = expected.ints("greedy")[0].iter().map(|&t| t as u32).collect();
        let (prompt, continuation) = recorded.split_at(8);
        for device in devices("greedy") {
            let config = greedy_config(continuation.len());
            let found = rollout(&load(name, &device), &[prompt.to_vec()], &Free, &config).expect("generates");
            assert_eq!(found[0].tokens, continuation, "{name} on {device}");
        }
    }
}

/// A cache in f16: log-probabilities of the same tokens move by its rounding, and by no more.
#[test]
fn a_cache_in_f16_differs_by_its_rounding() {
    for name in FIXTURES {
        let tokens = Expected::read(name).tokens();
        let prompts = [tokens[0][..5].to_vec(), tokens[0][2..4].to_vec()];
        for device in devices("f16 cache") {
            let model = load(name, &device);
            let logps = |kv_cache: Dtype| {
                let config = RolloutConfig {
                    samples: 2,
                    vocab_limit: model.config().vocab_size,
                    max_rows: 3,
                    kv_cache,
                    ..greedy_config(6)
                };
                rollout(&model, &prompts, &Free, &config).expect("generates")
            };
            let (half, single) = (logps(Dtype::F16), logps(Dtype::F32));
            let mut largest = 0.0f32;
            for (half, single) in half.iter().zip(&single) {
                assert_eq!(half.tokens, single.tokens, "{name} on {device}");
                let errors = half.logps.iter().zip(&single.logps).map(|(a, b)| (a - b).abs());
                largest = errors.fold(largest, f32::max);
            }
            assert!(largest > 0.0 && largest < 2e-3, "{name} on {device}: {largest}");
        }
    }
}

/// Weights in two bytes: only their rounding shows, in logits of many tokens and in those of one at a time; training refuses.
#[test]
fn stored_in_two_bytes_weights_are_what_they_are_rounded_to() {
    for (name, dtype) in [(FIXTURES[0], Dtype::Bf16), (FIXTURES[1], Dtype::F16)] {
        let tokens = Expected::read(name).tokens();
        for device in devices("narrow weights") {
            let stored = model::load_as(&fixture(name), &device, dtype).expect("loads");
            assert!(stored.head().value.dtype() == dtype && stored.device().same(&device));
            // the same numbers, in f32
            let wide = load(name, &Device::Cpu).store(dtype).and_then(|m| m.convert(Dtype::F32, &Device::Cpu));
            let wide = wide.expect("converts");
            let logits = |model: &Qwen3| {
                let tape = Tape::inference();
                let mut context = Packed::new(Segments::single(tokens[0].len()).expect("segments"));
                let hidden = model.hidden(&tape, &tokens[0], &mut context).expect("hidden");
                model.logits(&tape, &hidden).expect("logits").tensor().to_f64().expect("download")
            };
            assert_close(&format!("{name} in {dtype} on {device}"), &logits(&stored), &logits(&wide), 2e-5);
            let config = RolloutConfig { vocab_limit: stored.config().vocab_size, max_rows: 8, ..greedy_config(12) };
            let greedy = |model: &Qwen3| {
                let rollouts = rollout(model, &[tokens[0][..5].to_vec()], &Free, &config).expect("generates");
                rollouts.into_iter().flat_map(|r| r.tokens).collect::<Vec<u32>>()
            };
            assert_eq!(greedy(&stored), greedy(&wide), "{name} in {dtype} on {device}");
            let refusal = loss_and_gradients(&stored, &Expected::read(name).batch(), None, 1.0).map(drop);
            let message = refusal.expect_err("must be refused").to_string();
            assert_eq!(message, format!("embedding: weights in {dtype} have no gradient: training needs them in f32"));
        }
    }
}

#[test]
fn tokenizer_ids_are_those_of_transformers() {
    for name in FIXTURES {
        let tokenizer = Tokenizer::load(fixture(name)).expect("tokenizer");
        let recorded = std::fs::read_to_string(fixture(name).join("tokenized.json")).expect("fixture");
        let cases: serde_json::Value = serde_json::from_str(&recorded).expect("json");
        for case in cases.as_array().expect("a list") {
            let text = case["text"].as_str().expect("text");
            let ids: Vec<u64> = tokenizer.encode(text).expect("encodes").iter().map(|&t| t as u64).collect();
            assert_eq!(serde_json::json!(ids), case["ids"], "{name}: {text:?}");
        }
    }
}

#[test]
fn a_saved_model_loads_with_the_same_weights_sharded_or_not() {
    let directory = tempfile::tempdir().expect("temporary directory");
    for (i, shard_bytes) in [usize::MAX, 40_000].into_iter().enumerate() {
        for name in FIXTURES {
            let model = load(name, &Device::Cpu);
            let target = directory.path().join(format!("{name}-{i}"));
            std::fs::create_dir(&target).expect("directory");
            model::save_weights(&model, &target, shard_bytes).expect("saves");
            assert_eq!(target.join("model.safetensors.index.json").exists(), shard_bytes < usize::MAX);
            let again = model::load(&target, &Device::Cpu).expect("loads");
            assert_eq!(again.config(), model.config());
            for (a, b) in model.params().iter().zip(again.params()) {
                assert_eq!(a.name, b.name);
                assert_eq!(a.value.to_vec::<f32>().expect("f32"), b.value.to_vec::<f32>().expect("f32"), "{}", a.name);
            }
        }
    }
}

#[test]
fn damaged_checkpoints_are_refused_by_tensor_and_fact() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let copy = |name: &str, change: &dyn Fn(&Path)| -> String {
        let target = directory.path().join(name);
        std::fs::create_dir(&target).expect("directory");
        for file in ["config.json", "model.safetensors"] {
            std::fs::copy(fixture("qwen3-tied").join(file), target.join(file)).expect("copies");
        }
        change(&target);
        model::load(&target, &Device::Cpu).err().expect("must be refused").to_string()
    };
    let truncated = copy("truncated", &|dir| {
        let path = dir.join("model.safetensors");
        let bytes = std::fs::read(&path).expect("reads");
        std::fs::write(&path, &bytes[..bytes.len() / 2]).expect("writes");
    });
    assert!(truncated.contains("model.safetensors") && truncated.contains("truncated"), "{truncated}");
    let edit = |from: &'static str, to: &'static str| {
        move |dir: &Path| {
            let path = dir.join("config.json");
            let text = std::fs::read_to_string(&path).expect("reads");
            assert!(text.contains(from));
            std::fs::write(&path, text.replace(from, to)).expect("writes");
        }
    };
    let wider = copy("wider", &edit("\"intermediate_size\": 112", "\"intermediate_size\": 128"));
    assert!(wider.contains("config says [128, 48], file has [112, 48]"), "{wider}");
    let deeper = copy("deeper", &edit("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3"));
    assert!(deeper.contains("model.layers.2") && deeper.contains("no file has it"), "{deeper}");
}
