//! [`Cached`]: a teacher whose answers are kept on disk, so that none is bought twice.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::http::hex;
use super::{Form, PromptStyle, Reply, Response, Teacher, TeacherRequest};
use crate::error::{Error, Result};
use crate::files::write_atomic;

/// A teacher with its answers in a directory, one file each, named by the SHA-256 of everything they depend on: the
/// teacher's parameters, the prompt, the attempt. Where a server moved to does not matter. A kill loses no answer that
/// had arrived; processes may share a directory. A teacher that reads no prompt is asked directly, its answers costing
/// nothing.
pub struct Cached<T> {
    teacher: T,
    directory: PathBuf,
    parameters: Value,
}

impl<T: Teacher> Cached<T> {
    /// Keeps the answers of `teacher` in `directory`, which is made if absent.
    ///
    /// Errors: `Io`.
    pub fn new(teacher: T, directory: &Path) -> Result<Self> {
        std::fs::create_dir_all(directory).map_err(Error::io(directory))?;
        let parameters = teacher.parameters();
        Ok(Cached { teacher, directory: directory.into(), parameters })
    }

    fn path(&self, request: &TeacherRequest, attempt: u32) -> PathBuf {
        let key = json!([self.parameters, request.messages, attempt]).to_string();
        let name = hex(&Sha256::digest(key));
        self.directory.join(&name[..2]).join(format!("{}.json", &name[2..]))
    }
}

/// The answer in a file; `None` if there is none. A file that is no answer is as good as none: it is asked for again.
fn read(path: &Path) -> Result<Option<Reply>> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io(path)(e)),
    };
    match serde_json::from_slice::<Reply>(&text) {
        Ok(reply) => Ok(Some(Reply { cached: true, ..reply })),
        Err(e) => {
            tracing::warn!("{}: damaged, asked for again: {e}", path.display());
            Ok(None)
        }
    }
}

fn keep(path: &Path, reply: &Reply) -> Result<()> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(Error::io(directory))?;
    }
    write_atomic(path, json!(reply).to_string())
}

impl<T: Teacher> Teacher for Cached<T> {
    fn name(&self) -> &str {
        self.teacher.name()
    }

    fn parameters(&self) -> Value {
        self.parameters.clone()
    }

    fn style(&self) -> PromptStyle {
        self.teacher.style()
    }

    fn form(&self) -> Form {
        self.teacher.form()
    }

    fn parallel(&self) -> usize {
        self.teacher.parallel()
    }

    fn batch(&self) -> usize {
        self.teacher.batch()
    }

    fn ask(&self, request: &TeacherRequest, attempt: u32) -> Result<Response> {
        let mut responses = self.ask_all(std::slice::from_ref(request), attempt)?;
        Ok(responses.pop().unwrap_or_else(|| Response::Unanswered("no response".into())))
    }

