//! `data`: items and histories into the run directory.

use super::super::{RunConfig, RunDir, Stage};
use crate::console::say;
use crate::data::{Dataset, import};
use crate::error::Result;
use std::path::Path;

pub(super) fn run(config: &RunConfig, directory: &Path) -> Result<()> {
    let dataset = import(&config.data)?;
    say!("data: {}", dataset.counts);
    say!("data: {}", dataset.split().protocol());
    dataset.write(directory)
}

/// The imported data set.
pub(super) fn read(run: &RunDir) -> Result<Dataset> {
    Dataset::read(&run.stage(Stage::Data))
}
