//! `sid`: item texts to semantic ids.

use super::super::{RunConfig, RunDir, Stage};
use super::setting::training;
use super::{data, write_results};
use crate::bounds::{MOST_DIMS, Section, WEIGHT};
use crate::console::say;
use crate::data::{Catalogue, Dataset};
use crate::error::Result;
use crate::sid::{
    CooccurrenceConfig, Embeddings, IndexJson, ItemText, LastLevel, RqVaeConfig, SemanticIds, SvdConfig, TfidfConfig,
    assign_last_level, embed_neighbours, embed_texts, neighbours, read_embeddings, read_index_json, train_rqvae,
    uniqueness, write_jsonl,
};
use crate::{files, model, text};
use gr2_kernels::Device;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Values of all codebooks together at most.
const MOST_CODEBOOK_VALUES: u64 = 1 << 30;

/// Where dense item embeddings come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Embedding {
    /// Hashed TF-IDF of the item text, reduced by a truncated SVD.
    Tfidf,
    /// Mean-pooled final states of a Qwen3 checkpoint directory.
    Model(PathBuf),
    /// A `.npy` or `.safetensors` file with one row per item.
    File(PathBuf),
}

/// Settings of the semantic ids.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SidConfig {
    /// Where dense item embeddings come from.
    pub embedding: Embedding,
    /// Semantic ids made elsewhere: an `X.index.json`, item keys to tokens such as `<a_60>`. Nothing is embedded or trained
    /// then, and the file decides levels and codes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<PathBuf>,
    /// Q. 4: GR2.
    pub levels: usize,
    /// N. 256: OneRec-Think, LC-Rec.
    pub codes_per_level: usize,
    /// Weight of the co-purchase vector that stands beside the text's; 0: text only. GR2 brings the same signal in with a
    /// contrastive loss.
    pub collaborative: f32,
    /// Width of the co-purchase vector.
    pub collaborative_dims: usize,
    /// Which neighbours.
    pub cooccurrence: CooccurrenceConfig,
    /// How last codes are chosen inside each prefix: `random` (GR2) or `nearest`.
    pub last_level: LastLevelChoice,
    /// The built-in text embedding's words.
    pub tfidf: TfidfConfig,
    /// The built-in text embedding's reduction.
    pub svd: SvdConfig,
    /// The quantiser.
    pub rqvae: RqVaeConfig,
}

/// How last codes are chosen inside each prefix; both make every id unique.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LastLevelChoice {
    /// At random without replacement.
    Random,
    /// The nearest free code.
    Nearest,
}

impl Default for SidConfig {
    fn default() -> Self {
        SidConfig {
            embedding: Embedding::Tfidf,
            index: None,
            levels: 4,
            codes_per_level: 256,
            collaborative: 0.5,
            collaborative_dims: 64,
            cooccurrence: CooccurrenceConfig::default(),
            last_level: LastLevelChoice::Random,
            tfidf: TfidfConfig::default(),
            svd: SvdConfig::default(),
            rqvae: RqVaeConfig::default(),
        }
    }
}

impl SidConfig {
    /// Errors: `Config` naming the first field out of range.
    pub fn validate(&self) -> Result<()> {
        let at = Section::new("sid");
        match &self.embedding {
            Embedding::Tfidf => {}
            Embedding::Model(path) => at.path("embedding.model", Some(path))?,
            Embedding::File(path) => at.path("embedding.file", Some(path))?,
        }
        at.path("index", self.index.as_deref())?;
        at.whole("levels", self.levels, 1..=text::MAX_LEVELS as u64)?;
        at.whole("codes_per_level", self.codes_per_level, 1..=1 << 16)?;
        at.number("collaborative", self.collaborative, WEIGHT)?;
        at.whole("collaborative_dims", self.collaborative_dims, 1..=MOST_DIMS)?;
        self.cooccurrence.validate()?;
        self.tfidf.validate()?;
        self.svd.validate()?;
        self.rqvae.validate()?;
        let values = self.levels as u64 * self.codes_per_level as u64 * self.rqvae.latent as u64;
        if values > MOST_CODEBOOK_VALUES {
            let problem = format!(
                "{}: {} levels of so many codes of width sid.rqvae.latent = {} are {values} values, expected at most \
                 {MOST_CODEBOOK_VALUES}",
                self.codes_per_level, self.levels, self.rqvae.latent
            );
            return at.refuse("codes_per_level", problem);
        }
        Ok(())
    }

