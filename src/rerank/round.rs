//! [`Round`]: one attempt at all slates that are left, several of them at a time.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::scripted::target_first;
use super::standing::Standing;
use super::{
    Answer, ControlTokens, Invalid, Problem, PromptStyle, Prompter, Reply, Response, Sampling, Slate, Teacher,
    TeacherRequest, TraceConfig, parse,
};
use crate::console::{Progress, check_interrupt};
use crate::error::{Error, Result};
use crate::text::Message;

/// What became of one answer.
pub(super) enum Verdict {
    Accepted(Answer),
    WrongFirst,
    Invalid(Invalid),
}

/// What became of one request.
pub(super) enum Outcome {
    Judged(Reply, Verdict),
    Unanswered,
    NoCompletion,
    Refused(Problem),
}

/// Numbers of the slates that hold their target.
pub(super) fn with_target(slates: &[Slate]) -> Vec<usize> {
    (0..slates.len()).filter(|&at| slates[at].rank_pre().is_some()).collect()
}

/// Place of the target where the teacher gets to see it.
fn shown(slate: &Slate, sampling: Sampling) -> Option<usize> {
    match sampling {
        Sampling::Rejection | Sampling::Distillation => None,
        Sampling::Targeted => slate.rank_pre().map(|rank| rank - 1),
    }
}

/// The prompt about a slate.
pub(super) fn messages(
    slate: &Slate,
    prompter: &Prompter,
    style: PromptStyle,
    sampling: Sampling,
) -> Result<Vec<Message>> {
    let question = slate.question(prompter.config.history_items);
    match (style, shown(slate, sampling)) {
        (PromptStyle::Unread, _) => Ok(Vec::new()),
        (PromptStyle::Student, None) => prompter.student(&question),
        (PromptStyle::Instructed, None) => prompter.rejection(&question),
        (PromptStyle::Student | PromptStyle::Instructed, Some(target)) => prompter.targeted(&question, target),
    }
}

/// One attempt at all slates that are left.
pub(super) struct Round<'a> {
    pub(super) slates: &'a [Slate],
    pub(super) prompter: &'a Prompter<'a>,
    pub(super) teacher: &'a dyn Teacher,
    pub(super) control: &'a ControlTokens,
    pub(super) config: &'a TraceConfig,
    pub(super) attempt: u32,
    pub(super) standing: &'a Standing<'a>,
    /// Slates that had no response in an earlier attempt.
    pub(super) silent: &'a BTreeSet<usize>,
}

/// Number of the slate, and what came back.
pub(super) type Came = (usize, Outcome);

impl Round<'_> {
    /// Asks about the slates numbered `left`, several batches at a time; the result is in their order.
    pub(super) fn ask(&self, left: &[usize]) -> Result<Vec<Came>> {
        let batches: Vec<&[usize]> = left.chunks(self.teacher.batch().max(1)).collect();
        let threads = self.teacher.parallel().clamp(1, batches.len());
        let progress = Progress::new(&format!("try {}", self.attempt + 1), left.len() as u64, 0);
        let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        let done: Mutex<Vec<(usize, Vec<Came>)>> = Mutex::new(Vec::with_capacity(batches.len()));
        let failed: Mutex<Option<Error>> = Mutex::new(None);
        let one = || -> ControlFlow<()> {
            let number = next.fetch_add(1, Ordering::SeqCst);
            let Some(batch) = batches.get(number).filter(|_| !stop.load(Ordering::SeqCst)) else {
                return ControlFlow::Break(());
            };
            match self.ask_batch(batch) {
                Ok(came) => {
                    let right = came.iter().filter(|c| matches!(c.1, Outcome::Judged(_, Verdict::Accepted(_)))).count();
                    progress.advance(batch.len() as u64, format!("{right} of the last {} right", batch.len()));
                    lock(&done).push((number, came));
                    ControlFlow::Continue(())
                }
                Err(error) => {
                    stop.store(true, Ordering::SeqCst);
                    lock(&failed).get_or_insert(error);
                    ControlFlow::Break(())
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..threads {
                // with fewer threads it takes longer, that is all
                let _ = std::thread::Builder::new().spawn_scoped(scope, || while one().is_continue() {});
            }
            while one().is_continue() {}
        });
        if let Some(error) = failed.into_inner().unwrap_or_else(|e| e.into_inner()) {
            return Err(error);
        }
        let mut done = done.into_inner().unwrap_or_else(|e| e.into_inner());
        done.sort_by_key(|(number, _)| *number);
        progress.finish(format!("{} slates asked about", left.len()));
        Ok(done.into_iter().flat_map(|(_, came)| came).collect())
    }

    fn ask_batch(&self, batch: &[usize]) -> Result<Vec<Came>> {
        check_interrupt()?;
        let requests: Vec<TeacherRequest> = batch.iter().map(|&at| self.request(at)).collect::<Result<_>>()?;
        let responses = self.teacher.ask_all(&requests, self.attempt)?;
        batch.iter().zip(responses).map(|(&at, response)| Ok((at, self.outcome(at, response)?))).collect()
    }

    fn outcome(&self, at: usize, response: Response) -> Result<Outcome> {
        let before = self.silent.contains(&at);
        Ok(match response {
            Response::Answered(reply) => {
                self.standing.answered();
                let verdict = self.judge(&self.slates[at], &reply);
                Outcome::Judged(reply, verdict)
            }
            Response::Unanswered(problem) => {
                self.standing.silent(&problem, before)?;
                Outcome::Unanswered
            }
            Response::NoCompletion(problem) => {
                self.standing.no_completion(&problem, before)?;
                Outcome::NoCompletion
            }
            Response::Refused(problem) => {
                self.standing.refused(&problem)?;
                Outcome::Refused(problem)
            }
        })
    }

    fn request(&self, at: usize) -> Result<TeacherRequest<'_>> {
        let (slate, sampling) = (&self.slates[at], self.config.sampling);
        Ok(TeacherRequest {
            slate: at as u64,
            question: slate.question(self.prompter.config.history_items),
            shown: shown(slate, sampling),
            messages: messages(slate, self.prompter, self.teacher.style(), sampling)?,
        })
    }

    fn judge(&self, slate: &Slate, reply: &Reply) -> Verdict {
        if reply.refused || reply.truncated {
            return Verdict::Invalid(if reply.refused { Invalid::Refused } else { Invalid::Truncated });
        }
        let target = slate.rank_pre().map(|rank| rank - 1);
        let mut answer = match parse(&reply.text, &slate.candidates, self.prompter.sids, self.teacher.form()) {
            Err(reason) => return Verdict::Invalid(reason),
            Ok(answer) => answer,
        };
        if self.control.find(&answer.explanation, self.prompter.sids).is_some() {
            return Verdict::Invalid(Invalid::ControlToken);
        }
        // an escape may have hidden a secret until now
        answer.explanation = self.teacher.mask(answer.explanation);
        match self.config.sampling {
            Sampling::Distillation => Verdict::Accepted(answer),
            _ if answer.ranking.first().copied() != target => Verdict::WrongFirst,
            Sampling::Targeted => {
                Verdict::Accepted(Answer { ranking: target_first(answer.ranking[0], slate.candidates.len()), ..answer })
            }
            Sampling::Rejection => Verdict::Accepted(answer),
        }
    }
}

/// What a mutex holds; a thread that panicked has left it whole, since it is only pushed to.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}
