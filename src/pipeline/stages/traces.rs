//! `traces`: a teacher reasons about the slates to learn from; answers that put the target first are kept, or all valid ones.

use super::super::{RunConfig, RunDir, Stage};
use super::setting::Setting;
use super::{slates, write_results};
use crate::console::say;
use crate::error::{Error, Result};
use crate::eval::Metric;
use crate::generate::{Free, RolloutConfig, SamplerConfig, rollout};
use crate::model;
use crate::rerank::{
    Answer, Cached, HttpConfig, HttpTeacher, LocalPrompts, LocalTeacher, PromptStyle, Scripted, ScriptedConfig, Slate,
    Teacher, Trace, TraceConfig, TraceCounts, Weights, check_prompt, check_vocabulary, read_traces, sample_traces,
    write_traces,
};
use crate::text::{ChatTemplate, Tokenizer};
use gr2_kernels::{Device, Dtype};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Who reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TeacherChoice {
    /// The built-in script, from metadata and training purchases.
    Scripted,
    /// An OpenAI-compatible endpoint.
    Http,
    /// A checkpoint on this engine.
    Local,
}

/// A checkpoint as teacher.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LocalConfig {
    /// Checkpoint directory.
    pub path: PathBuf,
    /// Sampling temperature.
    pub temperature: f32,
    /// Tokens of an answer at most.
    pub max_new_tokens: usize,
    /// Slates answered together.
    pub batch: usize,
}

impl Default for LocalConfig {
    fn default() -> Self {
        LocalConfig { path: PathBuf::new(), temperature: 0.7, max_new_tokens: 1024, batch: 16 }
    }
}

/// Settings of the traces.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TracesConfig {
    /// Who reasons.
    pub teacher: TeacherChoice,
    /// How answers are sampled and kept.
    pub sampling: TraceConfig,
    /// The built-in script.
    pub scripted: ScriptedConfig,
    /// Fits the script's weights to the training slates, each half of the customers by the other half.
    pub fit: bool,
    /// The endpoint.
    pub http: HttpConfig,
    /// The checkpoint.
    pub local: LocalConfig,
}

impl Default for TracesConfig {
    fn default() -> Self {
        TracesConfig {
            teacher: TeacherChoice::Scripted,
            sampling: TraceConfig::default(),
            scripted: ScriptedConfig::default(),
            fit: false,
            http: HttpConfig::default(),
            local: LocalConfig::default(),
        }
    }
}

impl TracesConfig {
    /// Errors: `Config` naming the first field out of range.
    pub fn validate(&self) -> Result<()> {
        self.sampling.validate("traces.sampling")?;
        match self.teacher {
            TeacherChoice::Scripted => self.scripted.validate("traces.scripted"),
            TeacherChoice::Http => self.http.validate("traces.http"),
            TeacherChoice::Local if self.local.path.as_os_str().is_empty() => Err(Error::Config {
                field: "traces.local.path".into(),
                problem: "is not set".into(),
                hint: Some("the directory of a checkpoint".into()),
            }),
            TeacherChoice::Local => Ok(()),
        }
    }
}

pub(super) fn run(config: &RunConfig, run: &RunDir, directory: &Path, device: &Device) -> Result<()> {
    let traces = &config.traces;
    let setting = Setting::load(config, run)?;
    let slates = slates::read(run, &setting.dataset)?;
    let lessons = slates.lessons();
    let prompter = setting.prompter();
    let cache = directory.join("answers");
    let ask = |teacher: &dyn Teacher| sample_traces(lessons, &prompter, teacher, &traces.sampling);
    let mut script = None;
    let (found, counts) = match traces.teacher {
        TeacherChoice::Scripted => {
            let mut teacher = Scripted::new(traces.scripted.clone(), prompter.clone())?;
            if traces.fit {
                let known = slates.train.iter().filter_map(|slate| slate.rank_pre().map(|rank| (slate, rank - 1)));
                teacher.fit(known.map(|(slate, at)| (slate.question(config.prompt.history_items), at)));
            }
            script = Some(script_quality(&teacher, [&slates.train, &slates.validation], config.prompt.history_items));
            ask(&teacher)?
        }
        TeacherChoice::Http => ask(&Cached::new(HttpTeacher::new(traces.http.clone())?, &cache)?)?,
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
                parameters: json!({ "path": local.path, "temperature": local.temperature, "seed": config.seed }),
                tokenizer: &tokenizer,
                template: &template,
                thinking: false,
                style: PromptStyle::Instructed,
                batch: local.batch,
                generate,
            };
            ask(&Cached::new(teacher, &cache)?)?
        }
    };
    say!(
        "traces: {} of {} slates accepted after {} requests ({:.1} %)",
        counts.accepted,
        counts.slates,
        counts.attempts,
        counts.acceptance_rate * 100.0
    );
    if found.is_empty() {
        return Err(Error::Run {
            stage: "traces".into(),
            problem: format!("none of {} answers was right: {}", counts.attempts, json!(counts.invalid)),
            hint: Some("raise traces.sampling.max_attempts, or look at the teacher's answers".into()),
        });
    }
    write_traces(&directory.join("traces.jsonl"), &found)?;
    write_results(directory, &Results { counts, script })
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
