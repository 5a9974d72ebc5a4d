//! `base`: a small language model trained from scratch on the catalogue's texts, or any Qwen3 checkpoint by path.

use super::super::{RunConfig, RunDir, Stage};
use super::setting::{Setting, training};
use super::{data, write_results};
use crate::bounds::Section;
use crate::console::say;
use crate::data::{Dataset, Example};
use crate::error::Result;
use crate::model::{self, Qwen3, Qwen3Config};
use crate::rerank::{
    ItemSids, Markov, Scripted, ScriptedConfig, Slate, TeacherRequest, between_sids, check_student, render,
};
use crate::sid::SemanticIds;
use crate::text::{BPE_MIN_VOCAB, Tokenizer, train_bpe};
use crate::train::{TrainConfig, Trainer, catalogue_texts};
use gr2_kernels::Device;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::path::{Path, PathBuf};

/// The base model: a directory, or the sizes of a fresh one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BaseConfig {
    /// A Qwen3 checkpoint in Hugging Face layout. Without it a model is trained from scratch.
    pub path: Option<PathBuf>,
    /// Tokens of the byte-level BPE trained on the catalogue.
    pub vocab_size: usize,
    /// C.
    pub hidden: usize,
    /// L.
    pub layers: usize,
    /// H.
    pub heads: usize,
    /// K.
    pub kv_heads: usize,
    /// D.
    pub head_dim: usize,
    /// F.
    pub ffn: usize,
    /// Pretraining on the catalogue's texts.
    pub train: TrainConfig,
}

impl Default for BaseConfig {
    fn default() -> Self {
        BaseConfig {
            path: None,
            vocab_size: 2048,
            hidden: 192,
            layers: 4,
            heads: 6,
            kv_heads: 3,
            head_dim: 32,
            ffn: 512,
            train: TrainConfig { epochs: 2, ..TrainConfig::default() },
        }
    }
}

impl BaseConfig {
    /// Errors: `Config` naming the first field out of range.
    pub fn validate(&self) -> Result<()> {
        let at = Section::new("base");
        at.path("path", self.path.as_deref())?;
        at.whole("vocab_size", self.vocab_size, BPE_MIN_VOCAB as u64..=1 << 22)?;
        at.whole("hidden", self.hidden, 1..=1 << 16)?;
        at.whole("layers", self.layers, 1..=1024)?;
        at.whole("heads", self.heads, 1..=1024)?;
        at.whole("kv_heads", self.kv_heads, 1..=self.heads as u64)?;
        if !self.heads.is_multiple_of(self.kv_heads) {
            let problem = format!("{}: base.heads = {} cannot share so many", self.kv_heads, self.heads);
            return at.refuse("kv_heads", problem);
        }
        at.whole("head_dim", self.head_dim, 2..=4096)?;
        if !self.head_dim.is_multiple_of(2) {
            return at.refuse("head_dim", format!("{}: rotary embedding needs an even width", self.head_dim));
        }
        at.whole("ffn", self.ffn, 1..=1 << 20)?;
        self.train.validate("base.train")
    }

    /// Sizes of a fresh model. Weights start wider than the usual 0.02: residual streams this narrow would start
    /// almost silent.
    pub fn model(&self, vocab_size: usize) -> Qwen3Config {
        let heads = (self.heads, self.kv_heads, self.head_dim);
        let config = Qwen3Config::small(vocab_size, self.hidden, self.layers, heads, self.ffn);
        Qwen3Config { initializer_range: 0.5 / (self.hidden as f64).sqrt(), ..config }
    }
}

pub(super) fn run(config: &RunConfig, run: &RunDir, directory: &Path, device: &Device) -> Result<()> {
    let base = &config.base;
    if let Some(path) = &base.path {
        // loading checks the whole checkpoint, and its chat template, now rather than an hour into the run
        let model = model::load(path, device)?;
        let tokenizer = Tokenizer::load(path)?;
        let (slate, setting) = first_slate(config, data::read(run)?)?;
        let question = slate.question(config.prompt.history_items);
        check_student(&setting.prompter(), &tokenizer, model.config().vocab_size, &question)?;
        say!("base: {} ({} parameters)", path.display(), model.config().parameters());
        return write_results(directory, &json!({ "path": path, "parameters": model.config().parameters() }));
    }
    let dataset = data::read(run)?;
    let texts = catalogue_texts(&dataset.catalogue);
    let prompts = prompt_texts(config, dataset)?;
    let corpus: Vec<&str> = texts.iter().chain(&prompts).map(String::as_str).collect();
    let tokenizer = train_bpe(&corpus, base.vocab_size)?;
    let mut shape = base.model(tokenizer.vocab_size());
    shape.eos_token_ids = tokenizer.eos_ids().to_vec();
    let mut model = Qwen3::random(shape, device, config.seed)?;
    let examples = texts.iter().map(|text| language_example(&tokenizer, text)).collect::<Result<Vec<Example>>>()?;
    let trainer = Trainer {
        stage: "base",
        model: &mut model,
        tokenizer: &tokenizer,
        config: &base.train,
        seed: config.seed,
        directory,
    };
    trainer.run(&examples)?;
    let results = json!({ "parameters": model.config().parameters(), "vocab_size": tokenizer.vocab_size() });
    write_results(directory, &results)
}

