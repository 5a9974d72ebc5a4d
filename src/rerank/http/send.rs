//! One exchange with the endpoint, on a thread of its own, so that an interrupt need not wait for a server that is silent.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant, SystemTime};

use super::retry_after;
use crate::console::{check_interrupt, interrupted};
use crate::error::Result;

/// Longest body of a response that is read, decompressed.
const LONGEST_BODY: u64 = 16 << 20;
/// Redirections that are followed.
const REDIRECTIONS: u32 = 5;
/// Time between looks at whether an interrupt has come.
const LOOK: Duration = Duration::from_millis(50);
/// How long after an interrupt an answer that is paid for is still waited for.
const GRACE: Duration = Duration::from_millis(700);

/// What came back.
pub(super) struct Received {
    pub(super) status: u16,
    /// When the server wants to be asked again.
    pub(super) wait: Option<Duration>,
    /// Where it redirects to.
    pub(super) location: Option<String>,
    pub(super) body: String,
}

/// The way to an endpoint.
#[derive(Clone)]
pub(super) struct Line {
    pub(super) agent: ureq::Agent,
    pub(super) endpoint: String,
    pub(super) key: Option<String>,
}

impl Line {
    /// Sends `body` and waits for what comes back.
    ///
    /// Errors: `Interrupted`; the request is then left behind.
    pub(super) fn post(&self, body: String, idempotency: String) -> Result<std::result::Result<Received, ureq::Error>> {
        let (sender, receiver) = channel();
        let line = self.clone();
        let exchange = move || drop(sender.send(line.exchange(&body, &idempotency)));
        if let Err(error) = std::thread::Builder::new().name("teacher".into()).spawn(exchange) {
            return Ok(Err(ureq::Error::Io(error)));
        }
        let mut end: Option<Instant> = None;
        loop {
            match receiver.recv_timeout(LOOK) {
                Ok(result) => return Ok(result),
                Err(RecvTimeoutError::Disconnected) => {
                    return Ok(Err(ureq::Error::Io(std::io::Error::other("the request broke off"))));
                }
                Err(RecvTimeoutError::Timeout) if interrupted() => {
                    if Instant::now() >= *end.get_or_insert_with(|| Instant::now() + GRACE) {
                        check_interrupt()?;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    fn exchange(&self, body: &str, idempotency: &str) -> std::result::Result<Received, ureq::Error> {
        let mut endpoint = self.endpoint.clone();
        for turn in 0.. {
            let mut post = self
                .agent
                .post(&endpoint)
                .header("Content-Type", "application/json")
                .header("Idempotency-Key", idempotency);
            if let Some(key) = &self.key {
                post = post.header("Authorization", format!("Bearer {key}"));
            }
            let mut response = post.send(body)?;
            let status = response.status().as_u16();
            let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
            let location = header("location").map(str::to_owned);
            let wait = header("retry-after").and_then(|header| retry_after::wait(header, SystemTime::now()));
            let bytes = response.body_mut().with_config().limit(LONGEST_BODY).read_to_vec()?;
            let next = location.as_deref().filter(|_| [307, 308].contains(&status) && turn < REDIRECTIONS);
            match next.and_then(|location| within(&self.endpoint, location)) {
                Some(next) => endpoint = next,
                None => {
                    let body = String::from_utf8_lossy(&bytes).into_owned();
                    return Ok(Received { status, wait, location, body });
                }
            }
        }
        Err(ureq::Error::TooManyRedirects)
    }
}

/// The address that a redirection leads to, if it is of the same server: another one is not given the key and the prompt.
fn within(endpoint: &str, location: &str) -> Option<String> {
    let start = endpoint.find("://")? + 3;
    let origin = &endpoint[..endpoint[start..].find('/').map_or(endpoint.len(), |at| start + at)];
    let path = location.strip_prefix(origin).unwrap_or(location);
    (path.starts_with('/') && !path.starts_with("//")).then(|| format!("{origin}{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirections_stay_with_the_server() {
        let to = |location| within("http://h:1/v1/chat/completions", location);
        assert_eq!(to("/v2/chat").as_deref(), Some("http://h:1/v2/chat"));
        assert_eq!(to("http://h:1/v2").as_deref(), Some("http://h:1/v2"));
        for elsewhere in
            ["http://h:12/v2", "https://h:1/v2", "//other/v2", "http://other/", "http://h:1@other/", "v2", ""]
        {
            assert_eq!(to(elsewhere), None, "{elsewhere}");
        }
    }
}
