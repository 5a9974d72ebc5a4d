//! Batched sampling: several continuations of several prompts, each prompt prefilled once, finished continuations
//! leaving the batch.

use super::cache::{Cache, Decode, prefill};
use super::grammar::Grammar;
use super::sampler::{Sampler, SamplerConfig};
use crate::autograd::{Tape, Var};
use crate::error::{Error, Result};
use crate::model::Qwen3;
use crate::ops;
use crate::tensor::{Rng, stream};
use gr2_kernels::Segment;
use gr2_kernels::decode::DecodeRow;
use gr2_kernels::restrict::restrict;
use rand::RngExt;
use rayon::prelude::*;

/// What to generate.
#[derive(Debug, Clone)]
pub struct RolloutConfig {
    /// G, continuations of each prompt.
    pub samples: usize,
    /// Tokens of a continuation at most, the stop token included.
    pub max_new_tokens: usize,
    /// Tokens that end a continuation.
    pub stop: Vec<u32>,
    /// How tokens are drawn.
    pub sampler: SamplerConfig,
    /// Ids from this one on are never drawn: rows of a padded embedding.
    pub vocab_limit: usize,
    /// Seed of the draws.
    pub seed: u64,
    /// Purpose-specific counter of the draws, as the training step.
    pub step: u64,
    /// Continuations decoded together at most.
    pub max_rows: usize,
}

/// One continuation.
#[derive(Debug, Clone, PartialEq)]
pub struct Rollout {
    /// Index of its prompt.
    pub prompt: usize,
    /// New token ids, the stop token included.
    pub tokens: Vec<u32>,
    /// Log-probability of each under the distribution it was drawn from.
    pub logps: Vec<f32>,
    /// Tokens that the grammar left to choose from at each; empty where it left all.
    pub allowed: Vec<Vec<u32>>,
    /// True if it ended with a stop token.
    pub finished: bool,
}

impl Rollout {
    /// Appends tokens that were not drawn, as far as there is room.
    fn append(&mut self, mut rest: Vec<u32>, config: &RolloutConfig) {
        rest.truncate(config.max_new_tokens - self.tokens.len());
        self.finished |= rest.last().is_some_and(|last| config.stop.contains(last));
        self.logps.resize(self.logps.len() + rest.len(), 0.0);
        self.allowed.extend(rest.iter().map(|&token| vec![token]));
        self.tokens.extend(rest);
    }
}

/// Generates `config.samples` continuations of every prompt, in order of prompts.
///
/// The draws of continuation `g` of prompt `p` depend on (seed, step, p·G + g) only, not on what shares its batch.
/// Errors: `Shape` for an empty prompt or a list of the grammar that is not ascending, `Config` for a bad sampler,
/// `Kernel`.
pub fn rollout(
    model: &Qwen3,
    prompts: &[Vec<u32>],
    grammar: &dyn Grammar,
    config: &RolloutConfig,
) -> Result<Vec<Rollout>> {
    if let Some(empty) = prompts.iter().position(|p| p.is_empty()) {
        return Err(Error::Shape { op: "generate", problem: format!("prompt {empty} is empty") });
    }
    let wave = (config.max_rows / config.samples.max(1)).max(1);
    let mut rollouts = Vec::with_capacity(prompts.len() * config.samples);
    for (i, prompts) in prompts.chunks(wave).enumerate() {
        rollouts.extend(Wave::new(model, prompts, i * wave, grammar, config)?.run()?);
    }
    Ok(rollouts)
}

/// A continuation being written.
struct Live {
    rollout: Rollout,
    rng: Rng,
    /// Its prompt's place among the packed prompts.
    prompt: Segment,
    /// Prompt and new tokens: what a repetition penalty is for.
    context: Vec<u32>,
}

/// Prompts whose continuations are decoded together.
struct Wave<'a> {
    model: &'a Qwen3,
    grammar: &'a dyn Grammar,
    config: &'a RolloutConfig,
    cache: Cache,
    live: Vec<Live>,
    sampler: Sampler,
}

