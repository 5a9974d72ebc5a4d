//! Asking a teacher about every training slate, and keeping the answers that are right: rejection and targeted sampling. Or
//! those that are valid: distillation.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use super::scripted::target_first;
use super::{
    Answer, Invalid, PromptStyle, Prompter, Reply, Response, Sampling, Slate, Teacher, TeacherRequest, Trace,
    TraceConfig, TraceCounts, parse,
};
use crate::console::{Progress, interrupted};
use crate::error::{Error, Result};

/// What became of one request.
enum Verdict {
    Accepted(Answer),
    WrongFirst,
    Invalid(Invalid),
}

/// Asks `teacher` about every slate with a target until an answer is kept or the attempts are used up.
///
/// All slates are tried once, those left a second time, and so on. Traces are in the order of the slates whatever the
/// order of the responses.
/// Errors: what the teacher, the prompter or a slate that is out of range gives; `Teacher` after `max_unanswered` requests
/// without response in a row; `Interrupted`.
pub fn sample_traces(
    slates: &[Slate],
    prompter: &Prompter,
    teacher: &dyn Teacher,
    config: &TraceConfig,
) -> Result<(Vec<Trace>, TraceCounts)> {
    config.validate("traces")?;
    let mut counts = TraceCounts { slates: slates.len() as u64, ..TraceCounts::default() };
    let mut left: Vec<usize> = (0..slates.len()).filter(|&at| slates[at].rank_pre().is_some()).collect();
    counts.without_target = (slates.len() - left.len()) as u64;
    let asked = left.len();
    let mut accepted: BTreeMap<usize, Trace> = BTreeMap::new();
    let silent = AtomicU32::new(0);
    for attempt in 0..config.max_attempts {
        if left.is_empty() {
            break;
        }
        let round = Round { slates, prompter, teacher, config, attempt, silent: &silent };
        for (at, response) in round.ask(&left)? {
            counts.attempts += 1;
            let Some((reply, verdict)) = response else {
                counts.unanswered += 1;
                continue;
            };
            counts.add_tokens(&reply, config);
            match verdict {
                Verdict::WrongFirst => counts.wrong_first += 1,
                Verdict::Invalid(reason) => *counts.invalid.entry(reason).or_default() += 1,
                Verdict::Accepted(answer) => {
                    let (user, teacher) = (slates[at].user, teacher.name().to_owned());
                    accepted.insert(at, Trace { slate: at as u32, user, answer, attempts: attempt + 1, teacher });
                }
            }
        }
        left.retain(|at| !accepted.contains_key(at));
    }
    counts.accepted = accepted.len() as u64;
    counts.unaccepted = left.len() as u64;
    counts.acceptance_rate = accepted.len() as f64 / asked.max(1) as f64;
    Ok((accepted.into_values().collect(), counts))
}

/// One attempt at all slates that are left.
struct Round<'a> {
    slates: &'a [Slate],
    prompter: &'a Prompter<'a>,
    teacher: &'a dyn Teacher,
    config: &'a TraceConfig,
    attempt: u32,
    /// Requests in a row without response, over all threads and rounds.
    silent: &'a AtomicU32,
}

/// Number of the slate, and what came back, if anything.
type Judged = (usize, Option<(Reply, Verdict)>);

