//! Prompt and answer as token ids with the weight of each in the loss.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::{Answer, Prompter, Question, render};
use crate::bounds::{Section, WEIGHT};
use crate::error::{Error, Result};
use crate::text::{AssistantSpan, ChatTemplate, EncodedChat, Message, Tokenizer};

/// `L = − λ_r Σ ln P(reasoning token) − λ_o Σ ln P(other token of the answer)`.
///
/// Source: GR2, arXiv:2602.07774, supervised fine-tuning; its values are not known, the defaults are choices of this project.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LossWeights {
    /// λ_r, less than λ_o so that the reasoning does not swamp the ranking.
    pub reasoning: f32,
    /// λ_o: recommendations, the JSON around them, the token that ends the answer.
    pub output: f32,
}

impl Default for LossWeights {
    fn default() -> Self {
        LossWeights { reasoning: 0.3, output: 1.0 }
    }
}

impl LossWeights {
    /// Checks the ranges; `section` is the dotted name of this table in the configuration file.
    ///
    /// Errors: `Config` naming the field.
    pub fn validate(&self, section: &str) -> Result<()> {
        let at = Section::new(section);
        at.number("reasoning", self.reasoning, WEIGHT)?;
        at.number("output", self.output, WEIGHT)?;
        match self.reasoning + self.output > 0.0 {
            true => Ok(()),
            false => at.refuse("output", "0: so is reasoning, nothing of an answer would be learnt"),
        }
    }
}

/// A prompt with its answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// Token ids of the whole chat up to the token that ends the answer.
    pub ids: Vec<u32>,
    /// Weight of each id as something to be predicted; 0 on the prompt.
    pub weights: Vec<f32>,
    /// Tokens of the prompt, generation prompt included: what generation starts from.
    pub prompt: usize,
}

/// Weight of every token of a chat: `weights.reasoning` for those that lie wholly inside the reasoning of the answer at
/// `span`, `weights.output` for its other tokens and the one that ends it, 0 elsewhere.
///
/// `explanation` is where the reasoning stands in the bytes of the answer, as [`render`] gives it.
/// Errors: `Text` if the template changed the answer.
pub fn answer_weights(
    chat: &EncodedChat,
    span: &AssistantSpan,
    message: &Message,
    explanation: &Range<usize>,
    weights: LossWeights,
) -> Result<Vec<f32>> {
    // Refuses an answer that was rendered otherwise than it was given.
    chat.token_at(span, message, explanation.start)?;
    let reasoning = span.byte + explanation.start..span.byte + explanation.end;
    let mut all = vec![0.0; chat.ids.len()];
    for at in span.learnt() {
        let token = &chat.offsets[at];
        let inside = span.content.contains(&at) && reasoning.start <= token.start && token.end <= reasoning.end;
        all[at] = if inside { weights.reasoning } else { weights.output };
    }
    Ok(all)
}

impl Prompter<'_> {
    /// The student's prompt with an answer, ready to learn from.
    ///
    /// `thinking` is passed on to the template; without it Qwen's put an empty thinking block before the answer.
    /// Errors: `Shape` for an item that the catalogue does not have or a ranking that is none; `Text` if the chat cannot
    /// be encoded.
    pub fn example(
        &self,
        question: &Question,
        answer: &Answer,
        tokenizer: &Tokenizer,
        template: &ChatTemplate,
        thinking: bool,
        weights: LossWeights,
    ) -> Result<Example> {
        let rendered = render(answer, question.candidates, self.sids)?;
        let mut messages = self.student(question)?;
        messages.push(Message::assistant(rendered.text));
        let chat = template.encode_chat(tokenizer, &messages, thinking)?;
        let Some(span) = chat.spans.last() else {
            return Err(Error::Text {
                what: "chat template".into(),
                problem: "renders no answer".into(),
                hint: Some("it must write turns of the role assistant".into()),
            });
        };
        let message = &messages[span.message];
        let mut weights = answer_weights(&chat, span, message, &rendered.explanation, weights)?;
        // What the template writes after the answer, such as a line break, is never generated.
        let end = span.learnt().end;
        weights.truncate(end);
        Ok(Example { ids: chat.ids[..end].to_vec(), weights, prompt: span.content.start })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rerank::prompt::tests::Corner;
    use crate::rerank::{AnswerReader, PromptConfig};
    use crate::text::{SidShape, SidTokens, train_bpe};

    #[test]
    fn weights_follow_the_parts_of_the_answer() {
        let corner = Corner::new();
        let prompter = corner.prompter(PromptConfig::default());
        let question = Question { user: 0, history: &[1, 0], candidates: &[3, 2] };
        let mut tokenizer = train_bpe(["explanation recommendations ink.\",\" explanation ink.\",\""; 4], 400).unwrap();
        SidTokens::add(&mut tokenizer, SidShape::new(2, 3).unwrap()).unwrap();
        let template = ChatTemplate::of(&tokenizer).unwrap();
        let weights = LossWeights { reasoning: 0.25, output: 1.0 };
        for (explanation, thinking) in [("printer then \"ink\"", true), ("ink.", false), ("", true)] {
            let answer = Answer { explanation: explanation.into(), ranking: vec![1, 0] };
            let example = prompter.example(&question, &answer, &tokenizer, &template, thinking, weights).unwrap();
            assert_eq!(example.ids.len(), example.weights.len());
            assert!(example.weights[..example.prompt].iter().all(|w| *w == 0.0));
            let prompt = template.encode_prompt(&tokenizer, &prompter.student(&question).unwrap(), thinking).unwrap();
            assert_eq!(example.ids[..example.prompt], prompt);
            let part = |weight: f32| -> Vec<u32> {
                let ids = example.ids.iter().zip(&example.weights);
                ids.filter(|(_, w)| **w == weight).map(|(id, _)| *id).collect()
            };
            let reasoning = tokenizer.decode(&part(0.25), false).unwrap();
            // The full stop is of one token with the quotes after it, which belong to the form.
            let expected = serde_json::to_string(explanation).unwrap();
            assert_eq!(reasoning, expected[1..expected.len() - 1].trim_end_matches('.'));
            assert!(tokenizer.decode(&part(1.0), false).unwrap().ends_with("<s_b_1><|sid_end|>\"]}<|im_end|>"));
            let reader = AnswerReader::new(&tokenizer, &corner.sids).unwrap();
            assert_eq!(reader.parse(&example.ids[example.prompt..], question.candidates), Ok(answer));
        }
    }

    #[test]
    fn wrong_values_name_their_field() {
        let wrong = LossWeights { reasoning: -0.1, output: 1.0 }.validate("sft.loss").unwrap_err().to_string();
        assert_eq!(wrong, "config: sft.loss.reasoning: -0.1: expected at least 0, at most 1000000");
    }
}
