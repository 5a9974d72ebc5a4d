//! `traces`: a teacher reasons about the slates to learn from; answers that put the target first are kept, or all valid ones.

mod config;
mod unpaid;

use super::super::key::outside_hash;
use super::super::{RunConfig, RunDir, Stage};
use super::setting::Setting;
use super::{slates, write_results};
use crate::console::say;
use crate::error::{Error, Result};
use crate::eval::Metric;
use crate::generate::{Free, RolloutConfig, SamplerConfig, rollout};
use crate::model;
use crate::rerank::{
    Answer, Answers, Cached, ControlTokens, HttpTeacher, LocalPrompts, LocalTeacher, PromptStyle, Sampled, Scripted,
    Slate, Teacher, Trace, TraceCounts, Weights, check_prompt, check_vocabulary, read_traces, sample_traces,
    write_traces,
};
use crate::text::{ChatTemplate, Tokenizer};
use gr2_kernels::{Device, Dtype};
use serde::Serialize;
use serde_json::json;
use std::path::{Path, PathBuf};

pub use config::{LocalConfig, TeacherChoice, TracesConfig};
pub(in crate::pipeline) use unpaid::to_be_paid;

pub(super) fn run(config: &RunConfig, run: &RunDir, directory: &Path, device: &Device) -> Result<()> {
    let traces = &config.traces;
    let setting = Setting::load(config, run)?;
    let slates = slates::read(run, &setting.dataset)?;
    let lessons = slates.lessons();
    let prompter = setting.prompter();
    let control = ControlTokens::of(&Tokenizer::load(run.stage(Stage::Midtrain).join("checkpoint"))?);
    let ask = |teacher: &dyn Teacher| sample_traces(lessons, &prompter, teacher, &control, &traces.sampling);
    let cache = traces.answers(run.root());
    let answers = || {
        if cache.is_file() {
            let problem = format!("{}: is a file", cache.display());
            let hint = Some("name a folder, which is made where it is missing".into());
            return Err(Error::Config { field: "traces.cache".into(), problem, hint });
        }
        Answers::open(&cache, &older_answers(run.root(), &cache))
    };
    let mut script = None;
    let found = match traces.teacher {
        TeacherChoice::Scripted => {
            let mut teacher = Scripted::new(traces.scripted.clone(), prompter.clone())?;
            if traces.fit {
                let known = slates.train.iter().filter_map(|slate| slate.rank_pre().map(|rank| (slate, rank - 1)));
                teacher.fit(known.map(|(slate, at)| (slate.question(config.prompt.history_items), at)));
            }
            script = Some(script_quality(&teacher, [&slates.train, &slates.validation], config.prompt.history_items));
            ask(&teacher)?
        }
        TeacherChoice::Http => ask(&Cached::new(HttpTeacher::new(traces.http.clone())?, answers()?))?,
        TeacherChoice::Local => {
            let local = &traces.local;
            let model = model::load(&local.path, device)?;
            let tokenizer = Tokenizer::load(&local.path)?;
            let template = ChatTemplate::of(&tokenizer)?;
            check_vocabulary(&tokenizer, model.config().vocab_size)?;
            if let Some(slate) = lessons.first() {
                let question = slate.question(config.prompt.history_items);
                check_prompt(&tokenizer, &template, &prompter.rejection(&question)?)?;
            }
            let generate = |prompts: &LocalPrompts| -> Result<Vec<Vec<u32>>> {
                let settings = RolloutConfig {
                    samples: 1,
                    max_new_tokens: local.max_new_tokens,
                    stop: tokenizer.eos_ids().to_vec(),
                    sampler: SamplerConfig::sampling(local.temperature),
                    vocab_limit: tokenizer.vocab_size(),
                    seed: config.seed,
                    step: prompts.slates.first().copied().unwrap_or(0) << 16 | prompts.attempt as u64,
                    max_rows: local.batch,
                    kv_cache: Dtype::F32,
                };
                Ok(rollout(&model, &prompts.prompts, &Free, &settings)?.into_iter().map(|r| r.tokens).collect())
            };
            let teacher = LocalTeacher {
                name: local.path.display().to_string(),
                parameters: local.parameters(&outside_hash(config, Stage::Traces)?, config.seed),
                tokenizer: &tokenizer,
                template: &template,
                thinking: false,
                style: PromptStyle::Instructed,
                batch: local.batch,
                generate,
            };
            ask(&Cached::new(teacher, answers()?))?
        }
    };
    tell(&found);
    if found.traces.is_empty() {
        return Err(none_right(&found, (traces.teacher != TeacherChoice::Scripted).then_some(&*cache)));
    }
    write_traces(&directory.join("traces.jsonl"), &found.traces)?;
    write_results(directory, &Results { counts: found.counts, script })
}

