//! `sft`: the mid-trained model learns to answer as the traces do.

use super::super::{RunConfig, RunDir, Stage};
use super::setting::Setting;
use super::{midtrain, slates, traces, write_results};
use crate::console::say;
use crate::data::Example;
use crate::error::Result;
use crate::model::{self, Qwen3};
use crate::rerank::{LossWeights, Student};
use crate::text::Tokenizer;
use crate::train::{TrainConfig, Trainer};
use gr2_kernels::Device;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::path::Path;

/// Settings of supervised fine-tuning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SftConfig {
    /// λ_r and λ_o.
    pub weights: LossWeights,
    /// The loop.
    pub train: TrainConfig,
}

impl Default for SftConfig {
    fn default() -> Self {
        SftConfig { weights: LossWeights::default(), train: TrainConfig { epochs: 4, ..TrainConfig::default() } }
    }
}

impl SftConfig {
    /// Errors: `Config` naming the first field out of range.
    pub fn validate(&self) -> Result<()> {
        self.weights.validate("sft.weights")?;
        self.train.validate("sft.train")
    }
}

pub(super) fn run(config: &RunConfig, run: &RunDir, directory: &Path, device: &Device) -> Result<()> {
    let setting = Setting::load(config, run)?;
    let slates = slates::read(run, &setting.dataset)?;
    let slates = slates.lessons();
    let traces = traces::read(run, slates)?;
    let (mut model, tokenizer) = midtrain::load(run, device)?;
    let student = Student::new(setting.prompter(), &tokenizer, &setting.sids)?;
    let mut examples = vec![];
    let mut prompt_tokens = 0;
    for trace in &traces {
        let question = slates[trace.slate as usize].question(config.prompt.history_items);
        let found = student.prompter.example(
            &question,
            &trace.answer,
            &tokenizer,
            &student.template,
            false,
            config.sft.weights,
        )?;
        prompt_tokens += found.prompt;
        examples.push(Example { tokens: found.ids, weights: found.weights });
    }
    let n = examples.len().max(1);
    let tokens: usize = examples.iter().map(|e| e.tokens.len()).sum();
    let (prompt, answer) = (prompt_tokens / n, (tokens - prompt_tokens) / n);
    say!("sft: {n} traces, prompts of {prompt} tokens, answers of {answer}, on average");
    let trainer = Trainer {
        stage: "sft",
        model: &mut model,
        tokenizer: &tokenizer,
        config: &config.sft.train,
        seed: config.seed,
        directory,
    };
    let updates = trainer.run(&examples)?;
    write_results(
        directory,
        &json!({ "traces": n, "prompt_tokens": prompt, "answer_tokens": answer, "updates": updates }),
    )
}

/// The fine-tuned model and its tokenizer.
pub(super) fn load(run: &RunDir, device: &Device) -> Result<(Qwen3, Tokenizer)> {
    let directory = run.stage(Stage::Sft).join("checkpoint");
    Ok((model::load(&directory, device)?, Tokenizer::load(&directory)?))
}
