//! Settings of the traces.

use crate::bounds::{MOST_TOKENS, Section};
use crate::error::{Error, Result};
use crate::rerank::{HttpConfig, ScriptedConfig, TraceConfig};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
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

impl LocalConfig {
    fn validate(&self, section: &str) -> Result<()> {
        let at = Section::new(section);
        at.number("temperature", self.temperature, 1e-7..=1000.0)?;
        at.whole("max_new_tokens", self.max_new_tokens, 1..=MOST_TOKENS)?;
        at.whole("batch", self.batch, 1..=65_536)
    }

    /// Everything an answer depends on beside prompt and attempt; `checkpoint` is the hash of the checkpoint's files.
    pub(super) fn parameters(&self, checkpoint: &str, seed: u64) -> Value {
        json!({
            "checkpoint": checkpoint, "temperature": self.temperature, "max_new_tokens": self.max_new_tokens, "seed": seed,
        })
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
    /// Directory of the answers of language models, which runs and processes may share; nothing removes one. Default:
    /// `answers` in the directory of the run.
    pub cache: Option<PathBuf>,
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
            cache: None,
        }
    }
}

impl TracesConfig {
    /// Errors: `Config` naming the first field out of range.
    pub fn validate(&self) -> Result<()> {
        Section::new("traces").path("cache", self.cache.as_deref())?;
        self.sampling.validate("traces.sampling")?;
        self.scripted.validate("traces.scripted")?;
        self.local.validate("traces.local")?;
        self.http.validate_secrets("traces.http")?;
        match self.teacher {
            TeacherChoice::Http => self.http.validate("traces.http"),
            TeacherChoice::Local if self.local.path.as_os_str().is_empty() => Err(Error::Config {
                field: "traces.local.path".into(),
                problem: "is not set".into(),
                hint: Some("the directory of a checkpoint".into()),
            }),
            TeacherChoice::Scripted | TeacherChoice::Local => Ok(()),
        }
    }

    /// These settings as they may be written down.
    pub fn masked(&self) -> TracesConfig {
        TracesConfig { http: self.http.masked(), ..self.clone() }
    }

    /// What of the settings decides which traces there are: not where a server is, how it is asked, what it costs, or where
    /// answers are kept. Holds the secrets of `http.extra`: for hashes only.
    pub(in crate::pipeline) fn deciding(&self) -> Value {
        let teacher = match self.teacher {
            TeacherChoice::Scripted => json!({ "scripted": self.scripted, "fit": self.fit }),
            TeacherChoice::Http => json!({ "http": self.http.parameters() }),
            // the files are part of the stage's key, and what is drawn depends on what is drawn together
            TeacherChoice::Local => {
                let local = &self.local;
                json!({ "local": {
                    "temperature": local.temperature, "max_new_tokens": local.max_new_tokens, "batch": local.batch,
                } })
            }
        };
        let sampling = &self.sampling;
        json!({ "teacher": teacher, "sampling": sampling.sampling, "max_attempts": sampling.max_attempts })
    }

    /// Where answers are kept.
    pub(super) fn answers(&self, root: &Path) -> PathBuf {
        self.cache.clone().unwrap_or_else(|| root.join("answers"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_decides_the_traces_decides_their_key() {
        let read = |text: &str| {
            toml::from_str::<TracesConfig>(&format!("teacher = \"http\"\nhttp.model = \"m\"\n{text}")).unwrap()
        };
        let plain = read("").deciding();
        for same in [
            "http.timeout = 7",
            "http.parallel = 2",
            "http.retries = 3",
            "http.backoff = 2",
            "http.base_url = \"http://x/v1\"",
            "http.api_key_env = \"K\"",
            "http.api_key_file = \"k\"",
            "http.send_seed = false",
            "sampling.prompt_price = 1",
            "sampling.completion_price = 1",
            "sampling.max_unanswered = 3",
            "cache = \"/c\"",
            "local.batch = 3",
            "fit = true",
        ] {
            assert_eq!(read(same).deciding(), plain, "{same}");
        }
        for other in [
            "http.temperature = 1",
            "http.top_p = 0.5",
            "http.max_tokens = 7",
            "http.seed = 3",
            "http.extra.x = 1",
            "sampling.max_attempts = 3",
            "sampling.sampling = \"targeted\"",
        ] {
            assert_ne!(read(other).deciding(), plain, "{other}");
        }
    }

    #[test]
    fn secrets_are_refused_whoever_the_teacher_is_and_masked_where_they_are_allowed() {
        let mut config = TracesConfig::default();
        config.http.base_url = "http://user:SECRET@host/v1".into();
        let message = config.validate().unwrap_err().to_string();
        assert!(message.starts_with("config: traces.http.base_url: http://***@host/v1: has a user"), "{message}");
        let mut config = TracesConfig::default();
        config.http.extra.insert("api_key".into(), json!("SECRET"));
        config.validate().unwrap();
        assert!(!toml::to_string(&config.masked()).unwrap().contains("SECRET"));
    }

    #[test]
    fn wrong_values_name_their_field() {
        let wrong = |text: &str| {
            toml::from_str::<TracesConfig>(&format!("teacher = \"local\"\n{text}"))
                .unwrap()
                .validate()
                .unwrap_err()
                .to_string()
        };
        assert!(wrong("").starts_with("config: traces.local.path: is not set"));
        assert!(wrong("local.path = \"x\"\nlocal.temperature = nan").contains("traces.local.temperature: NaN"));
        assert!(wrong("local.path = \"x\"\nlocal.batch = 0").contains("traces.local.batch: 0: expected 1 to"));
    }
}
