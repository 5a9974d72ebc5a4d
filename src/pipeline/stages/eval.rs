//! `eval`: every ranker over the test slates, and the report.

use super::super::{RunConfig, RunDir, STAGES, Stage};
use super::setting::{Setting, warn_of_positions};
use super::{dapo, sft, slates};
use crate::bounds::{MANY, Section};
use crate::console::say;
use crate::data::{Shop, Source};
use crate::error::{Error, Result};
use crate::eval::{
    AnswerView, Bootstrap, Ranker, RankerAnswer, Report, RerankEvaluation, Run, SampleView, SlateCase, StageLog,
};
use crate::files::write_jsonl;
use crate::rerank::{Decoding, Ranked, Slate, Student};
use gr2_kernels::Device;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// Which slates are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EvalSet {
    /// The test purchases of all users.
    Test,
    /// The validation purchases of the users held back, to compare settings without a look at the test.
    Validation,
}

/// Settings of the evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvalConfig {
    /// Which slates are measured.
    pub set: EvalSet,
    /// Resamplings of the paired bootstrap.
    pub resamples: usize,
    /// Slates measured at most; 0: all.
    pub slates: usize,
    /// Slates on which answers are also generated without the grammar, to report how many are valid then.
    pub free_slates: usize,
    /// Sample answers in the report.
    pub samples: usize,
}

impl Default for EvalConfig {
    fn default() -> Self {
        EvalConfig { set: EvalSet::Test, resamples: 10_000, slates: 0, free_slates: 400, samples: 6 }
    }
}

impl EvalConfig {
    /// Errors: `Config` naming the first field out of range.
    pub fn validate(&self) -> Result<()> {
        let at = Section::new("eval");
        at.because("no interval without resampling").whole("resamples", self.resamples, 1..=10_000_000)?;
        at.whole("slates", self.slates, 0..=MANY)?;
        at.whole("free_slates", self.free_slates, 0..=MANY)?;
        at.whole("samples", self.samples, 0..=MANY)
    }
}

pub(super) fn run(config: &RunConfig, run: &RunDir, directory: &Path, device: &Device) -> Result<()> {
    let setting = Setting::load(config, run)?;
    let slates = slates::read(run, &setting.dataset)?;
    let (mut test, measured) = match config.eval.set {
        EvalSet::Test => (slates.test, ""),
        EvalSet::Validation => (slates.validation, "; re-ranking measured on validation purchases held back"),
    };
    if config.eval.slates > 0 {
        test.truncate(config.eval.slates);
    }
    if test.is_empty() {
        return Err(Error::Run {
            stage: "eval".into(),
            problem: "no slate holds its target: there is nothing to measure".into(),
            hint: Some("see the hit rate of `slates`".into()),
        });
    }
    let mut answers: Vec<(&str, Vec<Ranked>)> = vec![];
    let mut free_valid_rates = vec![];
    for (name, load) in [("sft", sft::load as fn(&RunDir, &Device) -> _), ("dapo", dapo::load)] {
        let (model, tokenizer) = load(run, device)?;
        let student = Student::new(setting.prompter(), &tokenizer, &setting.sids)?;
        let decoding = config.dapo.decoding();
        let prompts = student.prompts(&test)?;
        let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
        warn_of_positions("eval", "prompts and answers", longest + decoding.max_new_tokens, &model);
        answers.push((name, student.rank(&model, &test, &prompts, decoding)?));
        let some = test.len().min(config.eval.free_slates);
        free_valid_rates.push(match decoding.constrained && some > 0 {
            true => {
                let freely = Decoding { constrained: false, ..decoding };
                let free = student.rank(&model, &test[..some], &prompts[..some], freely)?;
                Some(free.iter().filter(|r| r.answer.is_ok()).count() as f64 / some as f64)
            }
            false => None,
        });
    }

    write_answers(&directory.join("answers.jsonl"), &test, &answers)?;

    let rankers = answers.iter().zip(free_valid_rates).map(|((name, ranked), free_valid_rate)| {
        let answers = ranked.iter().zip(&test).map(|(r, slate)| ranker_answer(r, slate)).collect();
        Ranker { name: name.to_string(), answers, free_valid_rate }
    });
    let evaluation = RerankEvaluation {
        slates: test
            .iter()
            .filter_map(|s| Some(SlateCase { size: s.candidates.len(), rank_pre: s.rank_pre()? }))
            .collect(),
        rankers: rankers.collect(),
        oracle: oracle_ranks(config, &test)?,
        bootstrap: Bootstrap { resamples: config.eval.resamples, seed: config.seed },
    };
    let mut report = Report::new(&Run {
        name: config.name.clone(),
        protocol: format!("{}{measured}", setting.dataset.split().protocol()),
        seed: config.seed,
        device: device.to_string(),
        versions: BTreeMap::new(),
        config: serde_json::to_value(config.masked()).expect("invariant: a configuration serialises"),
    });
    for stage in [Stage::Sid, Stage::Base, Stage::Midtrain, Stage::Slates, Stage::Traces, Stage::Sft, Stage::Dapo] {
        report.section(stage.name(), &results(run, stage)?)?;
    }
    report.section("rerank", &evaluation.section()?)?;
    let seconds: serde_json::Map<String, Value> =
        run.seconds()?.into_iter().map(|(stage, s)| (stage.name().to_string(), json!(s))).collect();
    report.section("seconds", &seconds)?;
    let samples = samples(&setting, &test, &answers, config.eval.samples);
    report.write(directory, &logs(run)?, &samples)?;
    for ranker in ["prerank", "random", "sft", "dapo", "oracle"] {
        if let Some(metrics) = report.get("rerank").and_then(|r| r.get(ranker)) {
            let of = |key: &str| metrics[key].as_f64().map_or("-".into(), |v| format!("{v:.4}"));
            let (r1, n5) = (of("recall@1"), of("ndcg@5"));
            let (valid, free) = (of("valid_rate"), of("free_valid_rate"));
            say!("eval: {ranker:<8} recall@1 {r1}  ndcg@5 {n5}  valid {valid}  without grammar {free}");
        }
    }
    Ok(())
}

