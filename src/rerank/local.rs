//! [`LocalTeacher`]: a checkpoint on this crate's own engine, which the caller brings as a function.

use serde_json::Value;

use super::{Form, PromptStyle, Reply, Response, Teacher, TeacherRequest};
use crate::error::Result;
use crate::text::{ChatTemplate, Tokenizer};

/// Prompts to be continued together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalPrompts {
    /// Token ids of each prompt, generation prompt included.
    pub prompts: Vec<Vec<u32>>,
    /// The slate of each, from which its random draws are to be keyed.
    pub slates: Vec<u64>,
    /// Which attempt it is, for the same purpose.
    pub attempt: u32,
}

/// A checkpoint as teacher.
pub struct LocalTeacher<'a, F> {
    /// Name in traces and messages.
    pub name: String,
    /// What an answer depends on: the checkpoint's hash, the sampler's settings.
    pub parameters: Value,
    /// Its tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// Its chat template.
    pub template: &'a ChatTemplate,
    /// Whether it may write a thinking block.
    pub thinking: bool,
    /// The prompt it wants: the student's for checkpoints of this project, the long one for others.
    pub style: PromptStyle,
    /// Prompts continued together.
    pub batch: usize,
    /// Continues every prompt: new ids, the token that ends the answer included where it came to one.
    pub generate: F,
}

impl<F> Teacher for LocalTeacher<'_, F>
where
    F: Fn(&LocalPrompts) -> Result<Vec<Vec<u32>>> + Sync,
{
    fn name(&self) -> &str {
        &self.name
    }

    fn parameters(&self) -> Value {
        self.parameters.clone()
    }

    fn style(&self) -> PromptStyle {
        self.style
    }

    fn form(&self) -> Form {
        Form::Lenient
    }

    /// The engine uses the whole device for one batch.
    fn parallel(&self) -> usize {
        1
    }

    fn batch(&self) -> usize {
        self.batch.max(1)
    }

    fn ask(&self, request: &TeacherRequest, attempt: u32) -> Result<Response> {
        let mut responses = self.ask_all(std::slice::from_ref(request), attempt)?;
        Ok(responses.pop().unwrap_or_else(|| Response::Unanswered("nothing was generated".into())))
    }

    fn ask_all(&self, requests: &[TeacherRequest], attempt: u32) -> Result<Vec<Response>> {
        let encode =
            |request: &TeacherRequest| self.template.encode_prompt(self.tokenizer, &request.messages, self.thinking);
        let prompts: Vec<Vec<u32>> = requests.iter().map(encode).collect::<Result<_>>()?;
        let slates = requests.iter().map(|request| request.slate).collect();
        let prompts = LocalPrompts { prompts, slates, attempt };
        let mut written = (self.generate)(&prompts)?.into_iter();
        prompts
            .prompts
            .iter()
            .map(|prompt| match written.next() {
                Some(ids) => self.reply(prompt, &ids).map(Response::Answered),
                None => Ok(Response::Unanswered("nothing was generated".into())),
            })
            .collect()
    }
}

impl<F> LocalTeacher<'_, F> {
    fn reply(&self, prompt: &[u32], ids: &[u32]) -> Result<Reply> {
        let end = ids.iter().position(|id| self.tokenizer.eos_ids().contains(id));
        let text = self.tokenizer.decode(&ids[..end.unwrap_or(ids.len())], false)?;
        Ok(Reply {
            text,
            truncated: end.is_none(),
            refused: false,
            prompt_tokens: Some(prompt.len() as u64),
            completion_tokens: Some(ids.len() as u64),
            cached: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rerank::Question;
    use crate::text::{Message, train_bpe};

    #[test]
    fn prompts_become_ids_and_ids_replies() {
        let tokenizer = train_bpe(["ink and paper, ink and paper"], 280).unwrap();
        let template = ChatTemplate::of(&tokenizer).unwrap();
        let answer = tokenizer.encode("paper").unwrap();
        let generate = |asked: &LocalPrompts| {
            assert_eq!((asked.slates.as_slice(), asked.attempt), (&[7, 8][..], 3));
            assert!(tokenizer.decode(&asked.prompts[1], false)?.ends_with("ink<|im_end|>\n<|im_start|>assistant\n"));
            let ended = [&answer[..], &[tokenizer.im_end().unwrap()], &answer[..]].concat();
            Ok(vec![answer.clone(), ended])
        };
        let teacher = LocalTeacher {
            name: "base".into(),
            parameters: Value::Null,
            tokenizer: &tokenizer,
            template: &template,
            thinking: true,
            style: PromptStyle::Student,
            batch: 2,
            generate,
        };
        let request = |slate| TeacherRequest {
            slate,
            question: Question { user: 0, history: &[], candidates: &[] },
            shown: None,
            messages: vec![Message::user("ink")],
        };
        let responses = teacher.ask_all(&[request(7), request(8)], 3).unwrap();
        let replies: Vec<_> = responses
            .iter()
            .map(|response| match response {
                Response::Answered(reply) => (reply.text.as_str(), reply.truncated),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(replies, [("paper", true), ("paper", false)]);
    }
}