impl Round<'_> {
    /// Asks about the slates numbered `left`, several batches at a time; the result is in their order.
    fn ask(&self, left: &[usize]) -> Result<Vec<Judged>> {
        let batches: Vec<&[usize]> = left.chunks(self.teacher.batch().max(1)).collect();
        let threads = self.teacher.parallel().clamp(1, batches.len());
        let progress = Progress::new(&format!("try {}", self.attempt + 1), left.len() as u64, 0);
        let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        let done: Mutex<Vec<(usize, Vec<Judged>)>> = Mutex::new(Vec::with_capacity(batches.len()));
        let failed: Mutex<Option<Error>> = Mutex::new(None);
        let one = || -> ControlFlow<()> {
            let number = next.fetch_add(1, Ordering::SeqCst);
            let Some(batch) = batches.get(number).filter(|_| !stop.load(Ordering::SeqCst)) else {
                return ControlFlow::Break(());
            };
            match self.ask_batch(batch) {
                Ok(judged) => {
                    let right = judged.iter().filter(|j| matches!(j.1, Some((_, Verdict::Accepted(_))))).count();
                    progress.advance(batch.len() as u64, format!("{right} of the last {} right", batch.len()));
                    lock(&done).push((number, judged));
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
            for _ in 0..threads {
                scope.spawn(|| while one().is_continue() {});
            }
        });
        if let Some(error) = failed.into_inner().unwrap_or_else(|e| e.into_inner()) {
            return Err(error);
        }
        let mut done = done.into_inner().unwrap_or_else(|e| e.into_inner());
        done.sort_by_key(|(number, _)| *number);
        progress.finish(format!("{} slates asked about", left.len()));
        Ok(done.into_iter().flat_map(|(_, judged)| judged).collect())
    }

    fn ask_batch(&self, batch: &[usize]) -> Result<Vec<Judged>> {
        if interrupted() {
            return Err(Error::Interrupted { stage: "traces".into() });
        }
        let requests: Vec<TeacherRequest> = batch.iter().map(|&at| self.request(at)).collect::<Result<_>>()?;
        let responses = self.teacher.ask_all(&requests, self.attempt)?;
        let judged = batch.iter().zip(responses).map(|(&at, response)| match response {
            Response::Answered(reply) => {
                self.silent.store(0, Ordering::SeqCst);
                let verdict = self.judge(&self.slates[at], &reply);
                Ok((at, Some((reply, verdict))))
            }
            Response::Unanswered(problem) => {
                let silent = self.silent.fetch_add(1, Ordering::SeqCst) + 1;
                match silent >= self.config.max_unanswered {
                    true => Err(Error::Teacher {
                        endpoint: self.teacher.name().to_owned(),
                        problem: format!("{silent} requests in a row without a response, the last: {problem}"),
                        hint: Some(
                            "see that the teacher is up, then rerun: cached answers are not asked for again".into(),
                        ),
                    }),
                    false => Ok((at, None)),
                }
            }
        });
        judged.collect()
    }

    fn request(&self, at: usize) -> Result<TeacherRequest<'_>> {
        let slate = &self.slates[at];
        let question = slate.question(self.prompter.config.history_items);
        let shown = match self.config.sampling {
            Sampling::Rejection | Sampling::Distillation => None,
            Sampling::Targeted => slate.rank_pre().map(|rank| rank - 1),
        };
        let messages = match (self.teacher.style(), shown) {
            (PromptStyle::Unread, _) => Vec::new(),
            (PromptStyle::Student, None) => self.prompter.student(&question)?,
            (PromptStyle::Instructed, None) => self.prompter.rejection(&question)?,
            (PromptStyle::Student | PromptStyle::Instructed, Some(target)) => {
                self.prompter.targeted(&question, target)?
            }
        };
        Ok(TeacherRequest { slate: at as u64, question, shown, messages })
    }

    fn judge(&self, slate: &Slate, reply: &Reply) -> Verdict {
        if reply.truncated {
            return Verdict::Invalid(Invalid::Truncated);
        }
        let target = slate.rank_pre().map(|rank| rank - 1);
        match parse(&reply.text, &slate.candidates, self.prompter.sids, self.teacher.form()) {
            Err(reason) => Verdict::Invalid(reason),
            Ok(answer) if self.config.sampling == Sampling::Distillation => Verdict::Accepted(answer),
            Ok(answer) if answer.ranking.first().copied() != target => Verdict::WrongFirst,
            Ok(answer) if self.config.sampling == Sampling::Targeted => {
                Verdict::Accepted(Answer { ranking: target_first(answer.ranking[0], slate.candidates.len()), ..answer })
            }
            Ok(answer) => Verdict::Accepted(answer),
        }
    }
}

