//! What the re-ranking stages share: the data, semantic ids, and what training purchases say about attributes.

use super::super::{RunConfig, RunDir};
use super::{data, sid};
use crate::console::say;
use crate::data::Dataset;
use crate::error::Result;
use crate::model::Qwen3;
use crate::rerank::{Attributes, Habits, ItemSids, Knowledge, PromptConfig, Prompter};

/// Everything prompts are written from.
pub(super) struct Setting {
    pub(super) dataset: Dataset,
    pub(super) sids: ItemSids,
    pub(super) attributes: Attributes,
    pub(super) habits: Habits,
    pub(super) knowledge: Knowledge,
    prompt: PromptConfig,
}

impl Setting {
    pub(super) fn load(config: &RunConfig, run: &RunDir) -> Result<Setting> {
        Setting::new(config, data::read(run)?, ItemSids::new(sid::read(run)?)?)
    }

    pub(super) fn new(config: &RunConfig, dataset: Dataset, sids: ItemSids) -> Result<Setting> {
        let attributes = Attributes::learn(&dataset.catalogue);
        let habits = Habits::learn(&training(&dataset), &attributes)?;
        let knowledge = Knowledge::learn(&attributes, &habits, &config.prompt.hints);
        Ok(Setting { dataset, sids, attributes, habits, knowledge, prompt: config.prompt.clone() })
    }

    pub(super) fn prompter(&self) -> Prompter<'_> {
        Prompter {
            config: self.prompt.clone(),
            catalogue: &self.dataset.catalogue,
            attributes: &self.attributes,
            sids: &self.sids,
            habits: &self.habits,
            knowledge: &self.knowledge,
        }
    }
}

/// The training part of every history.
pub(super) fn training(dataset: &Dataset) -> Vec<&[u32]> {
    let split = dataset.split();
    (0..dataset.users.len() as u32).map(|user| split.train(user)).collect()
}

/// Says so where sequences are longer than the model was made for: rotary angles go on, but it has never seen them.
pub(super) fn warn_of_positions(stage: &str, what: &str, tokens: usize, model: &Qwen3) {
    let positions = model.config().max_position_embeddings;
    if tokens > positions {
        say!(
            "warning: {stage}: {what} of up to {tokens} tokens, and the model has {positions} positions \
             (max_position_embeddings)\n  hint: lower prompt.history_items, prompt.title_words, slates.size or \
             dapo.max_new_tokens"
        );
    }
}