    /// Levels and codes per level of the ids that these settings give a catalogue.
    ///
    /// Errors: `Text`; as `read_index_json` where ids are made elsewhere.
    pub fn shape(&self, catalogue: &Catalogue) -> Result<text::SidShape> {
        match &self.index {
            Some(path) => Ok(read_index_json(path, catalogue)?.ids.shape()),
            None => text::SidShape::new(self.levels, self.codes_per_level),
        }
    }
}

/// Share of unique ids before the last level is assigned below which they hardly tell items apart.
const COLLAPSED: f64 = 0.25;

pub(super) fn run(config: &RunConfig, run: &RunDir, directory: &Path, device: &Device) -> Result<()> {
    let sid = &config.sid;
    let dataset = data::read(run)?;
    if let Some(path) = &sid.index {
        return take_index(path, &dataset.catalogue, directory);
    }
    let (mut embeddings, source) = embed(config, &dataset, device)?;
    let distinct = embeddings.distinct();
    warn_of_equal_vectors(distinct, embeddings.rows());
    if sid.collaborative > 0.0 {
        let near = neighbours(&training(&dataset), dataset.catalogue.len(), &sid.cooccurrence)?;
        // a catalogue in which nobody bought two things has nothing to add
        if near.stored() > 0 {
            let svd = SvdConfig { dims: sid.collaborative_dims, seed: config.seed, ..SvdConfig::default() };
            embeddings = embeddings.beside(&embed_neighbours(&near, &svd)?, sid.collaborative)?;
            embeddings.normalise_rows();
        }
    }
    let metrics = directory.join("metrics.jsonl");
    files::retain_jsonl(&metrics, |_| false)?;
    let shape = (sid.levels, sid.codes_per_level);
    let log = |m: &crate::sid::RqVaeMetrics| files::append_jsonl(&metrics, m);
    let quantised = train_rqvae(&embeddings, shape, &sid.rqvae, device, config.seed, log)?;
    let mut ids = SemanticIds::new(sid.levels, sid.codes_per_level, quantised.codes)?;
    let before = uniqueness(&ids);
    let how = match sid.last_level {
        LastLevelChoice::Random => LastLevel::Random { seed: config.seed },
        LastLevelChoice::Nearest => LastLevel::Nearest,
    };
    let books = &quantised.codebooks;
    let latents = &quantised.latents;
    let assigned =
        assign_last_level(&mut ids, how, &|item, prefix, out| books.distances(latents.row(item), prefix, out))?;
    let report = uniqueness(&ids);
    say!(
        "sid: {:.2} % unique ids, {:.2} % of items alone on theirs; before the last level was assigned {:.2} % and {:.2} %",
        report.unique_sids * 100.0,
        report.unique_items * 100.0,
        before.unique_sids * 100.0,
        before.unique_items * 100.0
    );
    if before.unique_sids < COLLAPSED && report.items > 1 {
        say!(
            "warning: sid: the ids have collapsed: before the last level, which is assigned {}, {} items share {} ids, \
             {} of them one\n  hint: look at sid.embedding and the item texts, or train longer (sid.rqvae.epochs)",
            match sid.last_level {
                LastLevelChoice::Random => "at random",
                LastLevelChoice::Nearest => "by what is free",
            },
            before.items,
            (before.unique_sids * before.items as f64).round(),
            before.largest_collision
        );
    }
    write_jsonl(&directory.join("sids.jsonl"), &ids)?;
    let mut results = serde_json::to_value(&report).expect("invariant: a report serialises");
    results["before_last_level"] = json!(before);
    results["last_level"] = json!(assigned);
    results["embedding"] = source;
    if few_distinct(distinct, report.items) {
        results["distinct_vectors"] = json!(distinct);
    }
    write_results(directory, &results)
}