    fn ask_all(&self, requests: &[TeacherRequest], attempt: u32) -> Result<Vec<Response>> {
        if self.style() == PromptStyle::Unread {
            return self.teacher.ask_all(requests, attempt);
        }
        let paths: Vec<PathBuf> = requests.iter().map(|request| self.path(request, attempt)).collect();
        let mut replies: Vec<Option<Reply>> = paths.iter().map(|path| read(path)).collect::<Result<_>>()?;
        let missing: Vec<usize> = (0..requests.len()).filter(|&at| replies[at].is_none()).collect();
        let asked: Vec<TeacherRequest> = missing.iter().map(|&at| requests[at].clone()).collect();
        let mut problems = vec![String::new(); requests.len()];
        if !asked.is_empty() {
            for (&at, response) in missing.iter().zip(self.teacher.ask_all(&asked, attempt)?) {
                match response {
                    Response::Answered(reply) => {
                        keep(&paths[at], &reply)?;
                        replies[at] = Some(reply);
                    }
                    Response::Unanswered(problem) => problems[at] = problem,
                }
            }
        }
        let response = |(reply, problem): (Option<Reply>, String)| match reply {
            Some(reply) => Response::Answered(reply),
            None => Response::Unanswered(problem),
        };
        Ok(replies.into_iter().zip(problems).map(response).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::rerank::Question;
    use crate::text::Message;

    /// Answers with the words of the prompt and the number of the request; does not answer `?`.
    struct Echo {
        asked: AtomicU32,
        style: PromptStyle,
        model: &'static str,
    }

    impl Teacher for Echo {
        fn name(&self) -> &str {
            self.model
        }

        fn parameters(&self) -> Value {
            json!(self.model)
        }

        fn style(&self) -> PromptStyle {
            self.style
        }

        fn form(&self) -> Form {
            Form::Strict
        }

        fn parallel(&self) -> usize {
            1
        }

        fn ask(&self, request: &TeacherRequest, _: u32) -> Result<Response> {
            let asked = self.asked.fetch_add(1, Ordering::SeqCst);
            let words = request.messages.first().map_or("", |message| message.content.as_str());
            if words == "?" {
                return Ok(Response::Unanswered("silent".into()));
            }
            let text = format!("{words}{asked}");
            let tokens = Some(1);
            Ok(Response::Answered(Reply {
                text,
                truncated: true,
                prompt_tokens: tokens,
                completion_tokens: None,
                cached: false,
            }))
        }
    }

    fn echo(style: PromptStyle, model: &'static str) -> Echo {
        Echo { asked: AtomicU32::new(0), style, model }
    }

    fn requests(words: &[&str]) -> Vec<TeacherRequest<'static>> {
        let question = Question { user: 0, history: &[], candidates: &[] };
        let request =
            |word: &&str| TeacherRequest { slate: 0, question, shown: None, messages: vec![Message::user(*word)] };
        words.iter().map(request).collect()
    }

    fn texts(responses: Vec<Response>) -> Vec<(String, bool)> {
        let text = |response| match response {
            Response::Answered(reply) => {
                assert!(reply.truncated && reply.prompt_tokens == Some(1) && reply.completion_tokens.is_none());
                (reply.text, reply.cached)
            }
            Response::Unanswered(problem) => (problem, false),
        };
        responses.into_iter().map(text).collect()
    }

    #[test]
    fn nothing_is_asked_twice() {
        let dir = tempfile::tempdir().unwrap();
        let first = Cached::new(echo(PromptStyle::Student, "m"), dir.path()).unwrap();
        let ask =
            |cached: &Cached<Echo>, words: &[&str], attempt| texts(cached.ask_all(&requests(words), attempt).unwrap());
        let own = |text: &str, cached| (text.to_owned(), cached);
        assert_eq!(ask(&first, &["a", "?"], 0), [own("a0", false), own("silent", false)]);
        // Another process: what was answered comes back in its place, the rest is asked for.
        let second = Cached::new(echo(PromptStyle::Student, "m"), dir.path()).unwrap();
        assert_eq!(ask(&second, &["b", "a", "?"], 0), [own("b0", false), own("a0", true), own("silent", false)]);
        assert_eq!(ask(&second, &["a"], 1), [own("a2", false)], "another attempt is another answer");
        let other = Cached::new(echo(PromptStyle::Student, "n"), dir.path()).unwrap();
        assert_eq!(ask(&other, &["a"], 0), [own("a0", false)], "another model is another teacher");
    }

    #[test]
    fn damaged_files_are_asked_for_again_and_unread_prompts_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let cached = Cached::new(echo(PromptStyle::Student, "m"), dir.path()).unwrap();
        let request = &requests(&["a"])[0];
        cached.ask(request, 0).unwrap();
        std::fs::write(cached.path(request, 0), "{").unwrap();
        assert_eq!(texts(vec![cached.ask(request, 0).unwrap()]), [("a1".to_owned(), false)]);
        let empty = dir.path().join("empty");
        let unread = Cached::new(echo(PromptStyle::Unread, "m"), &empty).unwrap();
        unread.ask(request, 0).unwrap();
        assert_eq!(std::fs::read_dir(empty).unwrap().count(), 0);
    }
}
