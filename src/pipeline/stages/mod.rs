//! The stages, one file each, and the dispatch between them.

mod base;
mod dapo;
mod data;
mod eval;
mod midtrain;
mod setting;
mod sft;
mod sid;
mod slates;
mod traces;

pub use base::BaseConfig;
pub use eval::{EvalConfig, EvalSet};
pub use midtrain::MidtrainConfig;
pub use sft::SftConfig;
pub use sid::{Embedding, LastLevelChoice, SidConfig};
pub use slates::{SlateSource, SlatesConfig};
pub(super) use traces::to_be_paid;
pub use traces::{LocalConfig, TeacherChoice, TracesConfig};

use super::{RunConfig, RunDir, Stage};
use crate::console;
use crate::error::Result;
use gr2_kernels::Device;

/// Whether a stage computes on a device: opening one takes time, and a driver may have something to say.
pub fn needs_device(stage: Stage, config: &RunConfig) -> bool {
    match stage {
        Stage::Data => false,
        Stage::Slates => config.slates.source == SlateSource::Model,
        Stage::Traces => config.traces.teacher == TeacherChoice::Local,
        _ => true,
    }
}

/// Makes the result of one stage, or keeps it if nothing it depends on changed.
///
/// Errors: `Run` if an earlier stage's result is missing, `Interrupted`, and what the stage itself finds wrong.
pub fn run_stage(stage: Stage, config: &RunConfig, run: &RunDir, device: &Device) -> Result<()> {
    console::working_on(stage.name());
    run.make(stage, config, &device.to_string(), |directory| match stage {
        Stage::Data => data::run(config, directory),
        Stage::Sid => sid::run(config, run, directory, device),
        Stage::Base => base::run(config, run, directory, device),
        Stage::Midtrain => midtrain::run(config, run, directory, device),
        Stage::Slates => slates::run(config, run, directory, device),
        Stage::Traces => traces::run(config, run, directory, device),
        Stage::Sft => sft::run(config, run, directory, device),
        Stage::Dapo => dapo::run(config, run, directory, device),
        Stage::Eval => eval::run(config, run, directory, device),
    })?;
    match stage {
        Stage::Eval => eval::publish(run),
        _ => Ok(()),
    }
}

/// Writes a stage's own results for the report.
fn write_results(directory: &std::path::Path, results: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(results).expect("invariant: results serialise");
    crate::files::write_atomic(directory.join("results.json"), text)
}