/// Whether most items share their vector with another.
fn few_distinct(distinct: usize, items: usize) -> bool {
    distinct * 2 < items
}

/// Says so where the embeddings cannot tell items apart, whatever is made of them.
fn warn_of_equal_vectors(distinct: usize, items: usize) {
    if distinct == 1 && items > 1 {
        say!(
            "warning: sid: the vectors of all {items} items are equal: ids carry nothing of the items' texts\n  \
             hint: are the item texts, or the rows of sid.embedding, all the same?"
        );
    } else if few_distinct(distinct, items) {
        say!("warning: sid: {items} items have only {distinct} different vectors: many ids are told apart by chance");
    }
}

/// Semantic ids that were made elsewhere, as they are.
fn take_index(path: &Path, catalogue: &Catalogue, directory: &Path) -> Result<()> {
    let IndexJson { ids, unknown } = read_index_json(path, catalogue)?;
    let report = uniqueness(&ids);
    say!(
        "sid: {} levels of {} codes from {}: {:.2} % unique ids, {:.2} % of items alone on theirs; {unknown} items of the file \
         are not in the catalogue",
        ids.levels(),
        ids.codes_per_level(),
        path.display(),
        report.unique_sids * 100.0,
        report.unique_items * 100.0
    );
    let order = ids.order();
    let shared = order.windows(2).find(|pair| ids.get(pair[0] as usize) == ids.get(pair[1] as usize));
    if let Some(&[first, second]) = shared {
        let key = |item: u32| &catalogue.items[item as usize].key;
        say!(
            "warning: sid: {} items share an id with another, as items `{}` and `{}` do: an answer that names it may mean either",
            report.items - (report.unique_items * report.items as f64).round() as usize,
            key(first),
            key(second)
        );
    }
    write_jsonl(&directory.join("sids.jsonl"), &ids)?;
    let mut results = serde_json::to_value(&report).expect("invariant: a report serialises");
    results["index"] = json!({ "file": path, "unknown_items": unknown });
    write_results(directory, &results)
}

/// The dense embeddings and what is to be said of them.
fn embed(config: &RunConfig, dataset: &Dataset, device: &Device) -> Result<(Embeddings, serde_json::Value)> {
    let items = &dataset.catalogue.items;
    match &config.sid.embedding {
        Embedding::Tfidf => {
            let categories: Vec<String> = items.iter().map(|item| item.categories.join(", ")).collect();
            let text = |i: usize| ItemText {
                title: &items[i].title,
                brand: &items[i].brand,
                categories: &categories[i],
                description: &items[i].description,
            };
            let svd = SvdConfig { seed: config.seed, ..config.sid.svd.clone() };
            let (embeddings, report) = embed_texts(items.len(), text, &config.sid.tfidf, &svd)?;
            say!("sid: {} features, {:.1} % of their variance kept", report.features, report.explained * 100.0);
            Ok((embeddings, json!(report)))
        }
        Embedding::File(path) => Ok((read_embeddings(path, None, items.len())?, json!({ "file": path }))),
        Embedding::Model(path) => {
            let tokenizer = text::Tokenizer::load(path)?;
            let model = model::load(path, device)?;
            let texts: Vec<String> = items.iter().map(|item| item.text()).collect();
            Ok((crate::sid::embed_with_model(&model, &tokenizer, &texts)?, json!({ "model": path })))
        }
    }
}

/// The semantic ids of this run.
pub(super) fn read(run: &RunDir) -> Result<SemanticIds> {
    crate::sid::read_jsonl(&run.stage(Stage::Sid).join("sids.jsonl"))
}
