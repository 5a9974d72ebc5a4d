//! The pipeline: nine stages, each reading and writing plain files under one run directory.
//!
//! `data → sid → base → midtrain → slates → traces → sft → dapo → eval`. A stage records its configuration, seed and
//! the keys of the stages it read in `manifest.json`; it is skipped when nothing of that changed, and resumes when it
//! was interrupted.

mod config;
mod key;
mod plan;
mod run_dir;
mod stage;
mod stages;

pub use config::RunConfig;
pub use plan::plan;
pub use run_dir::{Kept, RunDir};
pub use stage::{STAGES, Stage};
pub use stages::{
    BaseConfig, Embedding, EvalConfig, EvalSet, LastLevelChoice, LocalConfig, MidtrainConfig, SftConfig, SidConfig,
    SlateSource, SlatesConfig, TeacherChoice, TracesConfig, needs_device, run_stage,
};
