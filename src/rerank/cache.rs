//! [`Cached`]: a teacher whose answers are kept on disk, so that none is bought twice.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::Value;

use super::answers::Answers;
use super::{Form, PromptStyle, Response, Teacher, TeacherRequest};
use crate::console::check_interrupt;
use crate::error::Result;
use crate::files::FileLock;

/// A teacher with its answers in [`Answers`]. A kill loses no answer that had arrived; threads that ask the same wait for each
/// other, and so do processes that share a directory. A teacher that reads no prompt is asked directly, its answers costing
/// nothing.
pub struct Cached<T> {
    teacher: T,
    answers: Answers,
    parameters: Value,
    /// Questions that a thread is asking.
    under_way: Mutex<BTreeSet<PathBuf>>,
    ended: Condvar,
}

impl<T: Teacher> Cached<T> {
    /// Keeps the answers of `teacher` among `answers`.
    pub fn new(teacher: T, answers: Answers) -> Self {
        let parameters = teacher.parameters();
        Cached { teacher, answers, parameters, under_way: Mutex::default(), ended: Condvar::new() }
    }

    fn under_way(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.under_way.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Of the requests numbered `open`, those that no other thread and no other process is asking; waits while there are none.
    fn claim<'a>(&'a self, open: &[usize], paths: &'a [PathBuf]) -> Result<Claim<'a, T>> {
        let mut under_way = self.under_way();
        loop {
            let (mut numbers, mut locks) = (vec![], vec![]);
            for &at in open.iter().filter(|&&at| !under_way.contains(&paths[at])) {
                if let Some(lock) = self.answers.claim(&paths[at])? {
                    numbers.push(at);
                    locks.push(lock);
                }
            }
            if !numbers.is_empty() {
                under_way.extend(numbers.iter().map(|&at| paths[at].clone()));
                return Ok(Claim { cached: self, numbers, locks, paths });
            }
            check_interrupt()?;
            let waited = self.ended.wait_timeout(under_way, Duration::from_millis(100));
            under_way = waited.unwrap_or_else(|e| e.into_inner()).0;
        }
    }
}

/// Requests that this thread is asking, until it is dropped.
struct Claim<'a, T: Teacher> {
    cached: &'a Cached<T>,
    numbers: Vec<usize>,
    locks: Vec<FileLock>,
    paths: &'a [PathBuf],
}