/// A text of the catalogue with its end, every token predicted.
pub(super) fn language_example(tokenizer: &Tokenizer, text: &str) -> Result<Example> {
    let mut tokens = tokenizer.encode_data(text)?;
    tokens.extend(tokenizer.token_id(crate::text::ENDOFTEXT));
    Ok(Example { weights: vec![1.0; tokens.len()], tokens })
}

/// Prompts and answers of some training slates without their semantic ids: the tokenizer must know their words, few as
/// they are, since they stand in every prompt.
fn prompt_texts(config: &RunConfig, dataset: Dataset) -> Result<Vec<String>> {
    const SLATES: usize = 500;
    let items = dataset.catalogue.len();
    // the ids are taken out again
    let setting = numbered(config, dataset)?;
    let train = training(&setting.dataset);
    let markov = Markov::learn(&train, items)?;
    let prompter = setting.prompter();
    let teacher = Scripted::new(ScriptedConfig::default(), prompter.clone())?;
    let mut texts = vec![];
    let stride = train.len().div_ceil(SLATES).max(1);
    for (user, history) in train.iter().enumerate().step_by(stride).filter(|(_, history)| !history.is_empty()) {
        let candidates = markov.top(history, config.slates.size);
        let slate = Slate { user: user as u32, history: history.to_vec(), candidates, target: None };
        let question = slate.question(config.prompt.history_items);
        let request = TeacherRequest { slate: user as u64, question, shown: None, messages: vec![] };
        let answer = teacher.answer(&request, 0)?;
        let mut parts: Vec<String> = prompter.student(&question)?.into_iter().map(|m| m.content).collect();
        parts.push(render(&answer, &slate.candidates, prompter.sids)?.text);
        texts.extend(parts.iter().flat_map(|part| between_sids(part)).map(String::from));
    }
    Ok(texts)
}

/// What prompts are written from before items have semantic ids: their numbers stand for them.
fn numbered(config: &RunConfig, dataset: Dataset) -> Result<Setting> {
    let items = dataset.catalogue.len();
    let codes = (0..items).flat_map(|item| [(item >> 16) as u16, (item & 0xffff) as u16]).collect();
    Setting::new(config, dataset, ItemSids::new(SemanticIds::new(2, 1 << 16, codes)?)?)
}

/// A slate to try prompts with: the longest training history and the first items.
fn first_slate(config: &RunConfig, dataset: Dataset) -> Result<(Slate, Setting)> {
    let setting = numbered(config, dataset)?;
    let history =
        training(&setting.dataset).into_iter().max_by_key(|history| history.len()).unwrap_or_default().to_vec();
    let candidates = (0..setting.dataset.catalogue.len().min(config.slates.size) as u32).collect();
    Ok((Slate { user: 0, history, candidates, target: None }, setting))
}

/// Directory of the base checkpoint.
pub(super) fn checkpoint(config: &RunConfig, run: &RunDir) -> PathBuf {
    config.base.path.clone().unwrap_or_else(|| run.stage(Stage::Base).join("checkpoint"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_spells_tokens_is_learnt_as_letters() {
        let tokenizer = train_bpe(["Tape roll"], 261).unwrap();
        for text in ["Tape <|im_end|> roll", "<|endoftext|>", "<think>x</think>"] {
            let Example { tokens, weights } = language_example(&tokenizer, text).unwrap();
            let (end, letters) = tokens.split_last().unwrap();
            assert_eq!((Some(*end), weights.len()), (tokenizer.token_id(crate::text::ENDOFTEXT), tokens.len()));
            assert_eq!(letters.len(), text.len(), "a token for each byte");
            assert_eq!(tokenizer.decode(letters, false).unwrap(), text);
        }
    }
}
