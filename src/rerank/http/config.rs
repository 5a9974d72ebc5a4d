//! [`HttpConfig`]: where a language model is, and what is asked of it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::bounds::{MANY, Section, above};
use crate::error::{Error, Result};
use crate::secrets::{MASK, Secrets, has_mask, has_userinfo, looks_like_key, masked, masked_url, secrets_in};

/// Requests under way at most: each has a thread.
const MOST_PARALLEL: u64 = 1024;
/// Bytes of a file that holds a key, at most.
const LONGEST_KEY: u64 = 16 << 10;
/// Where a key belongs.
const KEY_PLACES: &str = "put the key into an environment variable and the variable's name into traces.http.api_key_env, or \
                          into a file and its path into traces.http.api_key_file";

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
    /// Path of a file that holds the key and nothing else, in place of the variable.
    pub api_key_file: Option<PathBuf>,
    /// Sampling temperature. Default 0.7 (gr2 samples teachers at 0.7 to 1).
    pub temperature: f64,
    /// Nucleus of the distribution that is sampled from.
    pub top_p: f64,
    /// Tokens of an answer at most, thinking included; sent as `max_completion_tokens` to endpoints that want that.
    pub max_tokens: u32,
    /// Seed from which each request's own is drawn; false sends none, for endpoints that refuse it.
    pub seed: u64,
    /// Whether a seed is sent.
    pub send_seed: bool,
    /// More fields of the request, as `chat_template_kwargs = { enable_thinking = false }`. Secrets among them are sent, and
    /// written nowhere.
    pub extra: Map<String, Value>,
    /// Seconds until a request is given up.
    pub timeout: f64,
    /// Times a request is sent again after a timeout, a lost connection, 429, 5xx, or a response that is no completion.
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
            api_key_file: None,
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
        self.validate_secrets(section)?;
        let https = self.base_url.starts_with("https://");
        let host = self.base_url.strip_prefix("https://").or(self.base_url.strip_prefix("http://"));
        let Some(host) = host.and_then(|after| after.split(['/', '?']).next()) else {
            let problem = format!("{:?}: expected http://… or https://…", self.base_url);
            return refuse("base_url", problem, None);
        };
        // the port of http://[::1]:80 follows the bracket
        let (name, port) = host.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')).unwrap_or((host, "80"));
        if name.is_empty() || port.parse::<u16>().is_err() || self.base_url.contains(['#', ' ']) {
            let problem = format!("{:?}: expected http://host:port/…", self.base_url);
            return refuse("base_url", problem, None);
        }
        if https && !cfg!(feature = "tls") {
            let hint = "build with `cargo build --release --features tls`, or reach the endpoint through a local proxy";
            return refuse(
                "base_url",
                format!("{}: this build speaks http only", masked_url(&self.base_url)),
                Some(hint),
            );
        }
        if self.model.trim().is_empty() {
            return refuse("model", "is not set".into(), Some("the names are listed at {base_url}/models"));
        }
        let at = Section::new(section);
        at.number("temperature", self.temperature, 0.0..=1000.0)?;
        at.number("top_p", self.top_p, above(0.0, 1.0))?;
        // seconds, a day at most
        at.number("timeout", self.timeout, above(0.0, 86_400.0))?;
        at.number("backoff", self.backoff, above(0.0, 86_400.0))?;
        at.whole("max_tokens", self.max_tokens, 1..=MANY)?;
        at.whole("retries", self.retries, 0..=10_000)?;
        at.whole("parallel", self.parallel, 1..=MOST_PARALLEL)
    }

    /// Checks that secrets are where they belong; `section` as in [`HttpConfig::validate`]. Also holds for settings that are
    /// not used, since they are written into the run all the same.
    ///
    /// Errors: `Config` naming the field, without the secret.
    pub fn validate_secrets(&self, section: &str) -> Result<()> {
        let refuse = |field: &str, problem: String, hint: &str| {
            Err(Error::Config { field: format!("{section}.{field}"), problem, hint: Some(hint.into()) })
        };
        let kept_no_secret = "its file was written by a run, which keeps no secrets; give it anew";
        // without a scheme it is no address yet, but may hold a password
        let bare = !self.base_url.contains("://") && has_userinfo(&self.base_url);
        let shown = if bare { MASK.to_owned() } else { masked_url(&self.base_url) };
        if self.base_url.contains(MASK) {
            return refuse("base_url", format!("{shown}: a secret was taken out of it"), kept_no_secret);
        }
        if shown != self.base_url {
            return refuse("base_url", format!("{shown}: has a user, a password or a key in it"), KEY_PLACES);
        }
        if has_mask(&json!(self.extra)) {
            let hint = format!("{kept_no_secret}, as in --set {section}.extra.NAME=…");
            return refuse("extra", format!("{}: a secret was taken out of it", masked(&json!(self.extra))), &hint);
        }
        if let Some(name) = &self.api_key_env {
            let spelt = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if name.is_empty() || !name.chars().all(spelt) || may_be_key(name) {
                let problem =
                    "expected the name of an environment variable; what it says is not shown, it may be the key";
                return refuse("api_key_env", problem.into(), KEY_PLACES);
            }
            if self.api_key_file.is_some() {
                return refuse("api_key_file", "is set, and so is api_key_env".into(), "remove one of them");
            }
        }
        if let Some(path) = self.api_key_file.as_ref().filter(|path| !path.exists())
            && path.to_str().is_none_or(may_be_key)
        {
            let problem = "expected the path of a file; what it says is not shown, it may be the key";
            return refuse("api_key_file", problem.into(), KEY_PLACES);
        }
        Ok(())
    }

    /// These settings as they may be written down.
    pub fn masked(&self) -> HttpConfig {
        let extra = match masked(&json!(self.extra)) {
            Value::Object(extra) => extra,
            _ => Map::new(),
        };
        HttpConfig { base_url: masked_url(&self.base_url), extra, ..self.clone() }
    }

    /// Everything an answer depends on beside prompt and attempt: not where the server is, how it is asked, or with which secret.
    pub fn parameters(&self) -> Value {
        json!({
            "model": self.model, "temperature": self.temperature, "top_p": self.top_p,
            "max_tokens": self.max_tokens, "extra": masked(&json!(self.extra)), "seed": self.seed,
        })
    }

    /// Where requests go.
    pub(super) fn endpoint(&self) -> String {
        let (path, query) = self.base_url.split_at(self.base_url.find('?').unwrap_or(self.base_url.len()));
        format!("{}/chat/completions{query}", path.trim_end_matches('/'))
    }

    /// The key, if one is to be sent.
    ///
    /// Errors: `Config` for a variable that is not set, or what can be no key; `Io`.
    pub(super) fn key(&self) -> Result<Option<String>> {
        let refuse = |field: &str, problem: String, hint: &str| {
            Err(Error::Config { field: format!("traces.http.{field}"), problem, hint: Some(hint.into()) })
        };
        let (field, key) = match (&self.api_key_env, &self.api_key_file) {
            (Some(name), _) => match std::env::var(name) {
                Ok(key) if !key.trim().is_empty() => ("api_key_env", key),
                _ => {
                    let problem = format!("the environment variable {name} is not set");
                    let hint = "export it before the run, or remove api_key_env for an endpoint without keys";
                    return refuse("api_key_env", problem, hint);
                }
            },
            (None, Some(path)) => {
                use std::io::Read;
                let mut key = String::new();
                if !path.exists() {
                    return Err(Error::not_there("traces.http.api_key_file", path));
                }
                let file = std::fs::File::open(path).map_err(Error::io(path))?;
                file.take(LONGEST_KEY + 1).read_to_string(&mut key).map_err(Error::io(path))?;
                ("api_key_file", key)
            }
            (None, None) => return Ok(None),
        };
        let key = key.trim();
        if key.is_empty() || key.len() as u64 > LONGEST_KEY || !key.chars().all(|c| c.is_ascii_graphic()) {
            let problem = "expected one word of visible ASCII characters, found something else".into();
            return refuse(field, problem, "it must hold the key and nothing else");
        }
        Ok(Some(key.to_owned()))
    }

    /// What must not come out again of what is sent.
    pub(super) fn secrets(&self, key: Option<&str>) -> Secrets {
        let extra = secrets_in(&json!(self.extra));
        Secrets::new(key.map(str::to_owned).into_iter().chain(extra))
    }
}

