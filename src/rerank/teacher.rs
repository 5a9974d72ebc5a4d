//! [`Teacher`]: whoever writes reasoned rankings, asked the same way whether it is a script, a server or a checkpoint.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Form, Question};
use crate::error::{Error, Result};
use crate::text::Message;

/// One question to a teacher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TeacherRequest<'a> {
    /// Number of the slate, from which random draws are keyed.
    pub slate: u64,
    /// What is to be ranked.
    pub question: Question<'a>,
    /// Position of the next purchase among the candidates in targeted sampling; `None` in rejection sampling, where no
    /// teacher gets to see it.
    pub shown: Option<usize>,
    /// The prompt, in the teacher's style; empty for one that reads none.
    pub messages: Vec<Message>,
}

/// What a teacher wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The text, not parsed yet.
    pub text: String,
    /// Whether it was cut off at the limit of tokens.
    pub truncated: bool,
    /// Whether the teacher refused to answer, or a filter took the answer away.
    #[serde(default)]
    pub refused: bool,
    /// Tokens of the prompt, where the teacher counts them.
    pub prompt_tokens: Option<u64>,
    /// Tokens written, where the teacher counts them.
    pub completion_tokens: Option<u64>,
    /// Whether it comes from the cache.
    #[serde(skip)]
    pub cached: bool,
}

/// What a server said or did instead of answering.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Its address.
    pub endpoint: String,
    /// What happened, without secrets.
    pub problem: String,
    /// The remedy, should it always happen.
    pub hint: Option<String>,
}

impl From<Problem> for Error {
    fn from(Problem { endpoint, problem, hint }: Problem) -> Error {
        Error::Teacher { endpoint, problem, hint }
    }
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Response {
    /// A text came back.
    Answered(Reply),
    /// None came in spite of retries: a timeout, an overloaded server. Counted, and asked again in the next attempt.
    Unanswered(String),
    /// What came back, in spite of retries, was no completion. As [`Response::Unanswered`], and a wrong setting if there
    /// never is a completion.
    NoCompletion(Problem),
    /// This prompt is refused and always will be: too long, filtered. Counted, and not asked again; a wrong setting if
    /// there never is a completion.
    Refused(Problem),
}

/// Characters that a message quotes.
const QUOTED: usize = 300;

/// The beginning of a text on one line, as messages quote it.
pub(super) fn quote(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ").replace(char::is_control, "\u{fffd}");
    match line.char_indices().nth(QUOTED) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// The prompt that a teacher wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PromptStyle {
    /// None: it looks at the items themselves.
    Unread,
    /// The student's own.
    Student,
    /// The long one, for language models that were not trained on the student's.
    Instructed,
}

/// A source of reasoned rankings.
pub trait Teacher: Sync {
    /// Name in traces and messages.
    fn name(&self) -> &str;

    /// Everything that an answer depends on beside the prompt and the attempt: model, temperature, …
    fn parameters(&self) -> Value;

    /// The prompt it wants.
    fn style(&self) -> PromptStyle;

    /// What its answers may be wrapped in.
    fn form(&self) -> Form;

    /// Calls that may run at the same time.
    fn parallel(&self) -> usize;

    /// Requests that a call of [`Teacher::ask_all`] answers best together.
    fn batch(&self) -> usize {
        1
    }

    /// A text of its answers without secrets that were sent to it.
    fn mask(&self, text: String) -> String {
        text
    }

    /// Answers one request; another attempt at the same request may give another answer.
    ///
    /// Errors: `Teacher` where no attempt could succeed, such as a wrong key; `Interrupted`.
    fn ask(&self, request: &TeacherRequest, attempt: u32) -> Result<Response>;

    /// Answers several requests, in their order.
    ///
    /// Errors: as [`Teacher::ask`].
    fn ask_all(&self, requests: &[TeacherRequest], attempt: u32) -> Result<Vec<Response>> {
        requests.iter().map(|request| self.ask(request, attempt)).collect()
    }
}

impl<T: Teacher + ?Sized> Teacher for Box<T>
where
    Box<T>: Sync,
{
    fn name(&self) -> &str {
        (**self).name()
    }

    fn parameters(&self) -> Value {
        (**self).parameters()
    }

    fn style(&self) -> PromptStyle {
        (**self).style()
    }

    fn form(&self) -> Form {
        (**self).form()
    }

    fn parallel(&self) -> usize {
        (**self).parallel()
    }

    fn batch(&self) -> usize {
        (**self).batch()
    }

    fn mask(&self, text: String) -> String {
        (**self).mask(text)
    }

    fn ask(&self, request: &TeacherRequest, attempt: u32) -> Result<Response> {
        (**self).ask(request, attempt)
    }

    fn ask_all(&self, requests: &[TeacherRequest], attempt: u32) -> Result<Vec<Response>> {
        (**self).ask_all(requests, attempt)
    }
}
