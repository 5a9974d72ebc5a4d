//! Settings of a training run.

use crate::error::{Error, Result};
use crate::optim::{AdamWConfig, Decay};
use serde::{Deserialize, Serialize};

/// Settings shared by pretraining, mid-training and SFT.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// Passes over the examples.
    pub epochs: u64,
    /// Stops earlier after this many updates; 0: no limit.
    pub max_steps: u64,
    /// Tokens packed into one update.
    pub batch_tokens: usize,
    /// Longer sequences are cut at the end and counted.
    pub max_length: usize,
    /// Peak learning rate.
    pub lr: f64,
    /// Share of the updates that warm up.
    pub warmup: f64,
    /// Shape of the learning rate after warm-up.
    pub decay: Decay,
    /// Last learning rate as a share of the peak.
    pub lr_floor: f64,
    /// Probability of dropout on what a layer adds to the residual stream. 0: Qwen3.
    pub dropout: f32,
    /// Keeps of every layer its input only, and computes the rest again on the way back: less memory, a third more work.
    #[serde(skip_serializing_if = "std::ops::Not::not")] // runs from before it existed keep their keys
    pub gradient_checkpointing: bool,
    /// AdamW's constants.
    pub optimizer: AdamWConfig,
    /// Seconds between checkpoints.
    pub checkpoint_seconds: u64,
    /// Updates in a row that may be skipped for a non-finite loss or gradient before the run stops.
    pub max_skipped: u64,
}

impl Default for TrainConfig {
    fn default() -> Self {
        TrainConfig {
            epochs: 1,
            max_steps: 0,
            batch_tokens: 4096,
            max_length: 2048,
            lr: 1e-3,
            warmup: 0.05,
            decay: Decay::Cosine,
            lr_floor: 0.1,
            dropout: 0.0,
            gradient_checkpointing: false,
            optimizer: AdamWConfig::default(),
            checkpoint_seconds: 60,
            max_skipped: 10,
        }
    }
}

impl TrainConfig {
    /// Errors: `Config` naming the first field out of range; `section` is the table it stands in.
    pub fn validate(&self, section: &str) -> Result<()> {
        let bad = |field: &str, problem: String| {
            Err(Error::Config { field: format!("{section}.{field}"), problem, hint: None })
        };
        if self.epochs == 0 {
            return bad("epochs", "0: must be positive".into());
        }
        if self.max_length < 2 {
            return bad("max_length", format!("{}: nothing to predict", self.max_length));
        }
        if self.batch_tokens < 2 {
            return bad("batch_tokens", format!("{}: holds no sequence", self.batch_tokens));
        }
        if !(self.lr > 0.0 && self.lr.is_finite()) {
            return bad("lr", format!("{}: must be positive", self.lr));
        }
        for (field, share) in [("warmup", self.warmup), ("lr_floor", self.lr_floor)] {
            if !(0.0..=1.0).contains(&share) {
                return bad(field, format!("{share}: is a share, between 0 and 1"));
            }
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return bad("dropout", format!("{}: must be at least 0 and below 1", self.dropout));
        }
        if self.max_skipped == 0 {
            return bad("max_skipped", "0: the first skip would stop the run; 1 is the strictest".into());
        }
        Ok(())
    }
}
