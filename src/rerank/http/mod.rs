//! [`HttpTeacher`]: a language model behind any OpenAI-compatible endpoint (vLLM, SGLang, llama.cpp, hosted ones).
//!
//! | file | holds |
//! |---|---|
//! | `config` | [`HttpConfig`]: where it is and what is asked of it |
//! | `request` | the fields of a request, and those that an endpoint does not take |
//! | `send`, `retry_after` | one exchange, which an interrupt can leave behind |
//! | `completion` | the body of a response as an answer |
//! | `failure` | what a response means that is none |

mod completion;
mod config;
mod failure;
mod request;
mod retry_after;
mod send;

use std::time::{Duration, Instant};

use rand::RngExt;
use serde_json::Value;
use sha2::{Digest, Sha256};

pub use config::HttpConfig;
use failure::Failure;
use request::{Dialect, Field};
use send::{Line, Received};

use super::teacher::quote;
use super::{Form, Problem, PromptStyle, Reply, Response, Teacher, TeacherRequest};
use crate::checksum::hex;
use crate::console::check_interrupt;
use crate::error::Result;
use crate::secrets::{Secrets, masked_url};
use crate::tensor::stream;

/// Longest wait that a server may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// A language model behind an endpoint.
pub struct HttpTeacher {
    config: HttpConfig,
    line: Line,
    dialect: Dialect,
    secrets: Secrets,
}

impl HttpTeacher {
    /// Prepares the connection; nothing is sent yet.
    ///
    /// Errors: `Config` for a bad setting or a key variable that is not set; `Io` for a file of a key.
    pub fn new(config: HttpConfig) -> Result<Self> {
        config.validate("traces.http")?;
        let key = config.key()?;
        let secrets = config.secrets(key.as_deref());
        // redirections are followed here, since they must not turn a question into something else
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_global(Some(Duration::from_secs_f64(config.timeout)))
            .max_idle_connections_per_host(config.parallel)
            .build()
            .new_agent();
        let line = Line { agent, endpoint: config.endpoint(), key };
        Ok(HttpTeacher { config, line, dialect: Dialect::default(), secrets })
    }

    /// Sends one request once; `again` tells it from an earlier one whose response was no completion.
    fn send(&self, body: String, sent: &[Field], again: u32) -> Result<std::result::Result<Reply, Failure>> {
        let mut key = Sha256::digest(&body);
        if again > 0 {
            // else a server that knows the request would give the same response again
            key = Sha256::new().chain_update(key).chain_update(again.to_le_bytes()).finalize();
        }
        Ok(match self.line.post(body, hex(&key))? {
            Ok(received) => self.read(&received, sent),
            Err(error) => Err(self.broken(error)),
        })
    }

    fn read(&self, received: &Received, sent: &[Field]) -> std::result::Result<Reply, Failure> {
        let said = |what: String| format!("{what}: {}", quote(&self.secrets.mask_message(&received.body)));
        if !(200..300).contains(&received.status) {
            return Err(failure::of_status(received, said(format!("status {}", received.status)), sent));
        }
        match completion::read(&received.body) {
            Ok(reply) => Ok(Reply { text: self.secrets.mask(&reply.text), ..reply }),
            Err(problem) => Err(failure::of_body(&received.body, said(problem))),
        }
    }

    /// What an exchange that broke off means.
    fn broken(&self, error: ureq::Error) -> Failure {
        use ureq::Error as E;
        match error {
            E::Timeout(_) => Failure::Passing(format!("no answer within {} s", self.config.timeout), None),
            E::BodyExceedsLimit(bytes) => Failure::NoCompletion(format!("a body of more than {bytes} bytes"), None),
            E::Io(_)
            | E::ConnectionFailed
            | E::HostNotFound
            | E::Protocol(_)
            | E::BodyStalled
            | E::LargeResponseHeader(..)
            | E::Decompress(..)
            | E::TooManyRedirects => Failure::Passing(error.to_string(), None),
            other => Failure::Lasting(other.to_string(), None),
        }
    }

