//! The configuration of a run: one table per stage, every key with a default.

use super::stages::{
    BaseConfig, EvalConfig, EvalSet, MidtrainConfig, SftConfig, SidConfig, SlateSource, SlatesConfig, TracesConfig,
};
use crate::bounds::Section;
use crate::data::DataConfig;
use crate::error::{Error, Result};
use crate::rerank::PromptConfig;
use crate::rl::DapoConfig;
use crate::secrets::scrubbed;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Parameters of a fresh model at most.
const MOST_PARAMETERS: usize = 100_000_000_000;

/// A whole run, as its TOML file spells it. Unknown keys are refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RunConfig {
    /// Name in the report.
    pub name: String,
    /// Seed of everything random.
    pub seed: u64,
    /// Where items and histories come from.
    pub data: DataConfig,
    /// Semantic ids.
    pub sid: SidConfig,
    /// The base model.
    pub base: BaseConfig,
    /// Mid-training.
    pub midtrain: MidtrainConfig,
    /// Slates.
    pub slates: SlatesConfig,
    /// The prompt of the re-ranker.
    pub prompt: PromptConfig,
    /// Reasoning traces.
    pub traces: TracesConfig,
    /// Supervised fine-tuning.
    pub sft: SftConfig,
    /// Reinforcement learning.
    pub dapo: DapoConfig,
    /// Evaluation.
    pub eval: EvalConfig,
}

impl Default for RunConfig {
    fn default() -> Self {
        RunConfig {
            name: "run".into(),
            seed: 1,
            data: Default::default(),
            sid: Default::default(),
            base: Default::default(),
            midtrain: Default::default(),
            slates: Default::default(),
            prompt: Default::default(),
            traces: Default::default(),
            sft: Default::default(),
            dapo: Default::default(),
            eval: Default::default(),
        }
    }
}

impl RunConfig {
    /// Reads a TOML file and lays `key=value` settings over it, as in `data.dir=/my/data` or `dapo.steps=50`.
    ///
    /// Errors: `Io`; `Config` naming the file and line of a syntax error, an unknown key, a value of the wrong type.
    pub fn read(path: &Path, settings: &[String]) -> Result<RunConfig> {
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        RunConfig::parse(&text, &path.display().to_string(), settings)
    }

    /// As [`RunConfig::read`] for a text already read; `name` stands for it in messages.
    ///
    /// Errors: `Config`.
    pub fn parse(text: &str, name: &str, settings: &[String]) -> Result<RunConfig> {
        let bad = |problem: String| Error::Config { field: name.into(), problem: scrubbed(&problem), hint: None };
        let mut table: toml::Table = text.parse().map_err(|e: toml::de::Error| bad(e.to_string()))?;
        let of_file = table.clone();
        for setting in settings {
            apply(&mut table, setting)?;
        }
        let config: RunConfig = table.try_into().map_err(|e: toml::de::Error| {
            let problem = e.to_string().trim().to_string();
            // the file is blamed for its own faults only
            match of_file.try_into::<RunConfig>() {
                Ok(_) => {
                    let field = format!("{name}, with --set laid over it");
                    Error::Config { field, problem: scrubbed(&problem), hint: None }
                }
                Err(_) => bad(problem),
            }
        })?;
        config.validate()?;
        Ok(config)
    }

    /// Errors: `Config` naming the first field out of range.
    pub fn validate(&self) -> Result<()> {
        Section::new("").text("name", Some(&self.name))?;
        self.data.validate()?;
        self.sid.validate()?;
        self.base.validate()?;
        self.midtrain.validate()?;
        self.slates.validate()?;
        self.prompt.validate("prompt")?;
        self.traces.validate()?;
        self.sft.validate()?;
        self.dapo.validate()?;
        self.eval.validate()?;
        self.contradictions()
    }

    /// Settings that are in range each and cannot be together.
    fn contradictions(&self) -> Result<()> {
        let vocabulary = self.base.vocab_size + 2 + self.sid.levels * self.sid.codes_per_level;
        let parameters = self.base.model(vocabulary).parameters();
        if self.base.path.is_none() && parameters > MOST_PARAMETERS {
            let problem = format!(
                "{}: with base.layers = {}, base.ffn = {} and {vocabulary} tokens the model has {parameters} parameters, \
                 expected at most {MOST_PARAMETERS}",
                self.base.hidden, self.base.layers, self.base.ffn
            );
            return Section::new("base").refuse("hidden", problem);
        }
        let beams = self.midtrain.contexts.beams;
        if self.slates.source == SlateSource::Model && beams < self.slates.size {
            let problem =
                format!("{beams}: fewer than the slates.size = {} candidates taken from them", self.slates.size);
            return Section::new("midtrain.contexts").refuse("beams", problem);
        }
        if self.eval.set == EvalSet::Validation && self.slates.held_back == 0.0 {
            let problem = "validation: with slates.held_back = 0 there is nothing to measure on";
            return Section::new("eval").refuse("set", problem);
        }
        Ok(())
    }

    /// The configuration as it may be written down: without secrets. What is written so can be read again, once those are
    /// given anew.
    pub fn masked(&self) -> RunConfig {
        RunConfig { traces: self.traces.masked(), ..self.clone() }
    }
}

/// Lays one `a.b.c=value` over the table; the value is TOML, or a bare string where it is not.
fn apply(table: &mut toml::Table, setting: &str) -> Result<()> {
    let usage =
        |problem: String| Error::Usage { problem: scrubbed(&problem), hint: Some("as in --set dapo.steps=50".into()) };
    let (key, value) = setting.split_once('=').ok_or_else(|| usage(format!("--set {setting}: no `=`")))?;
    let parsed = format!("v = {value}").parse::<toml::Table>().ok().and_then(|mut t| t.remove("v"));
    let value = parsed.unwrap_or_else(|| toml::Value::String(value.to_string()));
    let mut at = table;
    let mut parts: Vec<&str> = key.trim().split('.').collect();
    let last = parts.pop().filter(|l| !l.is_empty()).ok_or_else(|| usage(format!("--set {setting}: no key")))?;
    for part in parts {
        let next = at.entry(part).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        at = next.as_table_mut().ok_or_else(|| usage(format!("--set {setting}: `{part}` is no table")))?;
    }
    at.insert(last.to_string(), value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_lie_over_the_file_and_unknown_keys_are_refused() {
        let text = "name = \"x\"\n[dapo]\nsteps = 3\n";
        let config = RunConfig::parse(text, "x.toml", &["dapo.steps=7".into(), "name=office run".into()]).unwrap();
        assert_eq!((config.dapo.steps, config.name.as_str()), (7, "office run"));
        let message = RunConfig::parse("[dapo]\nstep = 3\n", "x.toml", &[]).unwrap_err().to_string();
        assert!(message.contains("x.toml") && message.contains("unknown field `step`"), "{message}");
        assert_eq!(RunConfig::parse("", "x", &["dapo.steps".into()]).unwrap_err().exit_code(), 2);
    }
}