fn tell(found: &Sampled) {
    let counts = &found.counts;
    say!(
        "traces: {} of {} slates accepted after {} requests ({:.1} %)",
        counts.accepted,
        counts.slates,
        counts.attempts,
        counts.acceptance_rate * 100.0
    );
    let unusual = [
        (counts.refused, "slates left out, their prompts are refused"),
        (counts.unanswered, "requests without a response"),
        (counts.no_completion, "requests whose responses were no completion"),
        (counts.invalid.values().sum(), "answers that were none"),
    ];
    for (count, what) in unusual.into_iter().filter(|(count, _)| *count > 0) {
        say!("traces: {count} {what}");
    }
}

/// The error of a teacher who gave no answer to keep; `cache` is where its answers are.
fn none_right(found: &Sampled, cache: Option<&Path>) -> Error {
    let counts = &found.counts;
    let sample = found.sample.as_ref().map(|sample| format!("; the first {sample}")).unwrap_or_default();
    let others =
        format!("{} refused, {} without a completion", counts.refused, counts.unanswered + counts.no_completion);
    let place = cache.map(|cache| format!(": they are kept in {}", cache.display())).unwrap_or_default();
    Error::Run {
        stage: "traces".into(),
        problem: format!("none of {} answers was right: {}, {others}{sample}", counts.attempts, json!(counts.invalid)),
        hint: Some(format!("raise traces.sampling.max_attempts, or look at the teacher's answers{place}")),
    }
}

/// Directories in which earlier versions kept answers, inside the stage's folders: the current one and those set aside.
fn older_answers(root: &Path, cache: &Path) -> Vec<PathBuf> {
    let name = Stage::Traces.name();
    let kept = std::fs::read_dir(root.join("kept").join(name)).into_iter().flatten().flatten();
    let kept = kept.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path());
    let current = [root.join(name), root.join(format!("{name}.previous"))];
    let mut found: Vec<PathBuf> = kept.chain(current).map(|folder| folder.join("answers")).collect();
    found.retain(|answers| answers.is_dir() && answers != cache);
    found.sort();
    found
}

/// What is reported of this stage.
#[derive(Serialize)]
struct Results {
    #[serde(flatten)]
    counts: TraceCounts,
    script: Option<ScriptQuality>,
}

/// How good the script is where it is not sampled: on validation purchases, NDCG@5 beside that of the incoming order.
/// What the student learns from it can hardly be better.
#[derive(Serialize)]
struct ScriptQuality {
    slates: usize,
    #[serde(rename = "prerank_ndcg@5")]
    prerank: f64,
    #[serde(rename = "ndcg@5")]
    ndcg: f64,
    /// Share of the slates whose first candidate it leaves first.
    kept_first: f64,
    /// For customers with an even number, and for those with an odd one.
    weights: [Weights; 2],
}

fn script_quality(teacher: &Scripted, sets: [&[Slate]; 2], history_items: usize) -> ScriptQuality {
    let (mut before, mut after, mut kept) = (vec![], vec![], 0);
    for slate in sets.into_iter().flatten() {
        let ranking = teacher.ranking(&slate.question(history_items));
        kept += usize::from(ranking.first() == Some(&0));
        let answer = Answer { explanation: String::new(), ranking };
        before.push(slate.rank_pre());
        after.push(slate.rank_pre().and_then(|rank| answer.rank_of(rank - 1)));
    }
    let [prerank, ndcg] = [before, after].map(|ranks| Metric::Ndcg(5).mean(&ranks));
    let slates = sets.map(<[Slate]>::len).iter().sum();
    say!("traces: the script's NDCG@5 on {slates} validation slates: {ndcg:.4}, incoming {prerank:.4}");
    ScriptQuality { slates, prerank, ndcg, kept_first: kept as f64 / slates.max(1) as f64, weights: teacher.weights() }
}

/// The traces of this run.
pub(super) fn read(run: &RunDir, slates: &[crate::rerank::Slate]) -> Result<Vec<Trace>> {
    read_traces(&run.stage(Stage::Traces).join("traces.jsonl"), slates)
}
