//! Counts updates skipped for NaN or infinity and stops a run that only skips.

use crate::error::{Error, Result};
use crate::files;
use crate::optim::StepReport;
use std::path::PathBuf;

/// Skips in a row and in total.
#[derive(Debug)]
pub struct NonFiniteGuard {
    stage: String,
    limit: u64,
    batch: PathBuf,
    in_a_row: u64,
    /// Updates skipped since the stage began (or was resumed).
    pub skipped: u64,
}

impl NonFiniteGuard {
    /// Stops `stage` after `limit` skips in a row; the tokens of the last offending batch are written to `batch`.
    pub fn new(stage: &str, limit: u64, batch: PathBuf) -> NonFiniteGuard {
        NonFiniteGuard { stage: stage.into(), limit, batch, in_a_row: 0, skipped: 0 }
    }

    /// Takes note of one update. One that only found the loss scale too large is no skip.
    ///
    /// Errors: `NonFinite` at the limit.
    pub fn observe(&mut self, step: u64, report: &StepReport, loss: f64, tokens: &[u32]) -> Result<()> {
        if report.applied {
            self.in_a_row = 0;
            return Ok(());
        }
        if report.overflowed {
            tracing::debug!("{}: step {step}: a gradient overflowed, the loss scale is halved", self.stage);
            return Ok(());
        }
        let grad_norm = report.grad_norm;
        self.in_a_row += 1;
        self.skipped += 1;
        tracing::warn!("{}: step {step}: loss {loss}, gradient norm {grad_norm}: update skipped", self.stage);
        let dump = serde_json::json!({ "step": step, "loss": loss.to_string(), "grad_norm": grad_norm.to_string(), "tokens": tokens });
        files::write_atomic(&self.batch, dump.to_string())?;
        if self.in_a_row < self.limit {
            return Ok(());
        }
        Err(Error::NonFinite {
            stage: self.stage.clone(),
            step,
            skipped: self.in_a_row,
            limit: self.limit,
            batch: self.batch.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stops_after_the_limit_in_a_row_and_writes_the_batch() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bad.json");
        let mut guard = NonFiniteGuard::new("sft", 2, path.clone());
        let report = |grad_norm: f64| StepReport { grad_norm, applied: grad_norm.is_finite(), overflowed: false };
        guard.observe(1, &report(f64::NAN), f64::NAN, &[1, 2]).unwrap();
        guard.observe(2, &report(1.0), 1.0, &[]).unwrap();
        guard.observe(3, &report(f64::INFINITY), f64::NAN, &[3]).unwrap();
        guard.observe(3, &StepReport { overflowed: true, ..report(f64::INFINITY) }, 1.0, &[3]).unwrap();
        let message = guard.observe(4, &report(f64::NAN), f64::NAN, &[4]).unwrap_err().to_string();
        assert!(message.starts_with("sft: step 4: 2 updates skipped"), "{message}");
        assert_eq!(guard.skipped, 3);
        assert!(std::fs::read_to_string(path).unwrap().contains("[4]"));
    }
}