/// What a mutex holds; a thread that panicked has left it whole, since it is only pushed to.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rerank::http::tests::{says, serve};
    use crate::rerank::prompt::tests::Corner;
    use crate::rerank::{Cached, HttpConfig, HttpTeacher, PromptConfig, Scripted, ScriptedConfig, render};

    fn slate(user: u32, target: u32) -> Slate {
        Slate { user, history: vec![2, 0], candidates: vec![3, 2, 4], target: Some(target) }
    }

    fn rejection() -> TraceConfig {
        TraceConfig { prompt_price: 2.0, completion_price: 10.0, ..TraceConfig::default() }
    }

    #[test]
    fn the_scripted_teacher_is_right_about_what_it_can_see() {
        let corner = Corner::new();
        let prompter = corner.prompter(PromptConfig::default());
        let scripted = |temperature| {
            let config = ScriptedConfig { temperature, ..ScriptedConfig::default() };
            Scripted::new(config, corner.prompter(PromptConfig::default())).unwrap()
        };
        let slates: Vec<Slate> = (0..200).map(|user| slate(user, [2, 3, 4, 0][user as usize % 4])).collect();
        let (traces, counts) = sample_traces(&slates, &prompter, &scripted(0.0), &rejection()).unwrap();
        // Ink of the customer's brand always comes first; nobody is asked about targets outside the slate.
        assert_eq!((counts.slates, counts.without_target, counts.accepted, counts.unaccepted), (200, 50, 50, 100));
        assert_eq!((counts.attempts, counts.wrong_first), (50 + 100 * 8, 800));
        assert!((counts.acceptance_rate - 1.0 / 3.0).abs() < 1e-12);
        assert!(traces.iter().all(|trace| trace.slate % 4 == 0 && trace.user == trace.slate && trace.attempts == 1));

        let (noisy, counts) = sample_traces(&slates, &prompter, &scripted(1.0), &rejection()).unwrap();
        assert!(counts.accepted > 50 && counts.accepted < 150, "{counts:?}");
        assert!(noisy.windows(2).all(|pair| pair[0].slate < pair[1].slate), "in the order of the slates");
        assert!(noisy.iter().any(|trace| trace.attempts > 1));
        for trace in &noisy {
            let slate = &slates[trace.slate as usize];
            assert_eq!(slate.candidates[trace.answer.ranking[0]], slate.target.unwrap());
        }
        assert_eq!(sample_traces(&slates, &prompter, &scripted(1.0), &rejection()).unwrap().0, noisy);

        let targeted = TraceConfig { sampling: Sampling::Targeted, ..TraceConfig::default() };
        let (traces, counts) = sample_traces(&slates, &prompter, &scripted(1.0), &targeted).unwrap();
        assert_eq!((counts.accepted, counts.attempts), (150, 150));
        let distillation = TraceConfig { sampling: Sampling::Distillation, ..TraceConfig::default() };
        let (all, counts) = sample_traces(&slates, &prompter, &scripted(0.0), &distillation).unwrap();
        assert_eq!((counts.accepted, counts.attempts, counts.wrong_first), (150, 150, 0));
        assert!(all.iter().all(|trace| trace.answer.ranking[0] == 1), "whatever the target is");
        assert_eq!(
            (traces[0].answer.ranking.as_slice(), traces[2].answer.ranking.as_slice()),
            (&[1, 0, 2][..], &[2, 0, 1][..])
        );
    }

    /// What a model may say of the slate of items 3, 2, 4, whose target is 2.
    fn sayings(corner: &Corner) -> [(Option<(u16, String)>, &'static str); 6] {
        let right = Answer { explanation: "ink".into(), ranking: vec![1, 0, 2] };
        let wrong = Answer { ranking: vec![0, 1, 2], ..right.clone() };
        let text = |answer| render(answer, &[3, 2, 4], &corner.sids).unwrap().text;
        let lamp = corner.sids.text(4).unwrap();
        [
            (says("I would buy the ink."), "prose"),
            (says(&text(&right).replace(&lamp, &corner.sids.text(2).unwrap())), "repeated"),
            (says(&text(&right).replace(&lamp, "<|sid_begin|><s_a_2><s_b_2><|sid_end|>")), "invented"),
            (says(&text(&right).replace(&lamp, &corner.sids.text(0).unwrap())), "of another slate"),
            (says(&text(&wrong)), "wrong"),
            (says(&format!("<think>hm</think>```json\n{}\n```", text(&right))), "right"),
        ]
    }

    #[test]
    fn a_model_is_asked_until_it_is_right_and_never_twice_the_same() {
        let corner = Corner::new();
        let prompter = corner.prompter(PromptConfig::default());
        let slates = [slate(5, 2)];
        let dir = tempfile::tempdir().unwrap();
        let run = |responses| {
            let (config, received) = serve(responses);
            let config = HttpConfig { parallel: 1, ..config };
            let teacher = Cached::new(HttpTeacher::new(config).unwrap(), dir.path()).unwrap();
            let (traces, counts) = sample_traces(&slates, &prompter, &teacher, &rejection()).unwrap();
            (traces, counts, received.try_iter().count())
        };
        let (traces, counts, requests) = run(sayings(&corner).map(|saying| saying.0).into());
        assert_eq!((requests, counts.attempts, counts.accepted, counts.cached), (6, 6, 1, 0));
        let expected = Answer { explanation: "ink".into(), ranking: vec![1, 0, 2] };
        assert_eq!(traces, [Trace { slate: 0, user: 5, answer: expected, attempts: 6, teacher: "m".into() }]);
        let reasons = [Invalid::NotJson, Invalid::UnknownItem, Invalid::NotACandidate, Invalid::Repeated];
        assert_eq!(counts.invalid, reasons.map(|reason| (reason, 1)).into());
        assert_eq!((counts.wrong_first, counts.prompt_tokens, counts.completion_tokens), (1, 600, 120));
        assert!(
            (counts.cost - (600.0 * 2.0 + 120.0 * 10.0) / 1e6).abs() < 1e-12 && counts.cost_this_run == counts.cost
        );

        // The server is gone; everything is in the cache, at no price.
        let (again, recount, requests) = run(vec![]);
        assert_eq!((again, requests), (traces, 0));
        assert_eq!((recount.cached, recount.cost_this_run), (6, 0.0));
        assert_eq!(TraceCounts { cached: 0, cost_this_run: counts.cost, ..recount }, counts);
    }

    #[test]
    fn silence_is_counted_and_too_much_of_it_stops_the_run() {
        let corner = Corner::new();
        let prompter = corner.prompter(PromptConfig::default());
        let right = sayings(&corner)[5].0.clone();
        let teacher = |responses| {
            let (config, _) = serve(responses);
            HttpTeacher::new(HttpConfig { timeout: 0.2, retries: 0, parallel: 1, ..config }).unwrap()
        };
        let config = TraceConfig { max_unanswered: 2, ..TraceConfig::default() };
        let (traces, counts) = sample_traces(&[slate(5, 2)], &prompter, &teacher(vec![None, right]), &config).unwrap();
        assert_eq!((traces.len(), traces[0].attempts, counts.unanswered), (1, 2, 1));
        let stopped =
            sample_traces(&[slate(5, 2)], &prompter, &teacher(vec![None, None]), &config).unwrap_err().to_string();
        let expected =
            "teacher: m: 2 requests in a row without a response, the last: no answer within 0.2 s\n  hint: see";
        assert!(stopped.starts_with(expected), "{stopped}");
        let refused = teacher(vec![Some((403, "no".into()))]);
        assert!(
            sample_traces(&[slate(5, 2)], &prompter, &refused, &config).unwrap_err().to_string().contains("status 403")
        );
    }
}
