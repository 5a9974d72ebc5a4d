//! Arguments exactly as typed.

use super::{bench, clean, demo, devices, generate, logits, run, tokenize, tune};
use crate::error::{Error, Result};
use crate::gpu_cache;
use crate::pipeline::Stage;
use clap::{Parser, Subcommand};
use gr2_kernels::{Device, Dtype, GpuOptions, Precision};
use std::path::PathBuf;

/// Trains and serves a generative reasoning re-ranker on any GPU, or on the CPU.
#[derive(Debug, Parser)]
#[command(name = "gr2", version, about, disable_help_subcommand = true)]
pub(super) struct Args {
    /// Shows warnings and debugging messages.
    #[arg(long, short, global = true)]
    pub(super) verbose: bool,
    /// Prints the time of every kernel at the end, and writes a Chrome trace to FILE.
    #[arg(long, global = true, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "profile.json")]
    pub(super) profile: Option<PathBuf>,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Runs all stages of a configuration, or continues where an earlier run stopped.
    Run(run::RunArgs),
    /// Runs the whole pipeline on the built-in synthetic shop.
    Demo(demo::DemoArgs),
    /// Stage 1: imports items and purchase histories.
    Data(run::RunArgs),
    /// Stage 2: gives every item a semantic id.
    Sid(run::RunArgs),
    /// Stage 3: trains a small base model, or checks the one given by path.
    Base(run::RunArgs),
    /// Stage 4: teaches the base model semantic ids and the catalogue.
    Midtrain(run::RunArgs),
    /// Stage 5: draws up the slates to re-rank.
    Slates(run::RunArgs),
    /// Stage 6: collects reasoning traces from a teacher.
    Traces(run::RunArgs),
    /// Stage 7: fine-tunes on the traces.
    Sft(run::RunArgs),
    /// Stage 8: reinforces with verifiable rewards.
    Dapo(run::RunArgs),
    /// Stage 9: measures and writes the report.
    Eval(run::RunArgs),
    /// Lists results of other settings that a run keeps, and removes them with --yes.
    Clean(clean::CleanArgs),
    /// Lists the devices of this machine.
    Devices(devices::DevicesArgs),
    /// Writes the logits of a token sequence.
    Logits(logits::LogitsArgs),
    /// Generates a continuation.
    Generate(generate::GenerateArgs),
    /// Turns text into token ids.
    Tokenize(tokenize::TokenizeArgs),
    /// Measures this device.
    Bench(bench::BenchArgs),
    /// Measures which way of each product is the fastest on a GPU, for later commands to take.
    Tune(tune::TuneArgs),
}

impl Command {
    /// As it is typed.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Command::Run(_) => "run",
            Command::Demo(_) => "demo",
            Command::Data(_) => "data",
            Command::Sid(_) => "sid",
            Command::Base(_) => "base",
            Command::Midtrain(_) => "midtrain",
            Command::Slates(_) => "slates",
            Command::Traces(_) => "traces",
            Command::Sft(_) => "sft",
            Command::Dapo(_) => "dapo",
            Command::Eval(_) => "eval",
            Command::Clean(_) => "clean",
            Command::Devices(_) => "devices",
            Command::Logits(_) => "logits",
            Command::Generate(_) => "generate",
            Command::Tokenize(_) => "tokenize",
            Command::Bench(_) => "bench",
            Command::Tune(_) => "tune",
        }
    }

    pub(super) fn run(self) -> Result<()> {
        match self {
            Command::Run(args) => args.all(),
            Command::Demo(args) => args.run(),
            Command::Data(args) => args.one(Stage::Data),
            Command::Sid(args) => args.one(Stage::Sid),
            Command::Base(args) => args.one(Stage::Base),
            Command::Midtrain(args) => args.one(Stage::Midtrain),
            Command::Slates(args) => args.one(Stage::Slates),
            Command::Traces(args) => args.one(Stage::Traces),
            Command::Sft(args) => args.one(Stage::Sft),
            Command::Dapo(args) => args.one(Stage::Dapo),
            Command::Eval(args) => args.one(Stage::Eval),
            Command::Clean(args) => args.run(),
            Command::Devices(args) => args.run(),
            Command::Logits(args) => args.run(),
            Command::Generate(args) => args.run(),
            Command::Tokenize(args) => args.run(),
            Command::Bench(args) => args.run(),
            Command::Tune(args) => args.run(),
        }
    }
}

/// Seconds to measure for.
pub(super) fn seconds(text: &str) -> std::result::Result<f64, String> {
    const MOST: f64 = 3600.0;
    number(text, |x: f64| x > 0.0 && x <= MOST, "above 0 and at most 3600")
}

