//! `gr2 generate`: a continuation of tokens or text.

use super::args::{DeviceArgs, KvCacheArg, WeightsArg};
use crate::error::{Error, Result};
use crate::generate::{Free, RolloutConfig, SamplerConfig, rollout};
use crate::model;
use crate::text::{Tokenizer, eos_of_files};
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub(super) struct GenerateArgs {
    /// Checkpoint directory.
    #[arg(long)]
    model: PathBuf,
    /// Token ids to continue, separated by commas.
    #[arg(long, value_delimiter = ',', conflicts_with = "prompt")]
    tokens: Vec<u32>,
    /// Text to continue.
    #[arg(long, required_unless_present = "tokens")]
    prompt: Option<String>,
    /// Tokens to generate at most.
    #[arg(long, default_value_t = 64)]
    max_new_tokens: usize,
    /// Takes the most probable token every time.
    #[arg(long)]
    greedy: bool,
    /// Sampling temperature.
    #[arg(long, default_value_t = 1.0)]
    temperature: f32,
    /// Keeps the k most probable tokens; 0: all.
    #[arg(long, default_value_t = 0)]
    top_k: usize,
    /// Keeps the most probable tokens that together reach this probability.
    #[arg(long, default_value_t = 1.0)]
    top_p: f32,
    /// Drops tokens less probable than this share of the most probable one.
    #[arg(long, default_value_t = 0.0)]
    min_p: f32,
    /// Makes tokens that have appeared less probable.
    #[arg(long, default_value_t = 1.0)]
    repetition_penalty: f32,
    /// Goes on past the checkpoint's end-of-sequence tokens.
    #[arg(long)]
    ignore_eos: bool,
    /// Seed of the draws.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Prints one JSON line: `{"tokens": [new ids], "text": …}`.
    #[arg(long)]
    json: bool,
    /// What weights are stored in: f16 and bf16 take half the memory.
    #[arg(long, value_enum, default_value = "f32")]
    weights: WeightsArg,
    /// What keys and values of earlier tokens are stored in: f16 takes half the memory.
    #[arg(long, value_enum, default_value = "f32")]
    kv_cache: KvCacheArg,
    #[command(flatten)]
    device: DeviceArgs,
}

impl GenerateArgs {
    pub(super) fn run(self) -> Result<()> {
        let device = self.device.open()?;
        let model = model::load_as(&self.model, &device, self.weights.into())?;
        // token ids need no tokenizer; with one the answer is also text
        let tokenizer = match (&self.prompt, self.model.join("tokenizer.json").exists()) {
            (None, false) => None,
            _ => Some(Tokenizer::load(&self.model)?),
        };
        let prompt = match (&self.prompt, &tokenizer) {
            (Some(text), Some(tokenizer)) => tokenizer.encode(text)?,
            _ => self.tokens.clone(),
        };
        if prompt.is_empty() {
            let problem = "the prompt has no token".to_string();
            return Err(Error::Usage { problem, hint: Some("give --prompt TEXT or --tokens 1,2,3".into()) });
        }
        let stop = match &tokenizer {
            Some(tokenizer) => [tokenizer.eos_ids(), &model.config().eos_token_ids].concat(),
            None => eos_of_files(&self.model)?,
        };
        let config = RolloutConfig {
            samples: 1,
            max_new_tokens: self.max_new_tokens,
            stop: if self.ignore_eos { vec![] } else { stop },
            sampler: SamplerConfig {
                do_sample: !self.greedy,
                temperature: self.temperature,
                top_k: self.top_k,
                top_p: self.top_p,
                min_p: self.min_p,
                repetition_penalty: self.repetition_penalty,
            },
            vocab_limit: tokenizer.as_ref().map_or(usize::MAX, |t| t.vocab_size()),
            seed: self.seed,
            step: 0,
            max_rows: 1,
            kv_cache: self.kv_cache.into(),
        };
        let rollouts = rollout(&model, &[prompt], &Free, &config)?;
        let tokens = rollouts.into_iter().next().map(|r| r.tokens).unwrap_or_default();
        let text = tokenizer.map(|t| t.decode(&tokens, false)).transpose()?;
        if self.json {
            println!("{}", serde_json::json!({ "tokens": tokens, "text": text }));
        } else {
            println!("{}", text.unwrap_or_else(|| format!("{tokens:?}")));
        }
        Ok(())
    }
}
