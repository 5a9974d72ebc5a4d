//! `gr2 demo`: the main job on the built-in shop.

use super::args::DeviceArgs;
use super::run::execute;
use crate::error::Result;
use crate::pipeline::{RunConfig, STAGES};
use std::path::PathBuf;

/// The configuration of the demo, part of the program.
const CONFIG: &str = include_str!("../../configs/demo.toml");

#[derive(Debug, clap::Args)]
pub(super) struct DemoArgs {
    /// Directory of the run; a run found there is continued.
    #[arg(long, value_name = "DIR", default_value = "runs/demo")]
    out: PathBuf,
    /// Changes a setting, as in `--set dapo.steps=50`. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// Prints what would be done, with parameters, tokens and memory, and does nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

impl DemoArgs {
    pub(super) fn run(self) -> Result<()> {
        let config = RunConfig::parse(CONFIG, "configs/demo.toml", &self.settings)?;
        execute(&config, &self.out, STAGES, self.dry_run, &self.device)
    }
}
