//! The student at work: slates to prompts, prompts to answers.

use super::{Answer, AnswerGrammar, AnswerReader, Invalid, ItemSids, Prompter, Slate};
use crate::error::Result;
use crate::generate::{Free, Grammar, Rollout, RolloutConfig, SamplerConfig, rollout};
use crate::model::Qwen3;
use crate::text::{ChatTemplate, Tokenizer};
use gr2_kernels::Dtype;

/// Everything but the weights: how a slate becomes a prompt, and tokens an answer.
pub struct Student<'a> {
    /// Writes prompts.
    pub prompter: Prompter<'a>,
    /// The model's tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// Its chat template.
    pub template: ChatTemplate,
    reader: AnswerReader<'a>,
}

/// How answers are generated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decoding {
    /// Under [`AnswerGrammar`], or freely.
    pub constrained: bool,
    /// Recommendations that the grammar leaves to the model; the others follow in their incoming order. 0: all.
    pub choices: usize,
    /// Tokens of an answer at most.
    pub max_new_tokens: usize,
    /// Answers decoded together at most.
    pub max_rows: usize,
}

/// What the student made of a slate.
#[derive(Debug, Clone)]
pub struct Ranked {
    /// The generated text.
    pub text: String,
    /// The answer it is, or why it is none.
    pub answer: std::result::Result<Answer, Invalid>,
}

impl<'a> Student<'a> {
    /// Errors: `Text` if the tokenizer has no semantic ids, or those of another catalogue.
    pub fn new(prompter: Prompter<'a>, tokenizer: &'a Tokenizer, sids: &'a ItemSids) -> Result<Student<'a>> {
        let template = ChatTemplate::of(tokenizer)?;
        Ok(Student { prompter, tokenizer, template, reader: AnswerReader::new(tokenizer, sids)? })
    }

    /// Prompt tokens of a slate.
    pub fn prompt(&self, slate: &Slate) -> Result<Vec<u32>> {
        let question = slate.question(self.prompter.config.history_items);
        self.template.encode_prompt(self.tokenizer, &self.prompter.student(&question)?, false)
    }

    /// [`Student::prompt`] of every slate.
    pub fn prompts(&self, slates: &[Slate]) -> Result<Vec<Vec<u32>>> {
        slates.iter().map(|slate| self.prompt(slate)).collect()
    }

    /// The answer that generated tokens are.
    pub fn read(&self, slate: &Slate, tokens: &[u32]) -> std::result::Result<Answer, Invalid> {
        self.reader.parse(tokens, &slate.candidates)
    }

    /// Tokens of a valid answer after which the target's place in it is settled.
    pub fn settled(&self, slate: &Slate, tokens: &[u32]) -> Option<usize> {
        let ids = self.reader.tokens.ids(self.reader.sids.codes(slate.target?).ok()?).ok()?;
        // the explanation may cite the target before the list ranks it
        tokens.windows(ids.len()).rposition(|window| window == ids).map(|at| at + ids.len())
    }

    /// Tokens that end an answer.
    pub fn stop(&self) -> Vec<u32> {
        self.tokenizer.eos_ids().to_vec()
    }

    /// What limits the answers to these slates, one prompt each.
    pub fn grammar<'s>(&'s self, slates: impl Iterator<Item = &'s Slate>, decoding: Decoding) -> Box<dyn Grammar + 's> {
        let AnswerReader { tokenizer, tokens, sids } = &self.reader;
        let history_items = self.prompter.config.history_items;
        let choices = if decoding.choices == 0 { usize::MAX } else { decoding.choices };
        match decoding.constrained {
            true => {
                Box::new(AnswerGrammar { tokenizer, tokens, sids, slates: slates.collect(), history_items, choices })
            }
            false => Box::new(Free),
        }
    }

    /// The model's greedy answer to every slate, given their prompts.
    pub fn rank(
        &self,
        model: &Qwen3,
        slates: &[Slate],
        prompts: &[Vec<u32>],
        decoding: Decoding,
    ) -> Result<Vec<Ranked>> {
        let config = RolloutConfig {
            samples: 1,
            max_new_tokens: decoding.max_new_tokens,
            stop: self.stop(),
            sampler: SamplerConfig::greedy(),
            vocab_limit: self.tokenizer.vocab_size(),
            seed: 0,
            step: 0,
            max_rows: decoding.max_rows,
            kv_cache: Dtype::F32,
        };
        let grammar = self.grammar(slates.iter(), decoding);
        let rollouts = rollout(model, prompts, &*grammar, &config)?;
        let ranked = |(slate, rollout): (&Slate, Rollout)| {
            let text = self.tokenizer.decode(&rollout.tokens, false)?;
            Ok(Ranked { text, answer: self.read(slate, &rollout.tokens) })
        };
        slates.iter().zip(rollouts).map(ranked).collect()
    }
}
