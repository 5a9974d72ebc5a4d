//! Settings of a training run.

use crate::bounds::{LEARNING_RATE, MANY, MOST_TOKENS, SHARE, Section, UNFELT};
use crate::error::Result;
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
    /// Longer sequences are cut at the end and counted; those of SFT are shortened at the front of the prompt instead, or left out.
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
        let at = Section::new(section);
        at.whole("epochs", self.epochs, 1..=1_000_000)?;
        at.whole("max_steps", self.max_steps, 0..=MANY)?;
        at.because("holds no sequence").whole("batch_tokens", self.batch_tokens, 2..=MOST_TOKENS)?;
        at.because("nothing to predict").whole("max_length", self.max_length, 2..=MOST_TOKENS)?;
        at.because(UNFELT).number("lr", self.lr, LEARNING_RATE)?;
        at.number("warmup", self.warmup, SHARE)?;
        at.number("lr_floor", self.lr_floor, SHARE)?;
        at.number("dropout", self.dropout, 0.0..1.0)?;
        self.optimizer.validate(&format!("{section}.optimizer"))?;
        let strictest = "the first skip would stop the run; 1 is the strictest";
        at.because(strictest).whole("max_skipped", self.max_skipped, 1..=MANY)
    }
}
