//! A whole model: training steps, prompts, sampling.

use super::kernels::driver;
use super::preset::{Load, Preset};
use crate::autograd::Tape;
use crate::console::check_interrupt;
use crate::data::{Batch, Example};
use crate::error::Result;
use crate::generate::{Free, RolloutConfig, SamplerConfig, rollout};
use crate::model::Qwen3;
use crate::nn::Packed;
use crate::optim::{AdamWConfig, Optimizer};
use crate::tensor::stream;
use crate::train::loss_and_gradients;
use gr2_kernels::{Device, Dtype, Segments};
use rand::RngExt;
use serde_json::{Value, json};
use std::time::Instant;

/// What was measured of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelReport {
    /// Device and driver.
    device: (String, String),
    preset: Preset,
    how: ModelBench,
    /// Weights.
    pub parameters: usize,
    /// Seconds of the first training step: what compiling the kernels adds is most of it on a GPU.
    pub cold_start_s: f64,
    /// Tokens of forward, backward and AdamW per second.
    pub train_tokens_per_s: f64,
    /// Prompt tokens per second.
    pub prefill_tokens_per_s: f64,
    /// New tokens per second, the prompts' time included.
    pub sample_tokens_per_s: f64,
    /// Most memory held by tensors.
    pub peak_bytes: u64,
    /// GPU dispatches of a training step.
    pub dispatches_per_step: u64,
    /// Median host time of a training step over its dispatches, on both threads that record and encode them and without waiting for
    /// the GPU; none on the CPU.
    pub cpu_us_per_dispatch: Option<f64>,
}

/// Steps that are not counted, and that are.
const WARM_UP: usize = 2;
const STEPS: usize = 5;

/// How a model is run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ModelBench {
    /// What prompts and sampling read weights in; training keeps f32.
    pub weights: Dtype,
    /// Of sampling; see [`RolloutConfig::kv_cache`].
    pub kv_cache: Dtype,
    /// Of training; see [`Qwen3::set_gradient_checkpointing`].
    pub gradient_checkpointing: bool,
}

/// Measures a model with random weights on random tokens.
///
/// Errors: `Interrupted`; `Kernel`, as out of memory.
pub fn bench_model(device: &Device, preset: Preset, load: Load, how: &ModelBench) -> Result<ModelReport> {
    let mut model = Qwen3::random(preset.config(), device, 1)?;
    let parameters = model.config().parameters();
    model.set_gradient_checkpointing(how.gradient_checkpointing);
    let training = train(&mut model, load)?;
    let model = model.store(how.weights)?;
    let prompts: Vec<Vec<u32>> = (0..load.samples).map(|i| tokens(&model, i as u64, load.prompt)).collect();
    let prefill = median(|| {
        let segments = Segments::packed(&vec![load.prompt; load.samples])?;
        model.hidden(&Tape::inference(), &prompts.concat(), &mut Packed::new(segments))?;
        device.synchronize().map_err(Into::into)
    })?;
    let config = RolloutConfig {
        samples: 1,
        max_new_tokens: load.new_tokens,
        stop: vec![],
        sampler: SamplerConfig::sampling(1.0),
        vocab_limit: model.config().vocab_size,
        seed: 1,
        step: 0,
        max_rows: load.samples,
        kv_cache: how.kv_cache,
    };
    let sampling = median(|| rollout(&model, &prompts, &Free, &config).map(drop))?;
    Ok(ModelReport {
        device: (device.to_string(), driver(device)),
        preset,
        how: *how,
        parameters,
        cold_start_s: training.first,
        train_tokens_per_s: (load.batch * load.length) as f64 / training.seconds,
        prefill_tokens_per_s: (load.samples * load.prompt) as f64 / prefill,
        sample_tokens_per_s: (load.samples * load.new_tokens) as f64 / sampling,
        peak_bytes: device.memory().1,
        dispatches_per_step: training.dispatches,
        cpu_us_per_dispatch: training.cpu_us_per_dispatch,
    })
}

struct Training {
    first: f64,
    seconds: f64,
    dispatches: u64,
    cpu_us_per_dispatch: Option<f64>,
}

fn train(model: &mut Qwen3, load: Load) -> Result<Training> {
    let device = model.device().clone();
    let mut optimizer = Optimizer::new(AdamWConfig::default(), &model.params())?;
    // one token more than is fed: every token fed predicts one
    let examples: Vec<Example> = (0..load.batch)
        .map(|i| Example { tokens: tokens(model, i as u64, load.length + 1), weights: vec![1.0; load.length + 1] })
        .collect();
    let batch = Batch::pack(&examples)?;
    let before = device.counters();
    let (mut host, mut first) = (vec![], None);
    let seconds = median(|| {
        let (start, before) = (Instant::now(), device.counters());
        let (_, mut gradients) = loss_and_gradients(model, &batch, None, optimizer.loss_scale().factor())?;
        optimizer.step(model.params_mut(), &mut gradients, 1e-4)?;
        drop(gradients);
        device.synchronize()?;
        let (elapsed, after) = (start.elapsed(), device.counters());
        host.push((elapsed - (after.waited - before.waited) + (after.encoding - before.encoding)).as_secs_f64());
        first.get_or_insert(start.elapsed().as_secs_f64());
        Ok(())
    })?;
    let dispatches = (device.counters().dispatches - before.dispatches) / (WARM_UP + STEPS) as u64;
    let cpu_us_per_dispatch = (dispatches > 0).then(|| middle(host.split_off(WARM_UP)) * 1e6 / dispatches as f64);
    Ok(Training { first: first.expect("invariant: steps were run"), seconds, dispatches, cpu_us_per_dispatch })
}

fn tokens(model: &Qwen3, number: u64, n: usize) -> Vec<u32> {
    let mut rng = stream(1, "bench tokens", number, 0);
    (0..n).map(|_| rng.random_range(0..model.config().vocab_size as u32)).collect()
}

/// Median seconds of [`STEPS`] runs; an error when interrupted.
fn median(mut run: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut times = vec![];
    for i in 0..WARM_UP + STEPS {
        check_interrupt()?;
        let start = Instant::now();
        run()?;
        if i >= WARM_UP {
            times.push(start.elapsed().as_secs_f64());
        }
    }
    Ok(middle(times))
}

fn middle(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

impl ModelReport {
    /// One object of everything measured.
    pub fn json(&self) -> Value {
        json!({
            "device": self.device.0,
            "driver": self.device.1,
            "preset": self.preset.name(),
            "weights": self.how.weights.name(),
            "kv_cache": self.how.kv_cache.name(),
            "gradient_checkpointing": self.how.gradient_checkpointing,
            "parameters": self.parameters,
            "cold_start_s": self.cold_start_s,
            "train_tokens_per_s": self.train_tokens_per_s,
            "prefill_tokens_per_s": self.prefill_tokens_per_s,
            "sample_tokens_per_s": self.sample_tokens_per_s,
            "peak_bytes": self.peak_bytes,
            "dispatches_per_step": self.dispatches_per_step,
            "cpu_us_per_dispatch": self.cpu_us_per_dispatch,
        })
    }
}
