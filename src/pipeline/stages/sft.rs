//! `sft`: the mid-trained model learns to answer as the traces do.

use super::super::{RunConfig, RunDir, Stage};
use super::setting::{Setting, warn_of_positions};
use super::{midtrain, slates, traces, write_results};
use crate::console::say;
use crate::data::Example;
use crate::error::{Error, Result};
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
    let longest = config.sft.train.max_length;
    let mut examples = vec![];
    let (mut prompt_tokens, mut shortened, mut shortest) = (0, 0, usize::MAX);
    for trace in &traces {
        let slate = &slates[trace.slate as usize];
        let shown = config.prompt.history_items.min(slate.history.len());
        let with = |purchases: usize| {
            let (question, weights) = (slate.question(purchases), config.sft.weights);
            student.prompter.example(&question, &trace.answer, &tokenizer, &student.template, false, weights)
        };
        let (found, purchases) = fitting(shown, longest, with)?;
        shortest = shortest.min(found.ids.len());
        if found.ids.len() > longest {
            continue;
        }
        shortened += usize::from(purchases < shown);
        prompt_tokens += found.prompt;
        examples.push(Example { tokens: found.ids, weights: found.weights });
    }
    let left_out = traces.len() - examples.len();
    if examples.is_empty() {
        return Err(Error::Config {
            field: "sft.train.max_length".into(),
            problem: format!("{longest}: the shortest of {left_out} examples has {shortest} tokens"),
            hint: Some("raise it, or lower prompt.title_words or slates.size: an answer is never cut".into()),
        });
    }
    let n = examples.len();
    let tokens: usize = examples.iter().map(|e| e.tokens.len()).sum();
    let (prompt, answer) = (prompt_tokens / n, (tokens - prompt_tokens) / n);
    say!("sft: {n} traces, prompts of {prompt} tokens, answers of {answer}, on average");
    if shortened + left_out > 0 {
        say!(
            "warning: sft: {shortened} prompts show fewer purchases, and {left_out} traces are left out, to keep within \
             sft.train.max_length = {longest}"
        );
    }
    let most = examples.iter().map(|e| e.tokens.len()).max().unwrap_or(0);
    warn_of_positions("sft", "prompts and answers", most, &model);
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
        &json!({
            "traces": n,
            "shortened": shortened,
            "left_out": left_out,
            "prompt_tokens": prompt,
            "answer_tokens": answer,
            "updates": updates,
        }),
    )
}

/// The example with as many of `shown` purchases as leave it within `longest` tokens, one at least, and their number.
fn fitting(
    shown: usize,
    longest: usize,
    with: impl Fn(usize) -> Result<crate::rerank::Example>,
) -> Result<(crate::rerank::Example, usize)> {
    let whole = with(shown)?;
    if whole.ids.len() <= longest || shown <= 1 {
        return Ok((whole, shown));
    }
    let (mut best, mut fits, mut too_many) = (with(1)?, 1, shown);
    while too_many - fits > 1 && best.ids.len() <= longest {
        let middle = fits.midpoint(too_many);
        let found = with(middle)?;
        match found.ids.len() <= longest {
            true => (best, fits) = (found, middle),
            false => too_many = middle,
        }
    }
    Ok((best, fits))
}

/// The fine-tuned model and its tokenizer.
pub(super) fn load(run: &RunDir, device: &Device) -> Result<(Qwen3, Tokenizer)> {
    let directory = run.stage(Stage::Sft).join("checkpoint");
    Ok((model::load(&directory, device)?, Tokenizer::load(&directory)?))
}
