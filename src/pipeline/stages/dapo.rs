//! `dapo`: the fine-tuned model is reinforced by where its answers put the target.

use super::super::{RunConfig, RunDir, Stage};
use super::setting::{Setting, warn_of_positions};
use super::{sft, slates, write_results};
use crate::error::{Error, Result};
use crate::eval::Metric;
use crate::generate::Grammar;
use crate::model::{self, Qwen3};
use crate::rerank::{Decoding, Slate, Student};
use crate::rl::{DapoTrainer, Outcome, Task, Verdict};
use crate::text::Tokenizer;
use crate::train::{Cursor, Snapshot, save};
use gr2_kernels::Device;
use serde_json::json;
use std::path::Path;

/// The training slates as prompts, and their judge.
struct Slates<'a> {
    student: &'a Student<'a>,
    slates: &'a [Slate],
    prompts: Vec<Vec<u32>>,
    decoding: Decoding,
}

impl Task for Slates<'_> {
    fn prompts(&self) -> &[Vec<u32>] {
        &self.prompts
    }

    fn grammar(&self, indices: &[usize]) -> Box<dyn Grammar + '_> {
        self.student.grammar(indices.iter().map(|&i| &self.slates[i]), self.decoding)
    }

    fn judge(&self, index: usize, tokens: &[u32]) -> Result<Verdict> {
        verdict(self.student, &self.slates[index], tokens)
    }
}

/// Judges an answer by the target's place in it.
fn verdict(student: &Student, slate: &Slate, tokens: &[u32]) -> Result<Verdict> {
    let rank_pre = slate.rank_pre().ok_or_else(|| Error::Run {
        stage: "dapo".into(),
        problem: format!("user {}: the target is not in the slate", slate.user),
        hint: None,
    })?;
    Ok(match student.read(slate, tokens) {
        Err(_) => Verdict { outcome: Outcome::Invalid, copied: false, settled: None },
        Ok(answer) => {
            let rank_re = answer.rank_of(rank_pre - 1).expect("invariant: a parsed answer ranks every candidate");
            let outcome = Outcome::Valid { rank_pre, rank_re, slate: slate.candidates.len() };
            Verdict { outcome, copied: answer.copies_order(), settled: student.settled(slate, tokens) }
        }
    })
}

pub(super) fn run(config: &RunConfig, run: &RunDir, directory: &Path, device: &Device) -> Result<()> {
    let dapo = &config.dapo;
    let setting = Setting::load(config, run)?;
    let slates = slates::read(run, &setting.dataset)?;
    let (mut model, tokenizer) = sft::load(run, device)?;
    let student = Student::new(setting.prompter(), &tokenizer, &setting.sids)?;
    let prompts = student.prompts(&slates.train)?;
    let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
    warn_of_positions("dapo", "prompts and answers", longest + dapo.max_new_tokens, &model);
    let task = Slates { student: &student, slates: &slates.train, prompts, decoding: dapo.decoding() };
    let held_back = &slates.validation[..slates.validation.len().min(dapo.validate_slates)];
    let held_back_prompts = student.prompts(held_back)?;
    // NDCG@5 with the incoming order in place of invalid answers, as a server would answer
    let validate = |model: &Qwen3| -> Result<Option<f64>> {
        if held_back.is_empty() {
            return Ok(None);
        }
        let ranked = student.rank(model, held_back, &held_back_prompts, dapo.decoding())?;
        let ranks: Vec<Option<usize>> = ranked
            .iter()
            .zip(held_back)
            .map(|(r, slate)| {
                let rank_pre = slate.rank_pre()?;
                r.answer.as_ref().ok().map_or(Some(rank_pre), |answer| answer.rank_of(rank_pre - 1))
            })
            .collect();
        Ok(Some(Metric::Ndcg(5).mean(&ranks)))
    };
    let mut trainer = DapoTrainer {
        model: &mut model,
        tokenizer: &tokenizer,
        stop: student.stop(),
        config: dapo,
        seed: config.seed,
        directory,
    };
    let updates = trainer.run(&task, &validate)?;
    let cursor = Cursor::default();
    let result = Snapshot { model: &model, tokenizer: &tokenizer, optimizer: None, cursor: &cursor };
    save(&result, &directory.join("model"))?;
    write_results(directory, &json!({ "steps": dapo.steps, "updates": updates, "slates": slates.train.len() }))
}

/// The reinforced model and its tokenizer.
pub(super) fn load(run: &RunDir, device: &Device) -> Result<(Qwen3, Tokenizer)> {
    let directory = run.stage(Stage::Dapo).join("model");
    Ok((model::load(&directory, device)?, Tokenizer::load(&directory)?))
}
