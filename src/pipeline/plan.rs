//! What a run would do: parameters, tokens and memory, estimated without doing anything.

use super::stages::to_be_paid;
use super::{RunConfig, RunDir, Stage};
use crate::data::import;
use crate::error::Result;
use crate::model::Qwen3Config;
use crate::train::catalogue_texts;
use std::fmt::Write;
use std::path::Path;

/// Bytes per parameter of training: weight, gradient and AdamW's two moments in f32.
const TRAINING_BYTES: usize = 16;
/// Characters of a token, about, in the project's own BPE.
const CHARACTERS_PER_TOKEN: f64 = 4.0;

/// The plan of some stages of a run in `out` as text. Reads the data set, which decides most of it, and of a run that has
/// begun what a teacher has answered already; writes nothing.
///
/// Errors: `Config`, `Data`, `Io`.
pub fn plan(config: &RunConfig, out: &Path, stages: &[Stage]) -> Result<String> {
    let dataset = import(&config.data)?;
    let split = dataset.split();
    let base = match &config.base.path {
        Some(path) => Qwen3Config::read(&path.join("config.json"))?,
        None => config.base.model(config.base.vocab_size),
    };
    let sids = config.sid.shape(&dataset.catalogue)?;
    let sid_tokens = 2 + sids.levels() * sids.codes();
    let tokens_per_sid = sids.levels() + 2;
    let model = Qwen3Config { vocab_size: base.vocab_size + sid_tokens, ..base.clone() };
    let texts = catalogue_texts(&dataset.catalogue);
    let text_tokens = texts.iter().map(|t| t.len() as f64 / CHARACTERS_PER_TOKEN).sum::<f64>();
    let purchases: usize = (0..dataset.users.len() as u32).map(|user| split.train(user).len()).sum();
    let mib = |bytes: usize| bytes >> 20;

    let mut text = format!("{}: {}\n", config.name, split.protocol());
    for stage in stages {
        let line = match stage {
            Stage::Data => {
                format!("{} items, {} users, {} purchases", texts.len(), dataset.users.len(), dataset.interactions())
            }
            Stage::Sid if config.sid.index.is_some() => {
                format!("{} levels of {} codes, made elsewhere", sids.levels(), sids.codes())
            }
            Stage::Sid => {
                let (q, n) = (sids.levels(), sids.codes());
                format!("{q} levels of {n} codes, {} epochs of the autoencoder", config.sid.rqvae.epochs)
            }
            Stage::Base if config.base.path.is_some() => format!("{} parameters, loaded", base.parameters()),
            Stage::Base => {
                let tokens = text_tokens * config.base.train.epochs as f64;
                format!("{} parameters from scratch, about {tokens:.0} tokens", base.parameters())
            }
            Stage::Midtrain => {
                let tokens = purchases * tokens_per_sid * config.midtrain.train.epochs as usize;
                let share = config.midtrain.mix.sequence;
                format!(
                    "{} parameters ({} MiB to train, without activations), about {tokens} tokens of histories, {:.0} % of the sequences",
                    model.parameters(),
                    mib(model.parameters() * TRAINING_BYTES),
                    share * 100.0
                )
            }
            Stage::Slates => format!("{} candidates for {} users, twice", config.slates.size, dataset.users.len()),
            Stage::Traces => {
                let attempts = config.traces.sampling.max_attempts;
                let unpaid = to_be_paid(config, &RunDir::at(out), &dataset, stages.contains(&Stage::Slates))?;
                format!("{:?} teacher, at most {attempts} attempts at a slate{unpaid}", config.traces.teacher)
            }
            Stage::Sft => format!("{} epochs over the accepted traces", config.sft.train.epochs),
            Stage::Dapo => {
                let d = &config.dapo;
                let answers = d.steps as usize * d.batch_prompts * d.group_size;
                let cache = d.max_rows
                    * d.max_new_tokens
                    * model.num_hidden_layers
                    * model.num_key_value_heads
                    * model.head_dim
                    * 8;
                format!(
                    "{} steps, at least {answers} answers of at most {} tokens, {} MiB of KV cache",
                    d.steps,
                    d.max_new_tokens,
                    mib(cache)
                )
            }
            Stage::Eval => format!("{} resamplings", config.eval.resamples),
        };
        let _ = writeln!(text, "  {:<9}{line}", stage.name());
    }
    Ok(text.trim_end().to_string())
}
