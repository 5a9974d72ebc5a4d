//! Reasoning traces: how they are sampled, what one is, what it all cost, and their file.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Answer, InvalidCounts, Reply, Slate};
use crate::bounds::{MANY, Section};
use crate::data::lines::Lines;
use crate::error::Result;
use crate::files::write_jsonl;

/// Whether the teacher is shown the answer, and which answers are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sampling {
    /// It is not: an answer is kept if the next purchase comes first in it. The better one by GR2's results.
    #[default]
    Rejection,
    /// It is, and explains it; the trace's list is the target, then the others in the incoming order.
    Targeted,
    /// It is not, and every valid answer is kept: for a teacher who knows better than single targets. Those of practice
    /// slates mislead, since the pre-ranker was trained on them.
    Distillation,
}

/// Settings of the sampling.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TraceConfig {
    /// Whether the teacher is shown the answer, and which answers are kept.
    pub sampling: Sampling,
    /// Attempts at a slate at most. Default 8, a choice of this project.
    pub max_attempts: u32,
    /// Requests in a row without any response after which the run stops.
    pub max_unanswered: u32,
    /// Price of a million prompt tokens, in any currency.
    pub prompt_price: f64,
    /// Price of a million written tokens.
    pub completion_price: f64,
}

impl Default for TraceConfig {
    fn default() -> Self {
        TraceConfig {
            sampling: Sampling::Rejection,
            max_attempts: 8,
            max_unanswered: 10,
            prompt_price: 0.0,
            completion_price: 0.0,
        }
    }
}

impl TraceConfig {
    /// Checks the ranges; `section` is the dotted name of this table in the configuration file.
    ///
    /// Errors: `Config` naming the field.
    pub fn validate(&self, section: &str) -> Result<()> {
        let at = Section::new(section);
        at.whole("max_attempts", self.max_attempts, 1..=10_000)?;
        at.whole("max_unanswered", self.max_unanswered, 1..=MANY)?;
        at.number("prompt_price", self.prompt_price, 0.0..=1e9)?;
        at.number("completion_price", self.completion_price, 0.0..=1e9)
    }
}

/// A reasoned ranking to learn from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trace {
    /// Number of the slate, from 0.
    pub slate: u32,
    /// Number of the customer.
    pub user: u32,
    /// The reasoning and the ranking.
    pub answer: Answer,
    /// Attempts it took.
    pub attempts: u32,
    /// Who wrote it.
    pub teacher: String,
}

/// What became of all slates and requests.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TraceCounts {
    /// All slates.
    pub slates: u64,
    /// Those whose target is unknown or not among the candidates; nobody is asked about them.
    pub without_target: u64,
    /// Those with a trace.
    pub accepted: u64,
    /// Those for which no attempt was right.
    pub unaccepted: u64,
    /// accepted / slates asked about.
    pub acceptance_rate: f64,
    /// Requests.
    pub attempts: u64,
    /// Answers whose first item is not the target.
    pub wrong_first: u64,
    /// Texts that are no answer, by reason.
    pub invalid: InvalidCounts,
    /// Requests without any response.
    pub unanswered: u64,
    /// Requests whose responses were no completion.
    #[serde(default)]
    pub no_completion: u64,
    /// Slates whose prompt the teacher's server refuses: too long, filtered.
    #[serde(default)]
    pub refused: u64,
    /// Responses from the cache.
    pub cached: u64,
    /// Responses whose tokens the teacher did not count.
    pub uncounted: u64,
    /// Tokens of all prompts that were answered.
    pub prompt_tokens: u64,
    /// Tokens of all answers.
    pub completion_tokens: u64,
    /// Price of all these tokens.
    pub cost: f64,
    /// Price of those that did not come from the cache.
    pub cost_this_run: f64,
}

impl TraceCounts {
    /// Adds the tokens of a reply and their price.
    pub(super) fn add_tokens(&mut self, reply: &Reply, config: &TraceConfig) {
        let (prompt, completion) = (reply.prompt_tokens.unwrap_or(0), reply.completion_tokens.unwrap_or(0));
        let cost = (prompt as f64 * config.prompt_price + completion as f64 * config.completion_price) / 1e6;
        self.prompt_tokens = self.prompt_tokens.saturating_add(prompt);
        self.completion_tokens = self.completion_tokens.saturating_add(completion);
        self.uncounted += u64::from(reply.prompt_tokens.is_none() || reply.completion_tokens.is_none());
        self.cached += u64::from(reply.cached);
        self.cost += cost;
        self.cost_this_run += if reply.cached { 0.0 } else { cost };
    }
}