impl<T: Teacher> Drop for Claim<'_, T> {
    fn drop(&mut self) {
        self.locks.clear();
        let mut under_way = self.cached.under_way();
        for &at in &self.numbers {
            under_way.remove(&self.paths[at]);
        }
        self.cached.ended.notify_all();
    }
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

    fn mask(&self, text: String) -> String {
        self.teacher.mask(text)
    }

    fn ask(&self, request: &TeacherRequest, attempt: u32) -> Result<Response> {
        let mut responses = self.ask_all(std::slice::from_ref(request), attempt)?;
        Ok(responses.pop().unwrap_or_else(|| Response::Unanswered("no response".into())))
    }

    fn ask_all(&self, requests: &[TeacherRequest], attempt: u32) -> Result<Vec<Response>> {
        if self.style() == PromptStyle::Unread {
            return self.teacher.ask_all(requests, attempt);
        }
        let path = |request: &TeacherRequest| self.answers.path(&self.parameters, &request.messages, attempt);
        let paths: Vec<PathBuf> = requests.iter().map(path).collect();
        let mut responses: Vec<Option<Response>> = vec![None; requests.len()];
        loop {
            let mut open = vec![];
            for (at, response) in responses.iter_mut().enumerate().filter(|(_, response)| response.is_none()) {
                match self.answers.find(&paths[at])? {
                    Some(reply) => *response = Some(Response::Answered(reply)),
                    None => open.push(at),
                }
            }
            if open.is_empty() {
                return Ok(responses.into_iter().flatten().collect());
            }
            let claim = self.claim(&open, &paths)?;
            let mut missing = vec![];
            for &at in &claim.numbers {
                // it may have come since
                match self.answers.find(&paths[at])? {
                    Some(reply) => responses[at] = Some(Response::Answered(reply)),
                    None => missing.push(at),
                }
            }
            let asked: Vec<TeacherRequest> = missing.iter().map(|&at| requests[at].clone()).collect();
            let came = if asked.is_empty() { vec![] } else { self.teacher.ask_all(&asked, attempt)? };
            let mut came = came.into_iter();
            for at in missing {
                let response = came.next().unwrap_or_else(|| Response::Unanswered("no response".into()));
                if let Response::Answered(reply) = &response {
                    self.answers.keep(&paths[at], reply)?;
                }
                responses[at] = Some(response);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use serde_json::json;

    use super::*;
    use crate::rerank::{Question, Reply};
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
            // long enough for another thread to ask the same
            std::thread::sleep(Duration::from_millis(20));
            let text = format!("{words}{asked}");
            let tokens = Some(1);
            Ok(Response::Answered(Reply {
                text,
                truncated: true,
                refused: false,
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
            other => panic!("{other:?}"),
        };
        responses.into_iter().map(text).collect()
    }

    #[test]
    fn nothing_is_asked_twice() {
        let dir = tempfile::tempdir().unwrap();
        let first = Cached::new(echo(PromptStyle::Student, "m"), Answers::open(dir.path(), &[]).unwrap());
        let ask =
            |cached: &Cached<Echo>, words: &[&str], attempt| texts(cached.ask_all(&requests(words), attempt).unwrap());
        let own = |text: &str, cached| (text.to_owned(), cached);
        assert_eq!(ask(&first, &["a", "?"], 0), [own("a0", false), own("silent", false)]);
        // Another process: what was answered comes back in its place, the rest is asked for.
        let second = Cached::new(echo(PromptStyle::Student, "m"), Answers::open(dir.path(), &[]).unwrap());
        assert_eq!(ask(&second, &["b", "a", "?"], 0), [own("b0", false), own("a0", true), own("silent", false)]);
        assert_eq!(ask(&second, &["a"], 1), [own("a2", false)], "another attempt is another answer");
        let other = Cached::new(echo(PromptStyle::Student, "n"), Answers::open(dir.path(), &[]).unwrap());
        assert_eq!(ask(&other, &["a"], 0), [own("a0", false)], "another model is another teacher");
    }

    #[test]
    fn damaged_files_are_asked_for_again_and_unread_prompts_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let cached = Cached::new(echo(PromptStyle::Student, "m"), Answers::open(dir.path(), &[]).unwrap());
        let request = &requests(&["a"])[0];
        cached.ask(request, 0).unwrap();
        std::fs::write(cached.answers.path(&cached.parameters, &request.messages, 0), "{").unwrap();
        assert_eq!(texts(vec![cached.ask(request, 0).unwrap()]), [("a1".to_owned(), false)]);
        let empty = dir.path().join("empty");
        let unread = Cached::new(echo(PromptStyle::Unread, "m"), Answers::open(&empty, &[]).unwrap());
        unread.ask(request, 0).unwrap();
        assert_eq!(std::fs::read_dir(empty).unwrap().count(), 0);
    }

    #[test]
    fn the_same_question_is_asked_once_whoever_asks() {
        let dir = tempfile::tempdir().unwrap();
        let cached = Cached::new(echo(PromptStyle::Student, "m"), Answers::open(dir.path(), &[]).unwrap());
        let twice = texts(cached.ask_all(&requests(&["a", "a"]), 0).unwrap());
        assert_eq!(twice, [("a0".to_owned(), false), ("a0".to_owned(), true)]);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| cached.ask_all(&requests(&["b", "c"]), 0).unwrap());
            }
        });
        assert_eq!(cached.teacher.asked.load(Ordering::SeqCst), 3);
        assert!(cached.under_way().is_empty());
        // as another process that shares the directory
        let other = Cached::new(echo(PromptStyle::Student, "m"), Answers::open(dir.path(), &[]).unwrap());
        std::thread::scope(|scope| {
            for cached in [&cached, &other, &cached, &other] {
                scope.spawn(|| cached.ask_all(&requests(&["d", "e", "f"]), 0).unwrap());
            }
        });
        let asked = [&cached, &other].map(|cached| cached.teacher.asked.load(Ordering::SeqCst));
        assert_eq!(asked.iter().sum::<u32>(), 3 + 3, "{asked:?}");
        let left = crate::files::walk(dir.path()).unwrap();
        assert_eq!(left.len(), 6, "{left:?}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().flatten().filter(|e| e.path().is_file()).count(), 0);
    }
}