impl<'a> Wave<'a> {
    /// Prefills the prompts and draws the first token of every continuation.
    fn new(
        model: &'a Qwen3,
        prompts: &[Vec<u32>],
        first: usize,
        grammar: &'a dyn Grammar,
        config: &'a RolloutConfig,
    ) -> Result<Wave<'a>> {
        let slots = prompts.len() * config.samples;
        let mut cache = Cache::new(model.config(), model.device(), slots, config.max_new_tokens.max(1))?;
        let (hidden, packed) = prefill(model, &mut cache, prompts)?;
        let mut live = vec![];
        let mut from = vec![];
        for (p, &prompt) in packed.list().iter().enumerate() {
            for g in 0..config.samples {
                let rollout =
                    Rollout { prompt: first + p, tokens: vec![], logps: vec![], allowed: vec![], finished: false };
                let rng = stream(config.seed, "rollout", config.step, ((first + p) * config.samples + g) as u64);
                live.push(Live { rollout, rng, prompt, context: prompts[p].clone() });
                from.push(p as u32);
            }
        }
        let mut wave = Wave { model, grammar, config, cache, live, sampler: Sampler::new(config.sampler.clone())? };
        let tape = Tape::inference();
        // one row of hidden states per continuation, those of one prompt being the same
        let last = ops::gather_rows(&tape, &hidden, &from)?;
        let all: Vec<usize> = (0..wave.live.len()).collect();
        wave.draw(&tape, &last, &all)?;
        Ok(wave)
    }

    fn run(mut self) -> Result<Vec<Rollout>> {
        let max = self.config.max_new_tokens;
        loop {
            let active: Vec<usize> = (0..self.live.len())
                .filter(|&i| !self.live[i].rollout.finished && self.live[i].rollout.tokens.len() < max)
                .collect();
            if active.is_empty() {
                return Ok(self.live.into_iter().map(|l| l.rollout).collect());
            }
            let row = |&i: &usize| DecodeRow {
                prompt_start: self.live[i].prompt.start,
                prompt_len: self.live[i].prompt.len,
                slot: i as u32,
                suffix_len: self.live[i].rollout.tokens.len() as u32,
            };
            let rows = active.iter().map(row).collect();
            let newest = |i: &usize| *self.live[*i].rollout.tokens.last().expect("invariant: one token is drawn first");
            let ids: Vec<u32> = active.iter().map(newest).collect();
            let tape = Tape::inference();
            let hidden = self.model.hidden(&tape, &ids, &mut Decode::new(&mut self.cache, rows)?)?;
            self.draw(&tape, &hidden, &active)?;
        }
    }

    /// Draws the next token of the continuations `active` from their hidden states (R, C).
    fn draw(&mut self, tape: &Tape, hidden: &Var, active: &[usize]) -> Result<()> {
        let limit = self.config.vocab_limit.min(self.model.config().vocab_size);
        let head = tape.constant(self.model.head().value.narrow(0..limit)?);
        let mut logits = ops::linear(tape, hidden, &head)?.tensor().clone();
        let allowed: Vec<Vec<u32>> = active
            .par_iter()
            .map(|&i| self.grammar.allowed(self.live[i].rollout.prompt, &self.live[i].rollout.tokens))
            .map(Option::unwrap_or_default)
            .collect();
        let lists: Vec<&[u32]> = allowed.iter().map(Vec::as_slice).collect();
        restrict(logits.buffer_mut(), &lists, limit)?;
        let uniforms: Vec<f32> = active.iter().map(|&i| self.live[i].rng.random::<f32>()).collect();
        let histories: Vec<&[u32]> = active.iter().map(|&i| self.live[i].context.as_slice()).collect();
        let drawn = self.sampler.draw(&logits, &uniforms, &histories)?;
        for ((&i, (token, logp)), list) in active.iter().zip(drawn).zip(allowed) {
            let Live { rollout, context, .. } = &mut self.live[i];
            context.push(token);
            rollout.tokens.push(token);
            rollout.logps.push(logp);
            rollout.allowed.push(list);
            rollout.finished = self.config.stop.contains(&token);
        }
        let rest: Vec<Option<Vec<u32>>> = active
            .par_iter()
            .map(|&i| &self.live[i].rollout)
            .map(|rollout| self.grammar.rest(rollout.prompt, &rollout.tokens).filter(|_| !rollout.finished))
            .collect();
        for (&i, rest) in active.iter().zip(rest) {
            self.live[i].rollout.append(rest.unwrap_or_default(), self.config);
        }
        Ok(())
    }
}
