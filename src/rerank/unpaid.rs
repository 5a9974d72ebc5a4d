//! What a first attempt would still cost.

use std::collections::BTreeSet;

use super::round::{messages, with_target};
use super::{Answers, PromptStyle, Prompter, Sampling, Slate};
use crate::error::Result;

/// Questions of the first attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unpaid {
    /// All of them; slates with the same prompt ask the same.
    pub questions: usize,
    /// Those without an answer.
    pub unanswered: usize,
}

/// How many questions of the first attempt at `slates` have no answer yet, for a teacher of this style and parameters.
///
/// Errors: `Io`, and what the prompter gives.
pub fn unpaid(
    slates: &[Slate],
    prompter: &Prompter,
    (style, parameters): (PromptStyle, &serde_json::Value),
    answers: &Answers,
    sampling: Sampling,
) -> Result<Unpaid> {
    let mut questions = BTreeSet::new();
    for at in with_target(slates) {
        questions.insert(answers.path(parameters, &messages(&slates[at], prompter, style, sampling)?, 0));
    }
    let mut unanswered = 0;
    for path in &questions {
        unanswered += usize::from(answers.find(path)?.is_none());
    }
    Ok(Unpaid { questions: questions.len(), unanswered })
}