    fn problem(&self, problem: String, hint: Option<&str>) -> Problem {
        Problem { endpoint: self.shown(), problem: self.secrets.mask_message(&problem), hint: hint.map(str::to_owned) }
    }

    /// The endpoint as messages name it.
    fn shown(&self) -> String {
        let address = self.line.endpoint.split('?').next().unwrap_or_default();
        self.secrets.mask_message(&masked_url(address))
    }

    /// Seconds to wait before try number `retry`, from 1.
    fn wait(&self, retry: u32, asked_for: Option<Duration>, chance: f64) -> Duration {
        let doubled = self.config.backoff * 2f64.powi(retry.min(30) as i32 - 1);
        let wait = Duration::from_secs_f64(doubled.min(60.0) * (1.0 - chance / 2.0));
        wait.max(asked_for.unwrap_or_default().min(LONGEST_WAIT))
    }
}

/// Sleeps, but not through an interrupt.
fn sleep(duration: Duration) -> Result<()> {
    let end = Instant::now() + duration;
    loop {
        check_interrupt()?;
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
        self.config.parameters()
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

    fn mask(&self, text: String) -> String {
        self.secrets.mask(&text)
    }

    fn ask(&self, request: &TeacherRequest, attempt: u32) -> Result<Response> {
        let mut rng = stream(self.config.seed, "teacher backoff", request.slate, u64::from(attempt));
        let (mut retry, mut again) = (0, 0);
        loop {
            let (body, sent) = self.dialect.body(&self.config, request, attempt);
            let (last, wait) = match self.send(Value::Object(body).to_string(), &sent, again)? {
                Ok(reply) => return Ok(Response::Answered(reply)),
                Err(Failure::Lasting(problem, hint)) => return Err(self.problem(problem, hint).into()),
                Err(Failure::Refused(problem, hint)) => return Ok(Response::Refused(self.problem(problem, hint))),
                Err(Failure::Field(field, problem)) => {
                    if self.dialect.learn(field) {
                        tracing::warn!("{}: does not take {}, left out from now on", self.shown(), field.name());
                        tracing::debug!("{}: {problem}", self.shown());
                    }
                    // at most once for each field, since it is then no longer among those sent
                    continue;
                }
                Err(Failure::NoCompletion(problem, hint)) => {
                    again += 1;
                    (Response::NoCompletion(self.problem(problem, hint)), None)
                }
                Err(Failure::Passing(problem, wait)) => {
                    (Response::Unanswered(self.secrets.mask_message(&problem)), wait)
                }
            };
            tracing::debug!("{}: {last:?}", self.shown());
            retry += 1;
            if retry > self.config.retries {
                return Ok(last);
            }
            sleep(self.wait(retry, wait, rng.random()))?;
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;
    use std::sync::mpsc::{Receiver, channel};

    use serde_json::json;

    use super::*;
    use crate::rerank::Question;
    use crate::text::Message;

    /// A server that gives one response after the other, each `None` being a silence, and then no more; what it was
    /// sent comes out of the receiver. A body that begins with `@` is where the response redirects to.
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
                        let location = body.strip_prefix('@').map(|to| format!("Location: {to}\r\n"));
                        let head = format!(
                            "HTTP/1.1 {status} X\r\n{}Content-Length: {length}\r\nConnection: close\r\n\r\n",
                            location.unwrap_or_default()
                        );
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

    fn request() -> TeacherRequest<'static> {
        let question = Question { user: 0, history: &[], candidates: &[] };
        TeacherRequest { slate: 3, question, shown: None, messages: vec![Message::user("rank")] }
    }

    fn ask(config: HttpConfig) -> Result<Response> {
        HttpTeacher::new(config)?.ask(&request(), 0)
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
    }

    #[test]
    fn a_prompt_that_is_refused_is_not_sent_again() {
        let (config, received) = serve(vec![Some((400, "prompt rejected".into()))]);
        let Response::Refused(problem) = ask(config).unwrap() else { panic!("not refused") };
        assert_eq!((problem.problem.as_str(), received.try_iter().count()), ("status 400: prompt rejected", 1));
        assert!(problem.endpoint.ends_with("/v1/chat/completions") && problem.hint.unwrap().contains("send_seed"));
    }

    #[test]
    fn what_is_no_completion_is_asked_for_again_under_another_key() {
        let (config, received) = serve(vec![Some((200, "<html>".into())), Some((200, "null".into())), says("ok")]);
        let Response::Answered(reply) = ask(config).unwrap() else { panic!("no answer") };
        assert_eq!(reply.text, "ok");
        let sent: Vec<String> = received.try_iter().collect();
        assert!(sent.len() == 3 && sent[0] != sent[1] && sent[1] != sent[2]);
        let (config, _) = serve(vec![Some((200, "<html>".into())), Some((200, "<html>".into()))]);
        let Response::NoCompletion(problem) = ask(HttpConfig { retries: 1, ..config }).unwrap() else { panic!() };
        let expected = "the response is no chat completion: expected value at line 1 column 1: <html>";
        assert_eq!(problem.problem, expected);
        assert!(problem.hint.unwrap().starts_with("base_url must end"));
    }

    #[test]
    fn fields_that_are_not_taken_are_left_out() {
        let refusal = |field: &str| {
            let error = json!({ "message": format!("{field} is not supported"), "param": field });
            Some((400, json!({ "error": error }).to_string()))
        };
        let (config, received) = serve(vec![refusal("max_tokens"), refusal("temperature"), says("ok"), says("ok")]);
        let teacher = HttpTeacher::new(HttpConfig { max_tokens: 77, retries: 0, ..config }).unwrap();
        for attempt in 0..2 {
            assert!(matches!(teacher.ask(&request(), attempt).unwrap(), Response::Answered(_)));
        }
        let sent: Vec<String> = received.try_iter().collect();
        assert_eq!(sent.len(), 4);
        for last in &sent[2..] {
            assert!(last.contains("\"max_completion_tokens\":77") && !last.contains("\"max_tokens\""), "{last}");
            assert!(!last.contains("temperature") && last.contains("\"seed\""), "{last}");
        }
        let (config, _) = serve(vec![refusal("messages")]);
        assert!(matches!(ask(config).unwrap(), Response::Refused(_)));
    }

    #[test]
    fn a_key_that_comes_back_is_masked_everywhere() {
        let key = "sk-SECRET-1234567890abcdef";
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, key).unwrap();
        let ask = |response: (u16, String)| {
            let (mut config, received) = serve(vec![Some(response)]);
            config.extra.insert("api_key".into(), json!("other-SECRET-key"));
            let response = ask(HttpConfig { api_key_file: Some(path.clone()), retries: 0, ..config });
            let sent: String = received.try_iter().collect();
            assert!(sent.contains(&format!("Bearer {key}")) && sent.contains("other-SECRET-key"), "{sent}");
            let said = match response {
                Ok(response) => format!("{response:?}"),
                Err(error) => error.to_string(),
            };
            assert!(!said.contains("SECRET") && said.contains("***"), "{said}");
        };
        let long = " ".repeat(3) + &"x".repeat(280);
        for status in [200, 400, 401, 500] {
            ask((status, format!("Incorrect API key provided: {key}")));
            ask((status, format!("{long}: {key}")));
            ask((status, json!({ "error": "other-SECRET-key" }).to_string()));
        }
        ask(says(&format!("my key is {key}")).unwrap());
    }

    #[test]
    fn redirections_are_followed_only_where_the_question_stays_the_same() {
        let to = |location: &str| Some((308, format!("@{location}")));
        let (config, received) = serve(vec![to("/v2"), says("ok")]);
        assert!(matches!(ask(config).unwrap(), Response::Answered(_)));
        assert!(received.try_iter().last().unwrap().starts_with("POST /v2 "));
        let (config, _) = serve(vec![to("http://elsewhere.invalid/v2")]);
        let Response::NoCompletion(problem) = ask(HttpConfig { retries: 0, ..config }).unwrap() else { panic!() };
        assert_eq!(problem.problem, "status 308: redirected to http://elsewhere.invalid/v2");
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
