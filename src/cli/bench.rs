//! `gr2 bench`: kernels, or a model.

use super::args::{DeviceArgs, KvCacheArg, WeightsArg, seconds};
use crate::bench::{KernelBench, ModelBench, Preset, bench_kernels, bench_model};
use crate::console::out;
use crate::error::Result;
use clap::Subcommand;

/// Sequences that a measurement can be asked to sample side by side.
const MOST_SAMPLES: i64 = 1 << 16;

#[derive(Debug, clap::Args)]
pub(super) struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Checks every kernel, times it, and sets it beside the multiply-adds and copies this device can do.
    Kernels(KernelArgs),
    /// Times a model: training steps, prompts, sampling.
    Model(ModelArgs),
}

#[derive(Debug, clap::Args)]
struct KernelArgs {
    /// Only cases whose names contain this.
    #[arg(long, default_value = "", value_name = "TEXT")]
    filter: String,
    /// Seconds for each case; one that takes longer at the device's ceiling is left out.
    #[arg(long, default_value_t = 1.0, value_parser = seconds)]
    seconds: f64,
    /// Mebibytes of operands up to which a case is run.
    #[arg(long, default_value_t = 2048, value_name = "MIB")]
    memory: u64,
    /// Prints the figures as one JSON line at the end.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

#[derive(Debug, clap::Args)]
struct ModelArgs {
    /// The model.
    #[arg(long, value_enum, default_value = "nano")]
    preset: Preset,
    /// Sequences sampled side by side, instead of the preset's.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=MOST_SAMPLES))]
    samples: Option<u32>,
    /// Keeps of every layer its input only in training, and computes the rest again on the way back.
    #[arg(long)]
    gradient_checkpointing: bool,
    /// What weights are stored in for prompts and sampling; training keeps f32.
    #[arg(long, value_enum, default_value = "f32")]
    weights: WeightsArg,
    /// What keys and values of earlier tokens are stored in while sampling.
    #[arg(long, value_enum, default_value = "f32")]
    kv_cache: KvCacheArg,
    /// Prints the figures as one JSON line at the end.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

impl BenchArgs {
    pub(super) fn run(self) -> Result<()> {
        match self.what {
            What::Kernels(args) => args.run(),
            What::Model(args) => args.run(),
        }
    }
}

impl KernelArgs {
    fn run(self) -> Result<()> {
        let device = self.device.open()?;
        let bench =
            KernelBench { filter: self.filter, budget: self.seconds, memory: self.memory.saturating_mul(1 << 20) };
        let report = bench_kernels(&device, &bench, |line| out!("{line}"))?;
        if self.json {
            out!("{}", report.json())?;
        }
        Ok(())
    }
}

impl ModelArgs {
    fn run(self) -> Result<()> {
        let device = self.device.open()?;
        let mut load = self.preset.load();
        load.samples = self.samples.map_or(load.samples, |n| n as usize);
        let options = ModelBench {
            weights: self.weights.into(),
            kv_cache: self.kv_cache.into(),
            gradient_checkpointing: self.gradient_checkpointing,
        };
        let report = bench_model(&device, self.preset, load, &options)?;
        out!("{} on {device}, {:.1} M parameters", self.preset.name(), report.parameters as f64 / 1e6)?;
        out!("first step {:>10.2} s", report.cold_start_s)?;
        out!("training   {:>10.0} tokens/s", report.train_tokens_per_s)?;
        out!("prompts    {:>10.0} tokens/s", report.prefill_tokens_per_s)?;
        out!("sampling   {:>10.0} tokens/s", report.sample_tokens_per_s)?;
        out!("memory     {:>10} MiB at the peak", report.peak_bytes >> 20)?;
        if let Some(cpu) = report.cpu_us_per_dispatch {
            out!("dispatches {:>10} per step, {cpu:.2} us of the CPU each", report.dispatches_per_step)?;
        }
        if self.json {
            out!("{}", report.json())?;
        }
        Ok(())
    }
}
