//! [`HttpTeacher`]: a language model behind any OpenAI-compatible endpoint (vLLM, SGLang, llama.cpp, hosted ones).

use std::time::{Duration, Instant};

use rand::RngExt;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{Form, HttpConfig, PromptStyle, Reply, Response, Teacher, TeacherRequest};
use crate::console::interrupted;
use crate::error::{Error, Result};
use crate::tensor::stream;

/// Longest body of a response that is read.
const LONGEST_BODY: u64 = 16 << 20;
/// Characters of a refusal that a message quotes.
const QUOTED: usize = 300;

/// A language model behind an endpoint.
pub struct HttpTeacher {
    config: HttpConfig,
    endpoint: String,
    key: Option<String>,
    agent: ureq::Agent,
}

/// Why a request failed.
enum Failure {
    /// It may succeed later, not before the given time has passed.
    Passing(String, Option<Duration>),
    /// It cannot succeed.
    Lasting(Error),
}

#[derive(Deserialize)]
struct Completion {
    choices: Vec<Choice>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Choice {
    message: Content,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Content {
    content: Option<String>,
}

#[derive(Deserialize)]
struct Usage {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
}

impl HttpTeacher {
    /// Prepares the connection; nothing is sent yet.
    ///
    /// Errors: `Config` for a bad setting or a key variable that is not set.
    pub fn new(config: HttpConfig) -> Result<Self> {
        config.validate("traces.http")?;
        let read_key = |name: &String| {
            std::env::var(name).ok().filter(|key| !key.trim().is_empty()).ok_or_else(|| Error::Config {
                field: "traces.http.api_key_env".into(),
                problem: format!("the environment variable {name} is not set"),
                hint: Some("export it before the run, or remove api_key_env for an endpoint without keys".into()),
            })
        };
        let key = config.api_key_env.as_ref().map(read_key).transpose()?;
        let endpoint = format!("{}/chat/completions", config.base_url.trim_end_matches('/'));
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs_f64(config.timeout)))
            .max_idle_connections_per_host(config.parallel)
            .build()
            .new_agent();
        Ok(HttpTeacher { config, endpoint, key, agent })
    }

    fn body(&self, request: &TeacherRequest, attempt: u32) -> Map<String, Value> {
        let mut body = Map::new();
        body.insert("model".into(), json!(self.config.model));
        body.insert("messages".into(), json!(request.messages));
        body.insert("temperature".into(), json!(self.config.temperature));
        body.insert("top_p".into(), json!(self.config.top_p));
        body.insert("max_tokens".into(), json!(self.config.max_tokens));
        body.insert("n".into(), json!(1));
        if self.config.send_seed {
            let mut rng = stream(self.config.seed, "teacher request", request.slate, u64::from(attempt));
            body.insert("seed".into(), json!(rng.random::<u32>() >> 1));
        }
        body.extend(self.config.extra.clone());
        body
    }

    /// Sends one request once.
    fn send(&self, body: &str) -> std::result::Result<Reply, Failure> {
        let mut post = self
            .agent
            .post(&self.endpoint)
            .header("Content-Type", "application/json")
            .header("Idempotency-Key", hex(&Sha256::digest(body)));
        if let Some(key) = &self.key {
            post = post.header("Authorization", format!("Bearer {key}"));
        }
        let mut response = post.send(body).map_err(|e| self.failure(e))?;
        let status = response.status().as_u16();
        let wait = response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
        let text = response.body_mut().with_config().limit(LONGEST_BODY).read_to_string();
        let text = text.map_err(|e| self.failure(e))?;
        let quoted = quote(&text);
        match status {
            200 => self.read(&text),
            408 | 409 | 425 | 429 | 500.. => {
                Err(Failure::Passing(format!("status {status}: {quoted}"), wait.map(Duration::from_secs)))
            }
            _ => Err(Failure::Lasting(self.error(format!("status {status}: {quoted}"), hint_for(status)))),
        }
    }

    fn read(&self, text: &str) -> std::result::Result<Reply, Failure> {
        let lasting = |problem: String| {
            let hint = "base_url must end where /chat/completions follows, usually in /v1";
            Failure::Lasting(self.error(problem, Some(hint)))
        };
        let completion: Completion = serde_json::from_str(text)
            .map_err(|e| lasting(format!("the response is no chat completion: {e}: {}", quote(text))))?;
        let Some(choice) = completion.choices.into_iter().next() else {
            return Err(lasting(format!("the response has no choices: {}", quote(text))));
        };
        let usage = completion.usage.as_ref();
        Ok(Reply {
            text: choice.message.content.unwrap_or_default(),
            truncated: choice.finish_reason.as_deref() == Some("length"),
            prompt_tokens: usage.and_then(|usage| usage.prompt_tokens),
            completion_tokens: usage.and_then(|usage| usage.completion_tokens),
            cached: false,
        })
    }

