//! [`Standing`]: what the responses so far say of a teacher, over all threads and attempts: whether it is there at all, and
//! whether it understands what it is asked.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::{Problem, Teacher};
use crate::error::{Error, Result};

/// Counts what decides whether to go on.
pub(super) struct Standing<'a> {
    teacher: &'a dyn Teacher,
    /// Requests in a row without response after which it is taken to be gone.
    limit: u32,
    in_a_row: AtomicU32,
    answered: AtomicBool,
    /// Responses that were no answer, while there was none.
    strange: AtomicU32,
    first: Mutex<Option<Problem>>,
}

impl<'a> Standing<'a> {
    pub(super) fn new(teacher: &'a dyn Teacher, limit: u32) -> Self {
        Standing {
            teacher,
            limit,
            in_a_row: AtomicU32::new(0),
            answered: AtomicBool::new(false),
            strange: AtomicU32::new(0),
            first: Mutex::new(None),
        }
    }

    /// An answer came, now or in an earlier run.
    pub(super) fn answered(&self) {
        self.answered.store(true, Ordering::SeqCst);
        self.in_a_row.store(0, Ordering::SeqCst);
    }

    /// Nothing came. `before` tells that the same slate had no response in an earlier attempt: that is then no news of the
    /// teacher.
    ///
    /// Errors: `Teacher` after too many in a row.
    pub(super) fn silent(&self, problem: &str, before: bool) -> Result<()> {
        if before && self.answered.load(Ordering::SeqCst) {
            return Ok(());
        }
        let silent = self.in_a_row.fetch_add(1, Ordering::SeqCst) + 1;
        if silent < self.limit {
            return Ok(());
        }
        Err(Error::Teacher {
            endpoint: self.teacher.name().to_owned(),
            problem: format!("{silent} requests in a row without a response, the last: {problem}"),
            hint: Some("see that the teacher is up, then rerun: cached answers are not asked for again".into()),
        })
    }

    /// What came was no completion.
    ///
    /// Errors: `Teacher` if none ever was one, or after too many in a row.
    pub(super) fn no_completion(&self, problem: &Problem, before: bool) -> Result<()> {
        match self.answered.load(Ordering::SeqCst) {
            true => self.silent(&problem.problem, before),
            // as many may be under way as the first
            false => self.strange(problem, self.limit.min(self.teacher.parallel().min(1 << 16) as u32)),
        }
    }

    /// A prompt was refused.
    ///
    /// Errors: `Teacher` if nothing else ever came.
    pub(super) fn refused(&self, problem: &Problem) -> Result<()> {
        match self.answered.load(Ordering::SeqCst) {
            true => {
                self.in_a_row.store(0, Ordering::SeqCst);
                Ok(())
            }
            false => self.strange(problem, self.limit),
        }
    }

    fn strange(&self, problem: &Problem, limit: u32) -> Result<()> {
        let first = self.first.lock().unwrap_or_else(|e| e.into_inner()).get_or_insert_with(|| problem.clone()).clone();
        match self.strange.fetch_add(1, Ordering::SeqCst) + 1 >= limit.max(1) {
            true => Err(first.into()),
            false => Ok(()),
        }
    }

    /// All slates were asked about.
    ///
    /// Errors: `Teacher` if something came, and none of it was an answer.
    pub(super) fn round_ended(&self) -> Result<()> {
        let first = self.first.lock().unwrap_or_else(|e| e.into_inner()).clone();
        match first.filter(|_| !self.answered.load(Ordering::SeqCst)) {
            Some(first) => Err(first.into()),
            None => Ok(()),
        }
    }
}
