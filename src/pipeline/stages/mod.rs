//! The stages, one file each, and the dispatch between them.

mod base;
mod data;
mod midtrain;
mod sid;
mod slates;

pub use base::BaseConfig;
pub use midtrain::MidtrainConfig;
pub use sid::{Embedding, SidConfig};
pub use slates::{SlateSource, SlatesConfig};

use super::{RunConfig, RunDir, Stage};
use crate::error::Result;
use gr2_kernels::Device;

/// Every stage, in the order they run.
pub const STAGES: &[Stage] = &[
    Stage::Data,
    Stage::Sid,
    Stage::Base,
    Stage::Midtrain,
    Stage::Slates,
    Stage::Traces,
    Stage::Sft,
    Stage::Dapo,
    Stage::Eval,
];

/// Makes the result of one stage, or keeps it if nothing it depends on changed.
///
/// Errors: `Run` if an earlier stage's result is missing, `Interrupted`, and what the stage itself finds wrong.
pub fn run_stage(stage: Stage, config: &RunConfig, run: &RunDir, device: &Device) -> Result<()> {
    run.make(stage, config, &device.to_string(), |directory| match stage {
        Stage::Data => data::run(config, directory),
        Stage::Sid => sid::run(config, run, directory, device),
        Stage::Base => base::run(config, run, directory, device),
        Stage::Midtrain => midtrain::run(config, run, directory, device),
        Stage::Slates => slates::run(config, run, directory, device),
        _ => Ok(()),
    })
}

/// Writes a stage's own results for the report.
fn write_results(directory: &std::path::Path, results: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(results).expect("invariant: results serialise");
    crate::files::write_atomic(directory.join("results.json"), text)
}
