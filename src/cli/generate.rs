//! `gr2 generate`: a continuation of tokens or text.

use super::args::{DeviceArgs, KvCacheArg, WeightsArg, positive, share};
use crate::console::{out, say};
use crate::error::{Error, Result};
use crate::generate::{Free, RolloutConfig, SamplerConfig, rollout};
use crate::model::{self, Qwen3Config};
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
    /// Tokens to generate at most; fewer where the model's context ends before (`max_position_embeddings`).
    #[arg(long, default_value_t = 64)]
    max_new_tokens: usize,
    /// Takes the most probable token every time.
    #[arg(long)]
    greedy: bool,
    /// Sampling temperature, above 0; see --greedy.
    #[arg(long, default_value_t = 1.0, value_parser = positive)]
    temperature: f32,
    /// Keeps the k most probable tokens; 0: all.
    #[arg(long, default_value_t = 0)]
    top_k: usize,
    /// Keeps the most probable tokens that together reach this probability.
    #[arg(long, default_value_t = 1.0, value_parser = share)]
    top_p: f32,
    /// Drops tokens less probable than this share of the most probable one.
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    min_p: f32,
    /// Makes tokens that have appeared less probable.
    #[arg(long, default_value_t = 1.0, value_parser = positive)]
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
        // the last token that is drawn is never fed to the model
        let room = (model.config().max_position_embeddings + 1).saturating_sub(prompt.len());
        if room == 0 {
            return Err(too_long(prompt.len(), model.config()));
        }
        let stop = match &tokenizer {
            Some(tokenizer) => [tokenizer.eos_ids(), &model.config().eos_token_ids].concat(),
            None => eos_of_files(&self.model)?,
        };
        let config = RolloutConfig {
            samples: 1,
            max_new_tokens: self.max_new_tokens.min(room),
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
        let (tokens, finished) = rollouts.into_iter().next().map(|r| (r.tokens, r.finished)).unwrap_or_default();
        if !finished && tokens.len() == room && room < self.max_new_tokens {
            let most = model.config().max_position_embeddings;
            say!("generate: stopped at the end of the model's context (max_position_embeddings = {most})");
        }
        let text = tokenizer.map(|t| t.decode(&tokens, false)).transpose()?;
        match self.json {
            true => out!("{}", serde_json::json!({ "tokens": tokens, "text": text })),
            false => out!("{}", text.unwrap_or_else(|| format!("{tokens:?}"))),
        }
    }
}

/// Tokens past the positions that a model was made for.
pub(super) fn too_long(tokens: usize, config: &Qwen3Config) -> Error {
    let most = config.max_position_embeddings;
    let problem = format!("--tokens or --prompt: {tokens} tokens, the model's max_position_embeddings is {most}");
    Error::Usage { problem, hint: Some("a shorter text, or a model with a longer context".into()) }
}
