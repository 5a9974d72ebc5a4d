//! `slates`: ten candidates for every user, in the pre-ranker's order.

use super::super::{RunConfig, RunDir, Stage};
use super::midtrain::{self, Generator};
use super::setting::training;
use super::{data, sid, write_results};
use crate::bounds::{MANY, Section};
use crate::console::say;
use crate::data::{Dataset, Part};
use crate::error::{Error, Result};
use crate::rerank::{Markov, Slate, SlateCounts, import_slates, read_slates, refuse_leaks, write_slates};
use crate::tensor::stream;
use gr2_kernels::Device;
use rand::seq::{IndexedRandom, SliceRandom};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Who draws up the slates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SlateSource {
    /// Beams of the mid-trained model.
    Model,
    /// The built-in Markov recommender.
    Markov,
    /// A user's own pre-ranker: a JSON-lines file of test slates, and one of slates to train on.
    File {
        /// Slates to train on; their targets must not be test targets.
        train: PathBuf,
        /// Slates to measure on.
        test: PathBuf,
    },
}

/// Settings of the slates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SlatesConfig {
    /// Who draws them up.
    pub source: SlateSource,
    /// Candidates of a slate. 10: GR2.
    pub size: usize,
    /// Positions of each user's training part that become practice slates, the latest first. Traces are of these, so that
    /// rewards are earned on slates whose targets nobody was taught; their order is too good, since the pre-ranker was
    /// trained on their targets, so rewards are never computed on them. 0, and with `file`: none, and traces are of the
    /// slates to train on.
    pub practice: usize,
    /// A control: gives every slate that is learnt from or chosen by a random candidate as its target. What is learnt then
    /// must not beat the incoming order on the test slates, which keep their targets.
    pub shuffle_targets: bool,
    /// Share of the users whose validation purchase is held back from training, to choose settings by.
    pub held_back: f64,
}

impl Default for SlatesConfig {
    fn default() -> Self {
        SlatesConfig { source: SlateSource::Model, size: 10, practice: 3, shuffle_targets: false, held_back: 0.1 }
    }
}

impl SlatesConfig {
    /// Errors: `Config` naming the first field out of range.
    pub fn validate(&self) -> Result<()> {
        let at = Section::new("slates");
        if let SlateSource::File { train, test } = &self.source {
            at.path("source.file.train", Some(train))?;
            at.path("source.file.test", Some(test))?;
            if train == test {
                return at.refuse("source.file.test", format!("{}: is the file to train on", test.display()));
            }
        }
        at.because("nothing to re-rank").whole("size", self.size, 2..=10_000)?;
        at.whole("practice", self.practice, 0..=MANY)?;
        at.number("held_back", self.held_back, 0.0..1.0)
    }
}

/// The sets of slates, all holding their targets.
pub(super) struct Slates {
    /// Purchases of the training parts: what traces and SFT learn from.
    pub(super) practice: Vec<Slate>,
    /// Validation purchases of most users: what DAPO learns from.
    pub(super) train: Vec<Slate>,
    /// Validation purchases of the users held back.
    pub(super) validation: Vec<Slate>,
    /// Test purchases of all users.
    pub(super) test: Vec<Slate>,
}

impl Slates {
    /// What a teacher is asked about: the slates to practise on, those to train on where there are none.
    pub(super) fn lessons(&self) -> &[Slate] {
        if self.practice.is_empty() { &self.train } else { &self.practice }
    }
}

const SETS: [&str; 4] = ["practice", "train", "validation", "test"];

