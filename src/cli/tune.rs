//! `gr2 tune`: measures which way of each product is the fastest on a GPU, for later commands to take.

use super::args::{DeviceArgs, WeightsArg, seconds};
use crate::bench::{Preset, Tuning, products, tune_products, tuning_head};
use crate::console::out;
use crate::error::{Error, Result};
use crate::gpu_cache;
use crate::model::Qwen3Config;
use gr2_kernels::Device;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub(super) struct TuneArgs {
    /// A model by its shape.
    #[arg(long, value_enum, default_value = "nano", conflicts_with = "model")]
    preset: Preset,
    /// The directory of a model instead.
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Rows of products: sequences that are decoded together, tokens of a batch. Each stands for all numbers past its half.
    #[arg(long, value_delimiter = ',', default_value = "1,4,16,64,512,2048", value_parser = rows)]
    rows: Vec<usize>,
    /// What weights are stored in for prompts and sampling.
    #[arg(long, value_enum, default_value = "f32")]
    weights: WeightsArg,
    /// Seconds for each way of each product.
    #[arg(long, default_value_t = 0.05, value_parser = seconds)]
    seconds: f64,
    #[command(flatten)]
    device: DeviceArgs,
}

/// Rows of the largest product that is measured.
const MOST_ROWS: usize = 1 << 16;

fn rows(text: &str) -> std::result::Result<usize, String> {
    text.parse().ok().filter(|rows| (1..=MOST_ROWS).contains(rows)).ok_or_else(|| format!("expected 1 to {MOST_ROWS}"))
}

impl TuneArgs {
    pub(super) fn run(self) -> Result<()> {
        let Device::Gpu(gpu) = self.device.open_untuned()? else {
            let problem = "tune: the CPU has no ways to choose from".to_string();
            return Err(Error::Usage {
                problem,
                hint: Some("name a GPU with --device; `gr2 devices` lists them".into()),
            });
        };
        let Some(directory) = gpu_cache::directory() else {
            let problem = "tune: there is no cache directory to keep choices in".to_string();
            return Err(Error::Usage { problem, hint: Some("set HOME or XDG_CACHE_HOME".into()) });
        };
        let config = match &self.model {
            Some(path) => Qwen3Config::read(&path.join("config.json"))?,
            None => self.preset.config(),
        };
        let tuning = Tuning { rows: self.rows, weights: self.weights.into(), budget: self.seconds };
        out!("{}", tuning_head())?;
        let mut kept = None;
        tune_products(&gpu, &products(&config, &tuning), tuning.budget, |line, tuned| {
            // each at once: an interrupt loses the one that is being measured
            kept = Some(gpu_cache::save_choices(&directory, &gpu, &[tuned])?);
            out!("{line}")
        })?;
        kept.map_or(Ok(()), |path| out!("{}", path.display()))
    }
}