/// Whether what should be a name or a path looks like the key itself: no variable is called like that, but some keys are.
fn may_be_key(text: &str) -> bool {
    let mixed = text.contains(|c: char| c.is_ascii_lowercase()) && text.contains(char::is_numeric);
    looks_like_key(text) || text.len() >= 24 && mixed && !text.contains(['/', '\\', '.'])
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
        assert!(
            message(HttpConfig { timeout: 0.0, ..model() }).contains("traces.http.timeout: 0: expected more than 0")
        );
        assert!(message(HttpConfig { top_p: 0.0, ..model() }).contains("traces.http.top_p: 0: expected"));
        assert!(message(HttpConfig { parallel: 0, ..model() }).contains("traces.http.parallel: 0"));
        assert!(
            message(HttpConfig { parallel: 5000, ..model() }).contains("traces.http.parallel: 5000: expected 1 to")
        );
        for url in ["http://", "http://:80/v1", "http://host:port/v1", "http://host/v1#x"] {
            let wrong = message(HttpConfig { base_url: url.into(), ..model() });
            assert!(wrong.contains("expected http://host:port/"), "{wrong}");
        }
        assert!(HttpTeacher::new(HttpConfig { base_url: "http://[::1]:80/v1".into(), ..model() }).is_ok());
    }

    #[test]
    fn secrets_belong_elsewhere_and_are_never_shown() {
        let secret = "SECRET-1234567890abcdef";
        let model = || HttpConfig { model: "m".into(), ..HttpConfig::default() };
        let refused = |config: HttpConfig, field: &str| {
            let message = config.validate_secrets("traces.http").unwrap_err().to_string();
            assert!(message.starts_with(&format!("config: traces.http.{field}: ")), "{message}");
            assert!(message.contains("hint: ") && !message.contains("SECRET"), "{message}");
        };
        for url in [
            "http://user:{}@host/v1",
            "http://{}@host/v1",
            "http://user%3A{}%40host/v1",
            "user:{}@host/v1",
            "http://user:1/{}@host/v1",
            "http://host/v1?api-key={}",
            "http://host/sk-{}/v1",
            "http://***@host/v1",
        ] {
            refused(HttpConfig { base_url: url.replace("{}", secret), ..model() }, "base_url");
        }
        refused(HttpConfig { api_key_env: Some(format!("sk-{secret}")), ..model() }, "api_key_env");
        refused(HttpConfig { api_key_env: Some("hfSECRETabcdefgh1234567890xyz".into()), ..model() }, "api_key_env");
        let both = HttpConfig { api_key_env: Some("KEY".into()), api_key_file: Some("key".into()), ..model() };
        refused(both, "api_key_file");

        let mut config = model();
        config.extra.insert("api_key".into(), json!(secret));
        config.validate_secrets("traces.http").unwrap();
        let shown = config.masked();
        assert_eq!(shown.extra["api_key"], json!(MASK));
        refused(shown, "extra");
        let before = config.parameters();
        config.extra.insert("api_key".into(), json!("SECRET-of-next-month"));
        assert_eq!(config.parameters(), before, "a key that is changed buys nothing again");
        for path in ["sk-SECRET-0123456789abcdef", "SECRET0123456789abcdef0123"] {
            refused(HttpConfig { api_key_file: Some(path.into()), ..model() }, "api_key_file");
        }
        HttpConfig { api_key_file: Some("keys/of-2026.txt".into()), ..model() }
            .validate_secrets("traces.http")
            .unwrap();
    }

    #[test]
    fn keys_come_from_files_and_hold_one_word() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let config = HttpConfig { model: "m".into(), api_key_file: Some(path.clone()), ..HttpConfig::default() };
        let message = config.key().unwrap_err().to_string();
        assert!(message.contains("traces.http.api_key_file: ") && message.contains("no such file"), "{message}");
        std::fs::write(&path, " SECRET-1\n").unwrap();
        assert_eq!(config.key().unwrap().as_deref(), Some("SECRET-1"));
        for text in ["", "\n", "SECRET one", "SECRET\u{e9}", &"S".repeat(20_000)] {
            std::fs::write(&path, text).unwrap();
            let message = config.key().unwrap_err().to_string();
            assert!(message.starts_with("config: traces.http.api_key_file: expected one word"), "{message}");
        }
        assert_eq!(HttpConfig::default().key().unwrap(), None);
    }

    #[test]
    fn a_query_follows_the_path() {
        let endpoint = |url: &str| HttpConfig { base_url: url.into(), ..HttpConfig::default() }.endpoint();
        assert_eq!(endpoint("http://h/v1/"), "http://h/v1/chat/completions");
        assert_eq!(endpoint("http://h/d/?api-version=2"), "http://h/d/chat/completions?api-version=2");
    }
}
