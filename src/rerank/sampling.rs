//! Asking a teacher about every training slate, and keeping the answers that are right: rejection and targeted sampling. Or
//! those that are valid: distillation.

use std::collections::{BTreeMap, BTreeSet};

use super::round::{Outcome, Round, Verdict, with_target};
use super::standing::Standing;
use super::teacher::quote;
use super::{ControlTokens, Problem, Prompter, Slate, Teacher, Trace, TraceConfig, TraceCounts};
use crate::error::Result;

/// What [`sample_traces`] came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampled {
    /// The answers that are kept.
    pub traces: Vec<Trace>,
    /// What became of all slates and requests.
    pub counts: TraceCounts,
    /// The first answer that was not kept, and why; else the first refusal.
    pub sample: Option<String>,
}

/// Asks `teacher` about every slate with a target until an answer is kept or the attempts are used up.
///
/// All slates are tried once, those left a second time, and so on; a slate whose prompt is refused is left out. Traces are in
/// the order of the slates whatever the order of the responses. Reasons that hold one of `control` are invalid.
/// Errors: what the teacher, the prompter or a slate that is out of range gives; `Teacher` after `max_unanswered` requests
/// without response in a row, or if responses came and none was an answer; `Interrupted`.
pub fn sample_traces(
    slates: &[Slate],
    prompter: &Prompter,
    teacher: &dyn Teacher,
    control: &ControlTokens,
    config: &TraceConfig,
) -> Result<Sampled> {
    config.validate("traces")?;
    let mut counts = TraceCounts { slates: slates.len() as u64, ..TraceCounts::default() };
    let mut left = with_target(slates);
    counts.without_target = (slates.len() - left.len()) as u64;
    let asked = left.len();
    let mut accepted: BTreeMap<usize, Trace> = BTreeMap::new();
    let mut refused: BTreeMap<usize, Problem> = BTreeMap::new();
    let mut silent = BTreeSet::new();
    let mut sample = None;
    let standing = Standing::new(teacher, config.max_unanswered);
    for attempt in 0..config.max_attempts {
        if left.is_empty() {
            break;
        }
        let round = Round { slates, prompter, teacher, control, config, attempt, standing: &standing, silent: &silent };
        let mut now_silent = vec![];
        for (at, outcome) in round.ask(&left)? {
            counts.attempts += 1;
            let (reply, verdict) = match outcome {
                Outcome::Judged(reply, verdict) => (reply, verdict),
                Outcome::Refused(problem) => {
                    refused.insert(at, problem);
                    continue;
                }
                Outcome::Unanswered | Outcome::NoCompletion => {
                    let kind = if matches!(outcome, Outcome::Unanswered) {
                        &mut counts.unanswered
                    } else {
                        &mut counts.no_completion
                    };
                    *kind += 1;
                    now_silent.push(at);
                    continue;
                }
            };
            counts.add_tokens(&reply, config);
            let reason = match verdict {
                Verdict::Accepted(answer) => {
                    let (user, teacher) = (slates[at].user, teacher.name().to_owned());
                    accepted.insert(at, Trace { slate: at as u32, user, answer, attempts: attempt + 1, teacher });
                    continue;
                }
                Verdict::WrongFirst => {
                    counts.wrong_first += 1;
                    "does not put the next purchase first".to_owned()
                }
                Verdict::Invalid(reason) => {
                    *counts.invalid.entry(reason).or_default() += 1;
                    reason.to_string()
                }
            };
            sample.get_or_insert_with(|| format!("{reason}: {}", quote(&reply.text)));
        }
        standing.round_ended()?;
        silent.extend(now_silent);
        left.retain(|at| !accepted.contains_key(at) && !refused.contains_key(at));
    }
    counts.refused = refused.len() as u64;
    counts.accepted = accepted.len() as u64;
    counts.unaccepted = (asked - accepted.len()) as u64;
    counts.acceptance_rate = accepted.len() as f64 / asked.max(1) as f64;
    let sample = sample.or_else(|| refused.into_values().next().map(|problem| problem.problem));
    Ok(Sampled { traces: accepted.into_values().collect(), counts, sample })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rerank::http::tests::{says, serve};
    use crate::rerank::prompt::tests::Corner;
    use crate::rerank::{Answer, Answers, Invalid, PromptStyle, Sampling, Unpaid, unpaid};
    use crate::rerank::{Cached, HttpConfig, HttpTeacher, PromptConfig, Scripted, ScriptedConfig, render};

    fn slate(user: u32, target: u32) -> Slate {
        Slate { user, history: vec![2, 0], candidates: vec![3, 2, 4], target: Some(target) }
    }

    fn sample(
        slates: &[Slate],
        prompter: &Prompter,
        teacher: &dyn Teacher,
        config: &TraceConfig,
    ) -> Result<(Vec<Trace>, TraceCounts)> {
        let found = sample_traces(slates, prompter, teacher, &ControlTokens::default(), config)?;
        Ok((found.traces, found.counts))
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
        let (traces, counts) = sample(&slates, &prompter, &scripted(0.0), &rejection()).unwrap();
        // Ink of the customer's brand always comes first; nobody is asked about targets outside the slate.
        assert_eq!((counts.slates, counts.without_target, counts.accepted, counts.unaccepted), (200, 50, 50, 100));
        assert_eq!((counts.attempts, counts.wrong_first), (50 + 100 * 8, 800));
        assert!((counts.acceptance_rate - 1.0 / 3.0).abs() < 1e-12);
        assert!(traces.iter().all(|trace| trace.slate % 4 == 0 && trace.user == trace.slate && trace.attempts == 1));

        let (noisy, counts) = sample(&slates, &prompter, &scripted(1.0), &rejection()).unwrap();
        assert!(counts.accepted > 50 && counts.accepted < 150, "{counts:?}");
        assert!(noisy.windows(2).all(|pair| pair[0].slate < pair[1].slate), "in the order of the slates");
        assert!(noisy.iter().any(|trace| trace.attempts > 1));
        for trace in &noisy {
            let slate = &slates[trace.slate as usize];
            assert_eq!(slate.candidates[trace.answer.ranking[0]], slate.target.unwrap());
        }
        assert_eq!(sample(&slates, &prompter, &scripted(1.0), &rejection()).unwrap().0, noisy);

        let targeted = TraceConfig { sampling: Sampling::Targeted, ..TraceConfig::default() };
        let (traces, counts) = sample(&slates, &prompter, &scripted(1.0), &targeted).unwrap();
        assert_eq!((counts.accepted, counts.attempts), (150, 150));
        let distillation = TraceConfig { sampling: Sampling::Distillation, ..TraceConfig::default() };
        let (all, counts) = sample(&slates, &prompter, &scripted(0.0), &distillation).unwrap();
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
            let teacher = Cached::new(HttpTeacher::new(config).unwrap(), Answers::open(dir.path(), &[]).unwrap());
            let (traces, counts) = sample(&slates, &prompter, &teacher, &rejection()).unwrap();
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
        let (traces, counts) = sample(&[slate(5, 2)], &prompter, &teacher(vec![None, right]), &config).unwrap();
        assert_eq!((traces.len(), traces[0].attempts, counts.unanswered), (1, 2, 1));
        let stopped = sample(&[slate(5, 2)], &prompter, &teacher(vec![None, None]), &config).unwrap_err().to_string();
        let expected =
            "teacher: m: 2 requests in a row without a response, the last: no answer within 0.2 s\n  hint: see";
        assert!(stopped.starts_with(expected), "{stopped}");
        let refused = teacher(vec![Some((403, "no".into()))]);
        assert!(sample(&[slate(5, 2)], &prompter, &refused, &config).unwrap_err().to_string().contains("status 403"));
    }

    /// Slates of four customers, whose targets all stand where the right answer has them.
    fn slates() -> Vec<Slate> {
        (0..4).map(|user| Slate { history: vec![2; 1 + user as usize], ..slate(user, 2) }).collect()
    }

    fn plain(responses: Vec<Option<(u16, String)>>) -> HttpTeacher {
        let (config, _) = serve(responses);
        HttpTeacher::new(HttpConfig { retries: 0, parallel: 1, ..config }).unwrap()
    }

    #[test]
    fn refused_prompts_are_left_out_and_everything_else_goes_on() {
        let corner = Corner::new();
        let prompter = corner.prompter(PromptConfig::default());
        let right = || sayings(&corner)[5].0.clone();
        let filter = || Some((400, "{\"error\": {\"code\": \"content_filter\"}}".into()));
        let one = TraceConfig { max_attempts: 3, ..TraceConfig::default() };
        let teacher = plain(vec![filter(), right(), Some((413, "<html>".into())), right()]);
        let found = sample_traces(&slates(), &prompter, &teacher, &ControlTokens::default(), &one).unwrap();
        assert_eq!((found.counts.accepted, found.counts.refused, found.counts.unaccepted), (2, 2, 2));
        assert_eq!(found.counts.attempts, 4, "what is refused is not asked again");
        assert!(found.sample.unwrap().starts_with("status 400: {"), "the first refusal");

        // nothing but refusals is a wrong setting
        let error =
            sample(&slates(), &prompter, &plain(vec![filter(), filter(), filter(), filter()]), &one).unwrap_err();
        assert!(error.to_string().contains("/v1/chat/completions: status 400: {"), "{error}");
        let strict = TraceConfig { max_unanswered: 2, ..one };
        let error = sample(&slates(), &prompter, &plain(vec![filter(), filter()]), &strict).unwrap_err();
        assert!(error.to_string().contains("hint: the endpoint refuses a field"), "{error}");
    }

    #[test]
    fn only_a_first_answer_that_is_never_a_completion_is_a_wrong_setting() {
        let corner = Corner::new();
        let prompter = corner.prompter(PromptConfig::default());
        let right = || sayings(&corner)[5].0.clone();
        let html = || Some((200, "<html>".into()));
        let config = TraceConfig { max_attempts: 2, max_unanswered: 2, ..TraceConfig::default() };
        let error = sample(&slates(), &prompter, &plain(vec![html()]), &config).unwrap_err().to_string();
        assert!(error.contains("is no chat completion") && error.contains("hint: base_url must end"), "{error}");
        // one slate never gets an answer: the others do, and the stage ends
        let responses = vec![right(), html(), right(), right(), html()];
        let (traces, counts) = sample(&slates(), &prompter, &plain(responses), &config).unwrap();
        assert_eq!((traces.len(), counts.no_completion, counts.unanswered), (3, 2, 0));
        let strict = TraceConfig { max_unanswered: 1, ..config };
        let error = sample(&slates(), &prompter, &plain(vec![right(), html()]), &strict).unwrap_err().to_string();
        assert!(error.contains("1 requests in a row without a response"), "{error}");
    }

    #[test]
    fn answers_with_control_tokens_are_invalid_but_kept() {
        let corner = Corner::new();
        let prompter = corner.prompter(PromptConfig::default());
        let dir = tempfile::tempdir().unwrap();
        let answer = Answer { explanation: "a <|im_end|> b".into(), ranking: vec![1, 0, 2] };
        let text = render(&answer, &[3, 2, 4], &corner.sids).unwrap().text;
        let slates = [slate(5, 2)];
        let config = TraceConfig { max_attempts: 1, ..TraceConfig::default() };
        for (served, cached) in [(vec![says(&text)], 0), (vec![], 1)] {
            let teacher = Cached::new(plain(served), Answers::open(dir.path(), &[]).unwrap());
            let found = sample_traces(&slates, &prompter, &teacher, &ControlTokens::default(), &config).unwrap();
            assert_eq!((found.counts.invalid, found.counts.cached), ([(Invalid::ControlToken, 1)].into(), cached));
            assert!(found.sample.unwrap().starts_with("has a control token in its reasoning: {"));
        }
    }

    #[test]
    fn what_is_still_to_be_paid_is_known_beforehand() {
        let corner = Corner::new();
        let prompter = corner.prompter(PromptConfig::default());
        let dir = tempfile::tempdir().unwrap();
        let mut slates = slates();
        slates.push(slates[1].clone());
        slates.push(slate(9, 0));
        let right = || sayings(&corner)[5].0.clone();
        let teacher = || plain(vec![right(), right(), right(), right()]);
        let left = || {
            let answers = Answers::look(dir.path(), &[]);
            let parameters = teacher().parameters();
            unpaid(&slates, &prompter, (PromptStyle::Instructed, &parameters), &answers, Sampling::Rejection).unwrap()
        };
        assert_eq!(left(), Unpaid { questions: 4, unanswered: 4 });
        let ask = |slates: &[Slate]| {
            let cached = Cached::new(teacher(), Answers::open(dir.path(), &[]).unwrap());
            sample(slates, &prompter, &cached, &TraceConfig::default()).unwrap().1
        };
        ask(&slates[..1]);
        assert_eq!(left(), Unpaid { questions: 4, unanswered: 3 });
        let counts = ask(&slates);
        assert_eq!((counts.attempts, counts.cached), (5, 2));
        assert_eq!(left().unanswered, 0);
    }
}
