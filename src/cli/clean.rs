//! `gr2 clean`: removes results that are kept beside the current ones of a run.

use crate::console::out;
use crate::error::{Error, Result};
use crate::pipeline::{Kept, RunDir};
use indicatif::{HumanBytes, HumanDuration};
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, clap::Args)]
pub(super) struct CleanArgs {
    /// Directory of the run.
    #[arg(value_name = "DIR")]
    run: PathBuf,
    /// Removes what is listed. Without it nothing is removed.
    #[arg(long)]
    yes: bool,
}

impl CleanArgs {
    /// Lists what is kept with its size, and removes it if told to. Current results, published files and a teacher's answers
    /// are no part of it.
    pub(super) fn run(self) -> Result<()> {
        if !self.run.is_dir() {
            let source = std::io::ErrorKind::NotFound.into();
            return Err(Error::Io { path: self.run, source });
        }
        let run = RunDir::open(&self.run)?;
        let kept = run.kept()?;
        for result in &kept {
            out!("{}", line(result))?;
        }
        let (ours, with_more): (Vec<&Kept>, Vec<&Kept>) = kept.iter().partition(|result| result.added.is_empty());
        let size = HumanBytes(ours.iter().map(|result| result.bytes).sum());
        if !self.yes {
            return out!("{} results, {size}; `gr2 clean {} --yes` removes them", ours.len(), self.run.display());
        }
        for result in &ours {
            std::fs::remove_dir_all(&result.path).map_err(Error::io(&result.path))?;
        }
        out!("{} results removed, {size}", ours.len())?;
        for result in with_more {
            out!("{}: stays, gr2 did not write {}", result.path.display(), result.added.join(", "))?;
        }
        Ok(())
    }
}

fn line(result: &Kept) -> String {
    let state = if result.finished { "finished" } else { "unfinished" };
    let (size, time) = (HumanBytes(result.bytes), HumanDuration(Duration::from_secs_f64(result.seconds.max(0.0))));
    format!("{:>10}  {state}, took {time}  {}", size.to_string(), result.path.display())
}
