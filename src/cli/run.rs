//! `gr2 run` and the stages one by one.

use super::args::DeviceArgs;
use crate::console::out;
use crate::error::{Error, Result};
use crate::pipeline::{RunConfig, RunDir, STAGES, Stage, needs_device, plan, run_stage};
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub(super) struct RunArgs {
    /// Configuration (TOML).
    #[arg(value_name = "CONFIG")]
    config: PathBuf,
    /// Directory of the run; a run found there is continued.
    #[arg(long, value_name = "DIR")]
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

impl RunArgs {
    pub(super) fn all(self) -> Result<()> {
        self.stages(STAGES)
    }

    pub(super) fn one(self, stage: Stage) -> Result<()> {
        self.stages(&[stage])
    }

    fn stages(self, stages: &[Stage]) -> Result<()> {
        let config = RunConfig::read(&self.config, &self.settings)?;
        execute(&config, &self.out, stages, self.dry_run, &self.device)
    }
}

/// Runs stages of a configuration, or prints the plan.
pub(super) fn execute(
    config: &RunConfig,
    out: &std::path::Path,
    stages: &[Stage],
    dry_run: bool,
    device: &DeviceArgs,
) -> Result<()> {
    if dry_run {
        return out!("{}", plan(config, out, stages)?);
    }
    // first, so that a second run on a folder is refused at once
    let run = RunDir::open(out)?;
    let device = match stages.iter().any(|&stage| needs_device(stage, config)) {
        true => device.open()?,
        false => device.unopened()?,
    };
    let resolved = toml::to_string(&config.masked()).map_err(|e| Error::Config {
        field: config.name.clone(),
        problem: e.to_string(),
        hint: None,
    })?;
    run.publish("config.toml", resolved.as_bytes())?;
    for &stage in stages {
        run_stage(stage, config, &run, &device)?;
    }
    Ok(())
}