    fn failure(&self, error: ureq::Error) -> Failure {
        use ureq::Error as E;
        match error {
            E::Timeout(_) => Failure::Passing(format!("no answer within {} s", self.config.timeout), None),
            E::Io(_) | E::ConnectionFailed | E::HostNotFound | E::Protocol(_) | E::BodyStalled => {
                Failure::Passing(error.to_string(), None)
            }
            other => Failure::Lasting(self.error(other.to_string(), None)),
        }
    }

    fn error(&self, problem: String, hint: Option<&str>) -> Error {
        Error::Teacher { endpoint: self.endpoint.clone(), problem, hint: hint.map(str::to_owned) }
    }

    /// Seconds to wait before try number `retry`, from 1.
    fn wait(&self, retry: u32, asked_for: Option<Duration>, chance: f64) -> Duration {
        let doubled = self.config.backoff * 2f64.powi(retry.min(30) as i32 - 1);
        let wait = Duration::from_secs_f64(doubled.min(60.0) * (1.0 - chance / 2.0));
        wait.max(asked_for.unwrap_or_default().min(Duration::from_secs(300)))
    }
}

fn hint_for(status: u16) -> Option<&'static str> {
    match status {
        400 | 422 => Some("the endpoint refuses a field of the request; see send_seed, max_tokens and extra"),
        401 | 403 => Some("set api_key_env to the name of the variable that holds the key"),
        404 => Some("check base_url, usually ending in /v1, and that the model is served there"),
        _ => None,
    }
}

