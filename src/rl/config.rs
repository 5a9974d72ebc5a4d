//! Settings of reinforcement learning.

use super::{ADV_EPS, Clip, Overlong, RewardConfig};
use crate::bounds::{LEARNING_RATE, MANY, MOST_TOKENS, SHARE, Section, UNFELT};
use crate::error::Result;
use crate::optim::AdamWConfig;
use crate::rerank::Decoding;
use serde::{Deserialize, Serialize};

/// Answers of one round of sampling at most.
const MOST_ANSWERS: u64 = 1 << 20;

/// Which tokens of an answer its advantage is the credit of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Credit {
    /// All: DAPO.
    All,
    /// Those up to the target's place in a valid answer. What follows cannot change the reward, so that its part of
    /// the gradient is zero on average and nothing but noise in a sample.
    UntilSettled,
}

/// Settings of DAPO.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DapoConfig {
    /// G, rollouts of each prompt. 8: Diffusion-GR2.
    pub group_size: usize,
    /// Prompts with signal in one step.
    pub batch_prompts: usize,
    /// Rounds of generation in search of them at most. 10: verl's DAPO script.
    pub max_rounds: usize,
    /// Steps.
    pub steps: u64,
    /// Updates made from the rollouts of one step; from the second on the clip matters. 16: verl's DAPO script.
    pub minibatches: usize,
    /// Learning rate after warm-up. 1e-6 (DAPO) suits billions of parameters; small models take more.
    pub lr: f64,
    /// Steps of warm-up.
    pub warmup_steps: u64,
    /// Sampling temperature, also of every log-probability. 1: DAPO.
    pub temperature: f32,
    /// Answers, those of the evaluation among them, are generated under a grammar: semantic ids are then always those
    /// of the slate, each recommended once.
    pub constrained: bool,
    /// Recommendations that the grammar leaves to the policy; the others follow in their incoming order. 0: all. A small
    /// model learns what to put first long before it copies ten ids without fault.
    pub choices: usize,
    /// Tokens of an answer at most.
    pub max_new_tokens: usize,
    /// Rewards.
    pub reward: RewardConfig,
    /// Which tokens are learnt from.
    pub credit: Credit,
    /// Clip of the probability ratio.
    pub clip: Clip,
    /// Punishment of long answers.
    pub overlong: Overlong,
    /// Added to the standard deviation of a group.
    pub adv_eps: f32,
    /// Keeps of every layer its input only, and computes the rest again on the way back: less memory, a third more work.
    #[serde(skip_serializing_if = "std::ops::Not::not")] // runs from before it existed keep their keys
    pub gradient_checkpointing: bool,
    /// AdamW's constants.
    pub optimizer: AdamWConfig,
    /// Steps between measurements on the validation slates; 0: never. The best policy measured is the result.
    pub validate_every: u64,
    /// Validation slates measured.
    pub validate_slates: usize,
    /// Answers decoded together.
    pub max_rows: usize,
    /// Tokens of one pass of the policy; larger minibatches are accumulated.
    pub pass_tokens: usize,
    /// Seconds between checkpoints.
    pub checkpoint_seconds: u64,
    /// Updates in a row that may be skipped for a non-finite loss or gradient before the run stops.
    pub max_skipped: u64,
}

impl Default for DapoConfig {
    fn default() -> Self {
        DapoConfig {
            group_size: 8,
            batch_prompts: 32,
            max_rounds: 10,
            steps: 100,
            minibatches: 2,
            lr: 1e-4,
            warmup_steps: 5,
            temperature: 1.0,
            constrained: true,
            choices: 0,
            max_new_tokens: 256,
            reward: RewardConfig::default(),
            credit: Credit::UntilSettled,
            clip: Clip::default(),
            overlong: Overlong { max_length: 256, buffer: 64, factor: 1.0 },
            adv_eps: ADV_EPS,
            gradient_checkpointing: false,
            optimizer: AdamWConfig { weight_decay: 0.0, beta2: 0.99, ..AdamWConfig::default() },
            validate_every: 20,
            validate_slates: 200,
            max_rows: 256,
            pass_tokens: 16_384,
            checkpoint_seconds: 60,
            max_skipped: 5,
        }
    }
}

impl DapoConfig {
    /// How answers are generated.
    pub fn decoding(&self) -> Decoding {
        let DapoConfig { constrained, choices, max_new_tokens, max_rows, .. } = *self;
        Decoding { constrained, choices, max_new_tokens, max_rows }
    }

    /// Errors: `Config` naming the first field out of range.
    pub fn validate(&self) -> Result<()> {
        let at = Section::new("dapo");
        at.because("a group of one has zero advantage").whole("group_size", self.group_size, 2..=4096)?;
        at.whole("batch_prompts", self.batch_prompts, 1..=65_536)?;
        let answers = self.batch_prompts as u64 * self.group_size as u64;
        if answers > MOST_ANSWERS {
            let problem = format!(
                "{}: with dapo.group_size = {} a round has {answers} answers, expected at most {MOST_ANSWERS}",
                self.batch_prompts, self.group_size
            );
            return at.refuse("batch_prompts", problem);
        }
        at.whole("max_rounds", self.max_rounds, 1..=10_000)?;
        at.whole("steps", self.steps, 0..=MANY)?;
        at.whole("minibatches", self.minibatches, 1..=self.batch_prompts as u64)?;
        at.because(UNFELT).number("lr", self.lr, LEARNING_RATE)?;
        at.whole("warmup_steps", self.warmup_steps, 0..=MANY)?;
        // f32 has no logits left to tell apart below
        at.number("temperature", self.temperature, 1e-7..=1000.0)?;
        at.whole("choices", self.choices, 0..=MANY)?;
        at.whole("max_new_tokens", self.max_new_tokens, 1..=MOST_TOKENS)?;
        at.number("adv_eps", self.adv_eps, SHARE)?;
        at.whole("validate_every", self.validate_every, 0..=MANY)?;
        at.whole("validate_slates", self.validate_slates, 0..=MANY)?;
        at.whole("max_rows", self.max_rows, 1..=MANY)?;
        at.whole("pass_tokens", self.pass_tokens, 1..=MOST_TOKENS)?;
        at.whole("max_skipped", self.max_skipped, 1..=MANY)?;
        self.reward.validate("dapo.reward")?;
        self.clip.validate("dapo.clip")?;
        self.overlong.validate("dapo.overlong")?;
        self.optimizer.validate("dapo.optimizer")
    }
}