pub(super) fn run(config: &RunConfig, run: &RunDir, directory: &Path, device: &Device) -> Result<()> {
    let dataset = data::read(run)?;
    let slates = &config.slates;
    let (practice, validation, test) = match &slates.source {
        SlateSource::File { train: train_path, test: test_path } => {
            let train = import_slates(train_path, &dataset, Part::Validation, slates.size)?;
            let test = import_slates(test_path, &dataset, Part::Test, slates.size)?;
            refuse_leaks(&dataset, (train_path, &train), (test_path, &test))?;
            let cut = train.cut + test.cut;
            say!("slates: {cut} candidates beyond the size of a slate left out");
            (vec![], train.slates, test.slates)
        }
        SlateSource::Markov => {
            let markov = Markov::learn(&training(&dataset), dataset.catalogue.len())?;
            let rank = |histories: &[&[u32]]| Ok(histories.iter().map(|h| markov.top(h, slates.size)).collect());
            draw_all(&dataset, slates, rank)?
        }
        SlateSource::Model => {
            let (model, tokenizer) = midtrain::load(run, device)?;
            let sids = sid::read(run)?;
            let generator = Generator { model: &model, tokenizer: &tokenizer, sids: &sids, config: &config.midtrain };
            draw_all(&dataset, slates, |histories: &[&[u32]]| generator.recommend(histories))?
        }
    };
    // users are held back whole and at random, so that neither set is of the early or the late ones
    let mut users: Vec<u32> = validation.iter().map(|s| s.user).collect();
    users.shuffle(&mut stream(config.seed, "slates held back", 0, 0));
    users.truncate((users.len() as f64 * slates.held_back).round() as usize);
    users.sort_unstable();
    let (held_back, train): (Vec<Slate>, Vec<Slate>) =
        validation.into_iter().partition(|s| users.binary_search(&s.user).is_ok());

    let mut results = serde_json::Map::new();
    for (mut slates, key) in [practice, train, held_back, test].into_iter().zip(SETS) {
        if config.slates.shuffle_targets && key != "test" {
            for (at, slate) in (0u64..).zip(&mut slates) {
                let mut rng = stream(config.seed, &format!("shuffled targets {key}"), 0, at);
                // a slate that missed its target stays a miss, so that as many are learnt from as without the control
                slate.target = slate.rank_pre().and_then(|_| slate.candidates.choose(&mut rng).copied());
            }
        }
        let counts = SlateCounts::of(&slates);
        let share = counts.hit_rate * 100.0;
        say!("slates: {key}: {} of {} hold their target ({share:.2} %)", counts.hits, counts.with_target);
        let hits: Vec<Slate> = slates.into_iter().filter(|s| s.rank_pre().is_some()).collect();
        write_slates(&file(directory, key), &hits)?;
        results.insert(key.into(), json!(counts));
    }
    write_results(directory, &results)
}

/// A history, its user and what was bought next.
type Case<'a> = (u32, &'a [u32], u32);

/// Practice, validation and test slates, from a ranker of histories.
fn draw_all(
    dataset: &Dataset,
    config: &SlatesConfig,
    rank: impl Fn(&[&[u32]]) -> Result<Vec<Vec<u32>>>,
) -> Result<(Vec<Slate>, Vec<Slate>, Vec<Slate>)> {
    let split = dataset.split();
    let part = |part| -> Vec<Case> {
        split.users(part).filter_map(|user| split.history_for(user, part).map(|(h, t)| (user, h, t))).collect()
    };
    let practice = (0..dataset.users.len() as u32).flat_map(|user| {
        let train = split.train(user);
        (1..train.len()).rev().take(config.practice).map(move |at| (user, &train[..at], train[at]))
    });
    let draw = |cases: Vec<Case>| -> Result<Vec<Slate>> {
        let histories: Vec<&[u32]> = cases.iter().map(|(_, history, _)| *history).collect();
        let ranked = rank(&histories)?;
        let slate = |((user, history, target), mut candidates): (Case, Vec<u32>)| {
            candidates.truncate(config.size);
            Slate { user, history: history.to_vec(), candidates, target: Some(target) }
        };
        Ok(cases.into_iter().zip(ranked).map(slate).collect())
    };
    Ok((draw(practice.collect())?, draw(part(Part::Validation))?, draw(part(Part::Test))?))
}

fn file(directory: &Path, set: &str) -> PathBuf {
    directory.join(format!("{set}.jsonl"))
}

/// The slates of this run.
pub(super) fn read(run: &RunDir, dataset: &Dataset) -> Result<Slates> {
    let directory = run.stage(Stage::Slates);
    let read = |set: &str| {
        let path = file(&directory, set);
        // no user may be held back, or none of those may have a target in the slate
        let empty = std::fs::metadata(&path).map_err(Error::io(&path))?.len() == 0;
        if empty { Ok(vec![]) } else { read_slates(&path, dataset.catalogue.len(), true) }
    };
    let [practice, train, validation, test] = SETS;
    Ok(Slates { practice: read(practice)?, train: read(train)?, validation: read(validation)?, test: read(test)? })
}
