//! Whether a checkpoint's tokenizer and chat template can do what later stages ask of them, found out before those begin.

use super::{Answer, LossWeights, Prompter, Question};
use crate::error::{Error, Result};
use crate::text::{ChatTemplate, Message, SidShape, SidTokens, Tokenizer};

/// Refuses a checkpoint whose tokenizer or chat template fails with the student: semantic ids cannot join the vocabulary, or
/// the prompt of `question` with an answer cannot be rendered, or not as generation will continue it. `rows` is what the
/// embedding has.
///
/// Errors: `Text` naming the file and what to do.
pub fn check_student(prompter: &Prompter, tokenizer: &Tokenizer, rows: usize, question: &Question) -> Result<()> {
    check_vocabulary(tokenizer, rows)?;
    if SidTokens::find(tokenizer)?.is_none() {
        SidTokens::add(&mut tokenizer.clone(), SidShape::new(1, 1)?)?;
    }
    let template = ChatTemplate::of(tokenizer)?;
    check_prompt(tokenizer, &template, &prompter.student(question)?)?;
    let answer = Answer { explanation: "why".into(), ranking: (0..question.candidates.len()).collect() };
    let example = prompter.example(question, &answer, tokenizer, &template, false, LossWeights::default());
    example.map(drop).map_err(|error| match error {
        Error::Text { what, problem, .. } if what != template.origin() => {
            template.refusal(&format!("{what}: {problem}"))
        }
        other => other,
    })
}

/// Refuses a chat template that leaves a user's message out, or changes it, and a tokenizer that makes nothing of the
/// prompt.
///
/// Errors: `Text` naming the file and what to do.
pub fn check_prompt(tokenizer: &Tokenizer, template: &ChatTemplate, messages: &[Message]) -> Result<()> {
    let text = template.render(messages, true, false)?;
    if let Some(left_out) = messages.iter().find(|m| m.role == "user" && !text.contains(m.content.trim())) {
        let role = &left_out.role;
        return Err(template.refusal(&format!("leaves the message of the {role} out of the prompt, or changes it")));
    }
    if template.encode_prompt(tokenizer, messages, false)?.is_empty() {
        return Err(template.refusal("the prompt has no token"));
    }
    Ok(())
}

/// Refuses a tokenizer with ids that the embedding has no row for.
///
/// Errors: `Text`.
pub fn check_vocabulary(tokenizer: &Tokenizer, rows: usize) -> Result<()> {
    match tokenizer.vocab_size() {
        ids if ids > rows => Err(Error::Text {
            what: tokenizer.origin().into(),
            problem: format!("has {ids} ids, the embedding {rows} rows"),
            hint: Some("it belongs to another model, or tokens were added to it and the model was not resized".into()),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rerank::PromptConfig;
    use crate::rerank::prompt::tests::Corner;
    use crate::text::train_bpe;

    /// What is said of a checkpoint with this chat template.
    fn found(template: &str, rows: usize) -> String {
        let corner = Corner::new();
        let directory = tempfile::tempdir().unwrap();
        train_bpe(["ink and paper"], 280).unwrap().save(directory.path()).unwrap();
        std::fs::write(directory.path().join("chat_template.jinja"), template).unwrap();
        let tokenizer = Tokenizer::load(directory.path()).unwrap();
        let question = Question { user: 0, history: &[1, 0], candidates: &[3, 2] };
        let prompter = corner.prompter(PromptConfig::default());
        match check_student(&prompter, &tokenizer, rows, &question) {
            Ok(()) => String::new(),
            Err(error) => {
                let message = error.to_string();
                let file = directory.path().join("chat_template.jinja").display().to_string();
                assert!(message.contains("embedding") || message.contains(&format!("text: {file}: ")), "{message}");
                assert!(
                    message.contains("embedding") || message.contains(&format!("delete or replace {file}")),
                    "{message}"
                );
                message
            }
        }
    }

    #[test]
    fn templates_that_would_fail_later_fail_here() {
        let turns = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}";
        let prompt = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
        let good = format!("{turns}{prompt}");
        assert_eq!(found(&good, 280), "");
        assert!(found(&good, 100).contains(" ids, the embedding 100 rows"));
        for (template, says) in [
            (format!("{{{{ strftime_now('%d') }}}}{good}"), "calls strftime_now"),
            (format!("{{{{ raise_exception('no system here') }}}}{good}"), "no system here"),
            (
                format!("{turns}{{% if add_generation_prompt %}}<|im_start|>assistant\n<think>\n{{% endif %}}"),
                "it has \"<think> \"",
            ),
            (good.replace("<|im_end|>", ""), "with none of the tokens that end one"),
            (good.replace("m.content", "m.content if m.role != 'user'"), "leaves the message of the user out"),
            (good.replace("m.content", "m.content|upper"), "leaves the message of the user out"),
            (good.replace("m.content", "m.content if m.role != 'assistant' else 'x'"), "does not render the answer"),
            (prompt.into(), "leaves the message of the user out"),
            ("{% for".into(), "line 1"),
            (String::new(), "is empty"),
        ] {
            let message = found(&template, 280);
            assert!(message.contains(says), "{template}: {message}");
        }
    }
}
