//! Rollouts of a step: groups of answers, judged and rewarded, and what becomes of them.

use super::policy::{Group, Response};
use super::{Credit, DapoTrainer, Outcome, Reward, RolloutRecord, group_advantages, reward};
use crate::error::Result;
use crate::generate::{Grammar, Rollout, RolloutConfig, SamplerConfig, rollout};
use crate::tensor::stream;
use crate::train::Cursor;
use gr2_kernels::Dtype;
use rand::seq::SliceRandom;

/// What an answer achieved, and whether it is the incoming order again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// The outcome the reward is computed from.
    pub outcome: Outcome,
    /// True if the answer is valid and equal to the incoming order.
    pub copied: bool,
    /// Tokens of a valid answer after which its rank was settled.
    pub settled: Option<usize>,
}

/// Slates as a task: prompts, and what becomes of answers.
pub trait Task: Sync {
    /// Prompt tokens of every slate.
    fn prompts(&self) -> &[Vec<u32>];

    /// What limits the answers to these slates, one prompt each.
    fn grammar(&self, indices: &[usize]) -> Box<dyn Grammar + '_>;

    /// Judges the answer to slate `index`; one that was cut off has no token that ends an answer.
    fn judge(&self, index: usize, tokens: &[u32]) -> Result<Verdict>;
}

/// A group with everything known of it.
pub(super) struct Sampled {
    pub(super) index: usize,
    pub(super) rollouts: Vec<Rollout>,
    pub(super) verdicts: Vec<Verdict>,
    pub(super) rewards: Vec<Reward>,
}

impl DapoTrainer<'_> {
    /// One round of generation: the next `wanted` prompts in a shuffled order, G rollouts each.
    pub(super) fn sample(
        &self,
        task: &dyn Task,
        cursor: &mut Cursor,
        round: usize,
        wanted: usize,
    ) -> Result<Vec<Sampled>> {
        let size = task.prompts().len();
        let mut indices: Vec<usize> = vec![];
        while indices.len() < wanted {
            let mut order: Vec<usize> = (0..size).collect();
            order.shuffle(&mut stream(self.seed, "dapo order", cursor.epoch, 0));
            let left = wanted - indices.len();
            indices.extend(order.iter().skip(cursor.position).take(left));
            cursor.position += left;
            if cursor.position >= size {
                (cursor.epoch, cursor.position) = (cursor.epoch + 1, 0);
            }
        }
        let prompts: Vec<Vec<u32>> = indices.iter().map(|&i| task.prompts()[i].clone()).collect();
        let config = RolloutConfig {
            samples: self.config.group_size,
            max_new_tokens: self.config.max_new_tokens,
            stop: self.stop.clone(),
            sampler: SamplerConfig::sampling(self.config.temperature),
            vocab_limit: self.tokenizer.vocab_size(),
            seed: self.seed,
            step: cursor.step * self.config.max_rounds as u64 + round as u64,
            max_rows: self.config.max_rows,
            kv_cache: Dtype::F32,
        };
        let mut rollouts = rollout(self.model, &prompts, &*task.grammar(&indices), &config)?.into_iter();
        indices
            .into_iter()
            .map(|index| {
                let rollouts: Vec<Rollout> = rollouts.by_ref().take(self.config.group_size).collect();
                let verdicts: Vec<Verdict> =
                    rollouts.iter().map(|r| task.judge(index, &r.tokens)).collect::<Result<_>>()?;
                let rewards = verdicts.iter().map(|v| reward(v.outcome, &self.config.reward)).collect::<Result<_>>()?;
                Ok(Sampled { index, rollouts, verdicts, rewards })
            })
            .collect()
    }

    /// What the log says of every rollout.
    pub(super) fn records<'s>(&self, sampled: &'s [Sampled]) -> Vec<RolloutRecord<'s>> {
        let record = |s: &'s Sampled, i: usize| RolloutRecord {
            outcome: s.verdicts[i].outcome,
            reward: s.rewards[i],
            overlong: self.config.overlong.penalty(s.rollouts[i].tokens.len()),
            copied: s.verdicts[i].copied,
            tokens: &s.rollouts[i].tokens,
            truncated: !s.rollouts[i].finished,
        };
        sampled.iter().flat_map(|s| (0..s.rollouts.len()).map(move |i| record(s, i))).collect()
    }

    /// Groups ready for the update: advantages of the shaped rewards, old log-probabilities not known yet.
    pub(super) fn groups<'s>(&self, task: &dyn Task, kept: impl Iterator<Item = &'s Sampled>) -> Result<Vec<Group>> {
        kept.map(|s| {
            let shaped: Vec<f32> = s
                .rewards
                .iter()
                .zip(&s.rollouts)
                .map(|(r, o)| r.total + self.config.overlong.penalty(o.tokens.len()))
                .collect();
            let advantages = group_advantages(&shaped, self.config.group_size, self.config.adv_eps)?;
            let answers = s.rollouts.iter().zip(&s.verdicts).zip(advantages.values);
            let responses = answers.map(|((rollout, Verdict { settled, .. }), advantage)| {
                let Rollout { tokens, allowed, logps: logp_sampled, .. } = rollout.clone();
                let settled = settled.filter(|_| self.config.credit == Credit::UntilSettled).unwrap_or(tokens.len());
                Response { tokens, allowed, settled, logp_sampled, logp_old: None, advantage }
            });
            Ok(Group { prompt: task.prompts()[s.index].clone(), responses: responses.collect() })
        })
        .collect()
    }
}
