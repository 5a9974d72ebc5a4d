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
            let (problem, hint) =
                ("there is no such folder".into(), Some("name the folder of a run, as with --out".into()));
            return Err(Error::RunDirectory { path: self.run, problem, hint });
        }
        if RunDir::at(&self.run).kept()?.is_empty() {
            return out!("nothing is kept there");
        }
        let run = RunDir::open(&self.run)?;
        let (mut lines, mut removable): (Vec<String>, Vec<Kept>) = (vec![], vec![]);
        for result in run.kept()? {
            let reason = reason_to_stay(&result)?;
            let stays = reason.as_ref().map(|reason| format!("; stays: {reason}")).unwrap_or_default();
            lines.push(line(&result) + &stays);
            if reason.is_none() {
                removable.push(result);
            }
        }
        let (results, size) = (count(removable.len()), HumanBytes(removable.iter().map(|result| result.bytes).sum()));
        let end = match self.yes {
            _ if removable.is_empty() => "nothing to remove".into(),
            false => format!("{results}, {size}; `gr2 clean {} --yes` removes what does not stay", self.run.display()),
            true => format!("{results} removed, {size}"),
        };
        // before a word that nobody may be there to read
        if self.yes {
            for result in &removable {
                std::fs::remove_dir_all(&result.path).map_err(Error::io(&result.path))?;
            }
        }
        lines.into_iter().chain([end]).try_for_each(|line| out!("{line}"))
    }
}

/// What in a result is its user's, if anything.
fn reason_to_stay(result: &Kept) -> Result<Option<String>> {
    if result.added.is_empty() {
        result.damage()
    } else {
        Ok(Some(format!("gr2 did not write {}", result.added.join(", "))))
    }
}

fn count(results: usize) -> String {
    if results == 1 { "1 result".into() } else { format!("{results} results") }
}

fn line(result: &Kept) -> String {
    let state = if result.finished { "finished" } else { "unfinished" };
    let (size, time) = (HumanBytes(result.bytes), HumanDuration(Duration::from_secs_f64(result.seconds.max(0.0))));
    format!("{:>10}  {state}, took {time}  {}", size.to_string(), result.path.display())
}