/// Writes one trace per line; the file appears whole or not at all.
///
/// Errors: `Io`.
pub fn write_traces(path: &Path, traces: &[Trace]) -> Result<()> {
    write_jsonl(path, traces)
}

/// Reads what [`write_traces`] wrote about `slates`.
///
/// Errors: `Io`; `Data` with the line for a trace of another customer, of a slate that is not there, or whose ranking is
/// not each candidate once; `Data` if there is no trace.
pub fn read_traces(path: &Path, slates: &[Slate]) -> Result<Vec<Trace>> {
    let mut lines = Lines::open(path)?;
    let mut traces = Vec::new();
    while let Some(line) = lines.next_line()? {
        let trace: Trace = line.json("{\"slate\", \"user\", \"answer\", \"attempts\", \"teacher\"}")?;
        let remade = |problem: String| line.error_with_hint(problem, "the slates were made anew; rerun `gr2 traces`");
        let Some(slate) = slates.get(trace.slate as usize) else {
            return Err(remade(format!("slate {}, there are {}", trace.slate, slates.len())));
        };
        if slate.user != trace.user {
            return Err(remade(format!("user {}, slate {} is of user {}", trace.user, trace.slate, slate.user)));
        }
        let mut places = trace.answer.ranking.clone();
        places.sort_unstable();
        if !places.into_iter().eq(0..slate.candidates.len()) {
            let (ranking, candidates) = (&trace.answer.ranking, slate.candidates.len());
            return Err(remade(format!("ranking {ranking:?}, slate {} has {candidates} candidates", trace.slate)));
        }
        traces.push(trace);
    }
    match traces.is_empty() {
        true => Err(super::bad_file(path, None, "no trace in the file", None)),
        false => Ok(traces),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slate(user: u32, target: u32) -> Slate {
        Slate { user, history: vec![2, 0], candidates: vec![3, 2, 4], target: Some(target) }
    }

    #[test]
    fn traces_come_back_and_bad_lines_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("traces.jsonl");
        let answer = Answer { explanation: "ink".into(), ranking: vec![1, 0, 2] };
        let trace = |slate, user, ranking: Vec<usize>| {
            let answer = Answer { ranking, ..answer.clone() };
            Trace { slate, user, answer, attempts: 2, teacher: "m".into() }
        };
        let slates = [slate(5, 2)];
        let good = trace(0, 5, vec![1, 0, 2]);
        write_traces(&path, std::slice::from_ref(&good)).unwrap();
        assert_eq!(read_traces(&path, &slates).unwrap(), [good]);
        for (bad, expected) in [
            (vec![trace(1, 5, vec![1, 0, 2])], ":1: slate 1, there are 1\n  hint: the slates"),
            (vec![trace(0, 6, vec![1, 0, 2])], ":1: user 6, slate 0 is of user 5\n  hint: the slates"),
            (vec![trace(0, 5, vec![1, 1, 2])], ":1: ranking [1, 1, 2], slate 0 has 3 candidates\n  hint: "),
            (vec![], ": no trace in the file"),
        ] {
            write_traces(&path, &bad).unwrap();
            let message = read_traces(&path, &slates).unwrap_err().to_string();
            assert!(message.split_once("traces.jsonl").unwrap().1.starts_with(expected), "{message}");
        }
    }

    #[test]
    fn wrong_values_name_their_field() {
        let wrong = |config: TraceConfig| config.validate("traces").unwrap_err().to_string();
        let message = wrong(TraceConfig { max_attempts: 0, ..Default::default() });
        assert_eq!(message, "config: traces.max_attempts: 0: expected 1 to 10000");
        let message = wrong(TraceConfig { prompt_price: -1.0, ..Default::default() });
        assert_eq!(message, "config: traces.prompt_price: -1: expected at least 0, at most 1000000000");
    }
}
