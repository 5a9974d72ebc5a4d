//! `midtrain`: semantic ids join the vocabulary, the four tasks are learnt, and the generator is measured over the
//! whole catalogue.

use super::super::{RunConfig, RunDir, Stage};
use super::{base, data, sid, write_results};
use crate::bounds::{MANY, Section};
use crate::console::say;
use crate::data::{Dataset, Part};
use crate::error::{Error, Result};
use crate::eval::{CATALOGUE_METRICS, mean_metrics};
use crate::model::{self, Qwen3};
use crate::rerank::{CatalogueGenerator, Contexts};
use crate::sid::SemanticIds;
use crate::text::{SidShape, SidTokens, Tokenizer};
use crate::train::{Augment, MidtrainExamples, TaskMix, TrainConfig, Trainer};
use gr2_kernels::Device;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::path::Path;

/// Settings of mid-training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MidtrainConfig {
    /// Shares of the tasks.
    pub mix: TaskMix,
    /// Variation of histories.
    pub augment: Augment,
    /// Words of an item's text in captions and personas.
    pub text_words: usize,
    /// How the generator reads a history.
    pub contexts: Contexts,
    /// The loop.
    pub train: TrainConfig,
}

impl Default for MidtrainConfig {
    fn default() -> Self {
        MidtrainConfig {
            mix: TaskMix::default(),
            augment: Augment::default(),
            text_words: 24,
            contexts: Contexts::default(),
            train: TrainConfig { epochs: 20, ..TrainConfig::default() },
        }
    }
}

impl MidtrainConfig {
    /// Errors: `Config` naming the first field out of range.
    pub fn validate(&self) -> Result<()> {
        self.mix.validate()?;
        self.augment.validate()?;
        let at = Section::new("midtrain").because("captions and personas would have no text");
        at.whole("text_words", self.text_words, 1..=MANY)?;
        self.contexts.validate("midtrain.contexts")?;
        self.train.validate("midtrain.train")
    }
}

pub(super) fn run(config: &RunConfig, run: &RunDir, directory: &Path, device: &Device) -> Result<()> {
    let midtrain = &config.midtrain;
    let dataset = data::read(run)?;
    let sids = sid::read(run)?;
    let from = base::checkpoint(config, run);
    let mut tokenizer = Tokenizer::load(&from)?;
    let sid_tokens = SidTokens::add(&mut tokenizer, SidShape::new(sids.levels(), sids.codes_per_level())?)?;
    let mut model = model::load(&from, device)?;
    let vocabulary = tokenizer.vocab_size().max(model.config().vocab_size);
    model.resize_vocabulary(vocabulary, config.seed)?;
    // config.json of every later checkpoint names what ends an answer here
    model.set_eos(tokenizer.eos_ids());

    let split = dataset.split();
    let users: Vec<u32> = (0..dataset.users.len() as u32).filter(|&user| split.train(user).len() > 1).collect();
    if users.is_empty() {
        let problem = "no user has two purchases to learn from".to_string();
        return Err(Error::Run { stage: "midtrain".into(), problem, hint: None });
    }
    let examples = MidtrainExamples {
        catalogue: &dataset.catalogue,
        split,
        users,
        sids: &sids,
        tokenizer: &tokenizer,
        sid_tokens: &sid_tokens,
        mix: midtrain.mix,
        augment: midtrain.augment,
        text_words: midtrain.text_words,
        seed: config.seed,
    };
    let trainer = Trainer {
        stage: "midtrain",
        model: &mut model,
        tokenizer: &tokenizer,
        config: &midtrain.train,
        seed: config.seed,
        directory,
    };
    trainer.run(&examples)?;

    let generator = Generator { model: &model, tokenizer: &tokenizer, sids: &sids, config: midtrain };
    let mut results = serde_json::Map::new();
    for (part, key) in [(Part::Validation, "validation"), (Part::Test, "test")] {
        let metrics = generator.evaluate(&dataset, part)?;
        match part {
            Part::Test => results.extend(metrics),
            _ => drop(results.insert(key.into(), json!(metrics))),
        }
    }
    results.insert("protocol".into(), json!(split.protocol().to_string()));
    results.insert("parameters".into(), json!(model.config().parameters()));
    say!("midtrain: {}", json!(results));
    write_results(directory, &results)
}

/// The mid-trained model as a recommender over the whole catalogue.
pub(super) struct Generator<'a> {
    pub(super) model: &'a Qwen3,
    pub(super) tokenizer: &'a Tokenizer,
    pub(super) sids: &'a SemanticIds,
    pub(super) config: &'a MidtrainConfig,
}

impl Generator<'_> {
    /// The best items after every history, best first.
    pub(super) fn recommend(&self, histories: &[&[u32]]) -> Result<Vec<Vec<u32>>> {
        let tokens = SidTokens::find(self.tokenizer)?.ok_or_else(|| Error::Run {
            stage: "generate".into(),
            problem: "the tokenizer has no semantic ids".into(),
            hint: Some("run `gr2 midtrain` first".into()),
        })?;
        let generator =
            CatalogueGenerator { model: self.model, tokenizer: self.tokenizer, tokens: &tokens, sids: self.sids };
        generator.recommend(histories, &self.config.contexts)
    }

    fn evaluate(&self, dataset: &Dataset, part: Part) -> Result<serde_json::Map<String, serde_json::Value>> {
        let split = dataset.split();
        let (histories, targets): (Vec<&[u32]>, Vec<u32>) =
            split.users(part).filter_map(|user| split.history_for(user, part)).unzip();
        let found = self.recommend(&histories)?;
        let ranks: Vec<Option<usize>> =
            found.iter().zip(&targets).map(|(items, t)| items.iter().position(|i| i == t).map(|p| p + 1)).collect();
        Ok(mean_metrics(&ranks, &CATALOGUE_METRICS))
    }
}

/// The mid-trained model and its tokenizer.
pub(super) fn load(run: &RunDir, device: &Device) -> Result<(Qwen3, Tokenizer)> {
    let directory = run.stage(Stage::Midtrain).join("checkpoint");
    Ok((model::load(&directory, device)?, Tokenizer::load(&directory)?))
}