fn quote(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(QUOTED) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Sleeps, but not through an interrupt.
fn sleep(duration: Duration) -> Result<()> {
    let end = Instant::now() + duration;
    loop {
        if interrupted() {
            return Err(Error::Interrupted { stage: "traces".into() });
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(Duration::from_millis(100)));
    }
}

impl Teacher for HttpTeacher {
    fn name(&self) -> &str {
        &self.config.model
    }

    fn parameters(&self) -> Value {
        let config = &self.config;
        json!({
            "model": config.model, "temperature": config.temperature, "top_p": config.top_p,
            "max_tokens": config.max_tokens, "extra": config.extra, "seed": config.seed,
        })
    }

    fn style(&self) -> PromptStyle {
        PromptStyle::Instructed
    }

    fn form(&self) -> Form {
        Form::Lenient
    }

    fn parallel(&self) -> usize {
        self.config.parallel
    }

    fn ask(&self, request: &TeacherRequest, attempt: u32) -> Result<Response> {
        let body = Value::Object(self.body(request, attempt)).to_string();
        let mut rng = stream(self.config.seed, "teacher backoff", request.slate, u64::from(attempt));
        for retry in 1.. {
            let (problem, wait) = match self.send(&body) {
                Ok(reply) => return Ok(Response::Answered(reply)),
                Err(Failure::Lasting(error)) => return Err(error),
                Err(Failure::Passing(problem, wait)) => (problem, wait),
            };
            tracing::debug!("{}: {problem}", self.endpoint);
            if retry > self.config.retries {
                return Ok(Response::Unanswered(problem));
            }
            sleep(self.wait(retry, wait, rng.random()))?;
        }
        Ok(Response::Unanswered("never asked".into()))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;
    use std::sync::mpsc::{Receiver, channel};

    use super::*;
    use crate::rerank::Question;
    use crate::text::Message;

    /// A server that gives one response after the other, each `None` being a silence, and then no more; what it was
    /// sent comes out of the receiver.
    pub(in crate::rerank) fn serve(responses: Vec<Option<(u16, String)>>) -> (HttpConfig, Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base_url = format!("http://{}/v1/", listener.local_addr().unwrap());
        let (sender, received) = channel();
        std::thread::spawn(move || {
            let mut silent = Vec::new();
            for response in responses {
                let Ok((mut stream, _)) = listener.accept() else { return };
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let (mut head, mut length) = (String::new(), 0);
                loop {
                    let mut line = String::new();
                    if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
                        break;
                    }
                    if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                    head += &line;
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                let _ = sender.send(format!("{head}\n{}", String::from_utf8(body).unwrap()));
                match response {
                    Some((status, body)) => {
                        let length = body.len();
                        let head =
                            format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
                        let _ = stream.write_all((head + &body).as_bytes());
                    }
                    None => silent.push(stream),
                }
            }
            // Closed, they would be lost connections.
            std::thread::sleep(Duration::from_secs(if silent.is_empty() { 0 } else { 5 }));
        });
        let config = HttpConfig { base_url, model: "m".into(), timeout: 5.0, backoff: 0.01, ..HttpConfig::default() };
        (config, received)
    }

    /// The body of a response that says `text`.
    pub(in crate::rerank) fn says(text: &str) -> Option<(u16, String)> {
        let choice = json!({ "message": { "role": "assistant", "content": text }, "finish_reason": "stop" });
        let usage = json!({ "prompt_tokens": 100, "completion_tokens": 20 });
        Some((200, json!({ "choices": [choice], "usage": usage }).to_string()))
    }

    fn ask(config: HttpConfig) -> Result<Response> {
        let question = Question { user: 0, history: &[], candidates: &[] };
        let messages = vec![Message::user("rank")];
        HttpTeacher::new(config)?.ask(&TeacherRequest { slate: 3, question, shown: None, messages }, 0)
    }

    #[test]
    fn overload_is_waited_out_and_the_request_is_complete() {
        let (mut config, received) =
            serve(vec![Some((429, "slow down".into())), Some((503, String::new())), says("ok")]);
        config.extra.insert("chat_template_kwargs".into(), json!({ "enable_thinking": false }));
        let Response::Answered(reply) = ask(config).unwrap() else { panic!("no answer") };
        assert_eq!((reply.text.as_str(), reply.truncated, reply.cached), ("ok", false, false));
        assert_eq!((reply.prompt_tokens, reply.completion_tokens), (Some(100), Some(20)));
        let sent: Vec<String> = received.try_iter().collect();
        assert_eq!(sent.len(), 3);
        assert_eq!(sent[0], sent[2], "the same request again, under the same key");
        let (head, body) = sent[0].split_once("\n\n").unwrap_or(sent[0].split_once("\r\n\n").unwrap());
        assert!(head.starts_with("POST /v1/chat/completions "), "{head}");
        assert!(head.to_lowercase().contains("idempotency-key: ") && !head.to_lowercase().contains("authorization"));
        let body: Value = serde_json::from_str(body.trim()).unwrap();
        assert_eq!(body["messages"], json!([{ "role": "user", "content": "rank" }]));
        assert_eq!((&body["model"], &body["n"], &body["max_tokens"]), (&json!("m"), &json!(1), &json!(2048)));
        assert_eq!(body["chat_template_kwargs"]["enable_thinking"], json!(false));
        assert!(body["seed"].is_u64());
    }

    #[test]
    fn silence_and_lost_connections_leave_a_request_unanswered() {
        let (config, received) = serve(vec![None, None]);
        let response = ask(HttpConfig { timeout: 0.2, retries: 1, ..config }).unwrap();
        assert_eq!(response, Response::Unanswered("no answer within 0.2 s".into()));
        assert_eq!(received.try_iter().count(), 2);
        let (config, _) = serve(vec![]);
        let Response::Unanswered(problem) = ask(HttpConfig { retries: 1, ..config }).unwrap() else { panic!() };
        assert!(!problem.is_empty());
    }

    #[test]
    fn lasting_refusals_are_errors_with_a_remedy() {
        let error = |status: u16, body: &str| {
            let (config, received) = serve(vec![Some((status, body.into()))]);
            let error = ask(config).unwrap_err().to_string();
            assert_eq!(received.try_iter().count(), 1, "no second try");
            error.split_once("/v1/chat/completions: ").unwrap().1.to_owned()
        };
        let message = error(401, "{\"error\": \"bad\\nkey\"}");
        assert!(message.starts_with("status 401: {\"error\": \"bad\\nkey\"}\n  hint: set api_key_env"), "{message}");
        assert!(error(404, "").starts_with("status 404: \n  hint: check base_url"));
        assert!(error(200, "<html>").contains("is no chat completion: expected value at line 1 column 1: <html>"));
        assert!(error(200, "{\"choices\": []}").starts_with("the response has no choices"));
    }

    #[test]
    fn an_empty_or_cut_answer_is_a_reply() {
        let body = r#"{"choices": [{"message": {"content": null}, "finish_reason": "length"}]}"#;
        let (config, _) = serve(vec![Some((200, body.into()))]);
        let Response::Answered(reply) = ask(config).unwrap() else { panic!("no answer") };
        assert_eq!((reply.text.as_str(), reply.truncated, reply.prompt_tokens), ("", true, None));
    }

    #[test]
    fn waits_double_up_to_a_minute_unless_told_otherwise() {
        let teacher = HttpTeacher::new(HttpConfig { model: "m".into(), ..HttpConfig::default() }).unwrap();
        let seconds = |retry, chance| teacher.wait(retry, None, chance).as_secs_f64();
        assert_eq!([seconds(1, 0.0), seconds(3, 0.0), seconds(3, 1.0), seconds(99, 0.0)], [1.0, 4.0, 2.0, 60.0]);
        assert_eq!(teacher.wait(1, Some(Duration::from_secs(7)), 0.5).as_secs_f64(), 7.0);
    }
}