/// Lays the current report into the run's own directory.
pub(super) fn publish(run: &RunDir) -> Result<()> {
    for name in ["report.json", "report.html"] {
        let path = run.stage(Stage::Eval).join(name);
        let published = run.publish(name, &std::fs::read(&path).map_err(Error::io(&path))?)?;
        if name == "report.html" {
            let path = if published { run.root().join(name) } else { path };
            say!("eval: {}", path.display());
        }
    }
    Ok(())
}

/// One line per slate: user, candidates, target, and by ranker the order it gave (places of the incoming one, from 0; none
/// where its answer is invalid) and the text it wrote.
fn write_answers(path: &Path, slates: &[Slate], answers: &[(&str, Vec<Ranked>)]) -> Result<()> {
    let line = |(at, Slate { user, candidates, target, .. }): (usize, &Slate)| {
        let mut line = json!({ "user": user, "candidates": candidates, "target": target });
        for (name, ranked) in answers {
            let Ranked { text, answer } = &ranked[at];
            line[*name] = json!({ "ranking": answer.as_ref().ok().map(|answer| &answer.ranking), "text": text });
        }
        line
    };
    write_jsonl(path, slates.iter().enumerate().map(line))
}

fn ranker_answer(ranked: &Ranked, slate: &Slate) -> RankerAnswer {
    let place = slate.rank_pre().map(|rank| rank - 1);
    match (&ranked.answer, place) {
        (Ok(answer), Some(place)) => match answer.rank_of(place) {
            Some(rank) => RankerAnswer::Valid { rank, copied: answer.copies_order() },
            None => RankerAnswer::Invalid,
        },
        _ => RankerAnswer::Invalid,
    }
}

/// Where the best possible order puts the target, for the synthetic shop, whose probabilities are known.
fn oracle_ranks(config: &RunConfig, slates: &[Slate]) -> Result<Option<Vec<usize>>> {
    if config.data.source != Source::Shop {
        return Ok(None);
    }
    let shop = Shop::build(&config.data.shop)?;
    let rank = |slate: &Slate| -> Result<usize> {
        let p = shop.next_probabilities(&slate.history)?;
        let target = slate.rank_pre().map_or(0, |rank| rank - 1);
        let score = |at: usize| p[slate.candidates[at] as usize];
        // ties stay in the incoming order
        let before = |&at: &usize| score(at) > score(target) || (score(at) == score(target) && at < target);
        Ok(1 + (0..slate.candidates.len()).filter(before).count())
    };
    slates.iter().map(rank).collect::<Result<_>>().map(Some)
}

fn results(run: &RunDir, stage: Stage) -> Result<Value> {
    let path = run.stage(stage).join("results.json");
    let text = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
    serde_json::from_str(&text).map_err(|e| Error::Run {
        stage: "eval".into(),
        problem: format!("{}: {e}", path.display()),
        hint: None,
    })
}

fn logs(run: &RunDir) -> Result<Vec<StageLog>> {
    let metrics = STAGES.iter().map(|&stage| (stage, "metrics.jsonl", stage.name().to_string()));
    let validation = (Stage::Dapo, "validation.jsonl", "dapo validation".to_string());
    let logs = metrics.chain([validation]).map(|(stage, file, name)| (run.stage(stage).join(file), name));
    logs.filter(|(path, _)| path.exists()).map(|(path, name)| StageLog::read(&name, &path)).collect()
}

/// Answers to read: the first slates whose target was not first already.
fn samples(setting: &Setting, test: &[Slate], answers: &[(&str, Vec<Ranked>)], count: usize) -> Vec<SampleView> {
    let title = |item: &u32| setting.dataset.catalogue.items[*item as usize].title.clone();
    let worth = |at: &usize| test[*at].rank_pre().is_some_and(|rank| rank > 1);
    (0..test.len())
        .filter(worth)
        .take(count)
        .map(|at| SampleView {
            title: format!("user {}", setting.dataset.users[test[at].user as usize].key),
            history: test[at].history.iter().map(title).collect(),
            candidates: test[at].candidates.iter().map(title).collect(),
            target: test[at].rank_pre().map(|rank| rank - 1),
            answers: answers
                .iter()
                .map(|(name, ranked)| AnswerView {
                    ranker: name.to_string(),
                    text: ranked[at].answer.as_ref().map_or(ranked[at].text.clone(), |a| a.explanation.clone()),
                    order: ranked[at].answer.as_ref().ok().map(|a| a.ranking.clone()),
                })
                .collect(),
        })
        .collect()
}