/// A positive number.
pub(super) fn positive(text: &str) -> std::result::Result<f32, String> {
    number(text, |x: f32| x.is_finite() && x > 0.0, "above 0")
}

/// A share of 1.
pub(super) fn share(text: &str) -> std::result::Result<f32, String> {
    number(text, |x: f32| (0.0..=1.0).contains(&x), "between 0 and 1")
}

fn number<T: std::str::FromStr + Copy>(
    text: &str,
    good: impl Fn(T) -> bool,
    range: &str,
) -> std::result::Result<T, String> {
    text.parse().ok().filter(|&x| good(x)).ok_or_else(|| format!("expected a number {range}"))
}

/// Where a command runs.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct DeviceArgs {
    /// `auto` (a hardware GPU if there is one, else the CPU), `cpu`, `gpu` (the best adapter, software ones included)
    /// or `gpu:N` (the N-th of `gr2 devices`).
    #[arg(long, default_value = "auto", value_name = "DEVICE")]
    pub(super) device: String,
    /// Refuses GPU allocations beyond this many bytes.
    #[arg(long, value_name = "BYTES")]
    pub(super) gpu_memory_limit: Option<u64>,
    /// How a GPU computes products: `f32`, or `mixed`: on matrix units, operands rounded to f16, sums in f32, gradients scaled
    /// against underflow.
    #[arg(long, value_enum, default_value = "f32")]
    pub(super) precision: PrecisionArg,
    /// Keeps bounds checks in shaders, for finding a defect of a kernel or a driver.
    #[arg(long)]
    pub(super) checked_shaders: bool,
}

impl DeviceArgs {
    /// The device, with what `gr2 tune` has found for it.
    pub(super) fn open(&self) -> Result<Device> {
        let device = self.open_untuned()?;
        if let (Device::Gpu(gpu), Some(directory)) = (&device, gpu_cache::directory()) {
            let count = gpu_cache::load_choices(&directory, gpu);
            tracing::debug!("{device}: {count} measured choices from {}", directory.display());
        }
        Ok(device)
    }

    /// For work that no device is needed for: none is looked for, as that can take seconds.
    pub(super) fn unopened(&self) -> Result<Device> {
        self.check()?;
        Ok(Device::Cpu)
    }

    /// Errors: `Usage` for a name that no device has.
    fn check(&self) -> Result<()> {
        let name = self.device.as_str();
        let number = name.strip_prefix("gpu:").is_some_and(|n| n.parse::<usize>().is_ok());
        if matches!(name, "auto" | "cpu" | "gpu") || number {
            return Ok(());
        }
        let problem = format!("--device {name}: expected auto, cpu, gpu or gpu:N");
        Err(Error::Usage { problem, hint: Some("`gr2 devices` lists what is here".into()) })
    }

    /// The device as it comes, with what its driver has compiled.
    pub(super) fn open_untuned(&self) -> Result<Device> {
        self.check()?;
        let name = self.device.as_str();
        let options = GpuOptions {
            checked: self.checked_shaders,
            memory_limit: self.gpu_memory_limit,
            precision: self.precision.into(),
            ..Default::default()
        };
        let device = Device::open(name, options)?;
        if matches!((&device, self.precision), (Device::Cpu, PrecisionArg::Mixed)) {
            let problem = "--precision mixed on the CPU, which computes in f32".to_string();
            return Err(Error::Usage {
                problem,
                hint: Some("name a GPU with --device, or leave --precision out".into()),
            });
        }
        if let (Device::Gpu(gpu), Some(directory)) = (&device, gpu_cache::directory()) {
            gpu_cache::keep_pipelines(&directory, gpu);
        }
        Ok(device)
    }
}

/// [`Precision`] as it is spelt.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(super) enum PrecisionArg {
    F32,
    Mixed,
}

impl From<PrecisionArg> for Precision {
    fn from(spelt: PrecisionArg) -> Precision {
        match spelt {
            PrecisionArg::F32 => Precision::F32,
            PrecisionArg::Mixed => Precision::Mixed,
        }
    }
}

/// What weights are stored in where they are only read.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(super) enum WeightsArg {
    F32,
    F16,
    Bf16,
}

impl From<WeightsArg> for Dtype {
    fn from(spelt: WeightsArg) -> Dtype {
        match spelt {
            WeightsArg::F32 => Dtype::F32,
            WeightsArg::F16 => Dtype::F16,
            WeightsArg::Bf16 => Dtype::Bf16,
        }
    }
}

/// What keys and values are stored in.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(super) enum KvCacheArg {
    F32,
    F16,
}

impl From<KvCacheArg> for Dtype {
    fn from(spelt: KvCacheArg) -> Dtype {
        match spelt {
            KvCacheArg::F32 => Dtype::F32,
            KvCacheArg::F16 => Dtype::F16,
        }
    }
}
