//! [`HttpConfig`]: where a language model is, and what is asked of it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// Settings of the endpoint and of what is asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// Address up to and including the version, as `http://localhost:8000/v1`.
    pub base_url: String,
    /// Name of the model there.
    pub model: String,
    /// Name of the environment variable that holds the key. Default: no key is sent.
    pub api_key_env: Option<String>,
    /// Sampling temperature. Default 0.7 (gr2 samples teachers at 0.7 to 1).
    pub temperature: f64,
    /// Nucleus of the distribution that is sampled from.
    pub top_p: f64,
    /// Tokens of an answer at most, thinking included.
    pub max_tokens: u32,
    /// Seed from which each request's own is drawn; false sends none, for endpoints that refuse it.
    pub seed: u64,
    /// Whether a seed is sent.
    pub send_seed: bool,
    /// More fields of the request, as `chat_template_kwargs = { enable_thinking = false }`.
    pub extra: Map<String, Value>,
    /// Seconds until a request is given up.
    pub timeout: f64,
    /// Times a request is sent again after a timeout, a lost connection, 429 or 5xx.
    pub retries: u32,
    /// Seconds before the first of them; each further one waits twice as long, a minute at most, by chance up to half less.
    pub backoff: f64,
    /// Requests under way at the same time.
    pub parallel: usize,
}

impl Default for HttpConfig {
    fn default() -> Self {
        HttpConfig {
            base_url: "http://localhost:8000/v1".into(),
            model: String::new(),
            api_key_env: None,
            temperature: 0.7,
            top_p: 1.0,
            max_tokens: 2048,
            seed: 1,
            send_seed: true,
            extra: Map::new(),
            timeout: 120.0,
            retries: 5,
            backoff: 1.0,
            parallel: 8,
        }
    }
}

impl HttpConfig {
    /// Checks the ranges; `section` is the dotted name of this table in the configuration file.
    ///
    /// Errors: `Config` naming the field; also for an https address in a build without the feature `tls`.
    pub fn validate(&self, section: &str) -> Result<()> {
        let refuse = |field: &str, problem: String, hint: Option<&str>| {
            let field = format!("{section}.{field}");
            Err(Error::Config { field, problem, hint: hint.map(str::to_owned) })
        };
        let https = self.base_url.starts_with("https://");
        if !https && !self.base_url.starts_with("http://") {
            let problem = format!("{:?}: expected http://… or https://…", self.base_url);
            return refuse("base_url", problem, None);
        }
        if https && !cfg!(feature = "tls") {
            let hint = "build with `cargo build --release --features tls`, or reach the endpoint through a local proxy";
            return refuse("base_url", format!("{}: this build speaks http only", self.base_url), Some(hint));
        }
        if self.model.is_empty() {
            return refuse("model", "is not set".into(), Some("the names are listed at {base_url}/models"));
        }
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return refuse("temperature", format!("{}: expected a number of at least 0", self.temperature), None);
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return refuse("top_p", format!("{}: expected more than 0, at most 1", self.top_p), None);
        }
        for (field, value) in [("timeout", self.timeout), ("backoff", self.backoff)] {
            if !(value > 0.0 && value <= 86_400.0) {
                return refuse(field, format!("{value}: expected seconds, more than 0 and at most a day"), None);
            }
        }
        for (field, value) in [("max_tokens", self.max_tokens as usize), ("parallel", self.parallel)] {
            if value == 0 {
                return refuse(field, "0: expected at least 1".into(), None);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rerank::HttpTeacher;

    #[test]
    fn wrong_values_name_their_field() {
        let model = || HttpConfig { model: "m".into(), ..HttpConfig::default() };
        let message = |config: HttpConfig| HttpTeacher::new(config).err().unwrap().to_string();
        assert!(message(HttpConfig::default()).starts_with("config: traces.http.model: is not set\n  hint: "));
        let message_of_url = message(HttpConfig { base_url: "localhost:1".into(), ..model() });
        assert!(message_of_url.contains("base_url: \"localhost:1\": expected http"), "{message_of_url}");
        if !cfg!(feature = "tls") {
            let https = message(HttpConfig { base_url: "https://x/v1".into(), ..model() });
            assert!(https.contains("this build speaks http only\n  hint: build with"), "{https}");
        }
        let key = message(HttpConfig { api_key_env: Some("GR2_TEST_UNSET_KEY".into()), ..model() });
        assert!(key.contains("the environment variable GR2_TEST_UNSET_KEY is not set"), "{key}");
        assert!(message(HttpConfig { timeout: 0.0, ..model() }).contains("traces.http.timeout: 0: expected seconds"));
        assert!(message(HttpConfig { top_p: 0.0, ..model() }).contains("traces.http.top_p: 0: expected"));
        assert!(message(HttpConfig { parallel: 0, ..model() }).contains("traces.http.parallel: 0"));
    }
}
