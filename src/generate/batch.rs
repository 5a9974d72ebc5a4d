//! Continuations that are decoded together. Those that are done leave, and continuations of the next prompts come in their
//! place: every prompt is run once, and lies in the cache as long as one of its continuations is written.

use super::cache::{Cache, CacheConfig, Decode, prefill};
use super::grammar::Grammar;
use super::rollout::{Rollout, RolloutConfig};
use super::sampler::{Drawn, Sampler};
use super::spans::Spans;
use crate::autograd::{Tape, Var};
use crate::error::Result;
use crate::model::Qwen3;
use crate::ops;
use crate::tensor::{Rng, Tensor, stream};
use gr2_kernels::decode::DecodeRow;
use gr2_kernels::restrict::restrict;
use rand::RngExt;
use rayon::prelude::*;
use std::ops::Range;

/// The share of seats that must be free before prompts are run while others decode: running few at a time costs more.
const FREE: usize = 8;

/// Prompts and their continuations on the way from a list of prompts to one of rollouts.
pub(super) struct Batch<'a> {
    model: &'a Qwen3,
    prompts: &'a [Vec<u32>],
    grammar: &'a dyn Grammar,
    config: &'a RolloutConfig,
    sampler: Sampler,
    /// Tokens drawn before the host looks at them, where it may look later.
    ahead: usize,
    cache: Cache,
    /// What is free of the cache's room for prompts.
    room: Spans,
    /// Prompts in the cache; the slots of seat i are those from i·G on.
    seats: Vec<Option<Seat>>,
    /// The first prompt that has not been run.
    next: usize,
    live: Vec<Live>,
    done: Vec<Option<Rollout>>,
}

/// A prompt in the cache.
struct Seat {
    place: Range<u32>,
    /// Continuations that are not done.
    left: usize,
}

/// A continuation being written.
struct Live {
    /// p·G + g.
    number: usize,
    seat: usize,
    /// Its prompt's place in the cache.
    prompt: Range<u32>,
    slot: u32,
    rollout: Rollout,
    rng: Rng,
    /// Prompt and new tokens: what a repetition penalty is for.
    context: Vec<u32>,
}

impl Live {
    /// Adds a token that was drawn.
    fn push(&mut self, (token, logp): (u32, f32), allowed: Vec<u32>, stop: &[u32]) {
        self.context.push(token);
        self.rollout.tokens.push(token);
        self.rollout.logps.push(logp);
        self.rollout.allowed.push(allowed);
        self.rollout.finished = stop.contains(&token);
    }

    /// Adds tokens that were not drawn, as far as there is room.
    fn append(&mut self, mut rest: Vec<u32>, config: &RolloutConfig) {
        let rollout = &mut self.rollout;
        rest.truncate(config.max_new_tokens - rollout.tokens.len());
        rollout.finished |= rest.last().is_some_and(|last| config.stop.contains(last));
        rollout.logps.resize(rollout.logps.len() + rest.len(), 0.0);
        rollout.allowed.extend(rest.iter().map(|&token| vec![token]));
        rollout.tokens.extend(rest);
    }

    fn is_done(&self, config: &RolloutConfig) -> bool {
        self.rollout.finished || self.rollout.tokens.len() >= config.max_new_tokens
    }
}

impl<'a> Batch<'a> {
    /// Room for as many prompts as `config.max_rows` has rows for, one at least. There are prompts, none of them empty, and a
    /// continuation of each.
    ///
    /// Errors: `Config` for a bad sampler; `Kernel`.
    pub(super) fn new(
        model: &'a Qwen3,
        prompts: &'a [Vec<u32>],
        grammar: &'a dyn Grammar,
        config: &'a RolloutConfig,
        ahead: usize,
    ) -> Result<Batch<'a>> {
        let sampler = Sampler::new(config.sampler.clone())?;
        let seats = (config.max_rows / config.samples).clamp(1, prompts.len());
        // any prompts in a row that have a seat each find room together when it is empty
        let lengths: Vec<usize> = prompts.iter().map(Vec::len).collect();
        let room = lengths.windows(seats).map(|window| window.iter().sum()).max().unwrap_or(0);
        let sizes = CacheConfig {
            prompt_tokens: room,
            slots: seats * config.samples,
            capacity: config.max_new_tokens,
            stored: config.kv_cache,
        };
        let cache = Cache::new(model.config(), model.device(), sizes)?;
        Ok(Batch {
            model,
            prompts,
            grammar,
            config,
            sampler,
            ahead,
            cache,
            room: Spans::new(room as u32),
            seats: (0..seats).map(|_| None).collect(),
            next: 0,
            live: vec![],
            done: vec![None; prompts.len() * config.samples],
        })
    }

    /// Writes every continuation; they come in the order of their prompts.
    pub(super) fn run(mut self) -> Result<Vec<Rollout>> {
        loop {
            self.admit()?;
            self.retire();
            if self.live.is_empty() && self.next == self.prompts.len() {
                let written = |rollout: Option<Rollout>| rollout.expect("invariant: all are done");
                return Ok(self.done.into_iter().map(written).collect());
            }
            match self.ahead() {
                0 => {}
                1 => self.step()?,
                ahead => self.steps(ahead)?,
            }
            self.retire();
        }
    }

    /// Runs prompts that are waiting, if there is room for enough of them, and draws the first token of their continuations.
    fn admit(&mut self) -> Result<()> {
        let free = self.seats.iter().filter(|seat| seat.is_none()).count();
        if !self.live.is_empty() && free < self.seats.len().div_ceil(FREE) {
            return Ok(());
        }
        let first = self.next;
        let mut places = vec![];
        while let Some(seat) = self.seats.iter().position(Option::is_none)
            && let Some(prompt) = self.prompts.get(self.next)
            && let Some(place) = self.room.take(prompt.len() as u32)
        {
            places.push(place.clone());
            self.seat(seat, place);
        }
        if places.is_empty() {
            return Ok(());
        }
        let prompts: Vec<&[u32]> = self.prompts[first..self.next].iter().map(Vec::as_slice).collect();
        let tape = Tape::inference();
        let hidden = prefill(self.model, &mut self.cache, &prompts, &places)?;
        // one row of hidden states per continuation, those of one prompt being the same
        let samples = self.config.samples;
        let from: Vec<u32> = (0..prompts.len() * samples).map(|i| (i / samples) as u32).collect();
        if self.config.max_new_tokens == 0 {
            return Ok(());
        }
        let hidden = ops::gather_rows(&tape, &hidden, &from)?;
        self.draw(&tape, &hidden, self.live.len() - from.len()..self.live.len())
    }

    /// Gives the next prompt a seat.
    fn seat(&mut self, seat: usize, place: Range<u32>) {
        let RolloutConfig { samples, seed, step, .. } = *self.config;
        for g in 0..samples {
            let number = self.next * samples + g;
            self.live.push(Live {
                number,
                seat,
                prompt: place.clone(),
                slot: (seat * samples + g) as u32,
                rollout: Rollout { prompt: self.next, tokens: vec![], logps: vec![], allowed: vec![], finished: false },
                rng: stream(seed, "rollout", step, number as u64),
                context: self.prompts[self.next].clone(),
            });
        }
        self.seats[seat] = Some(Seat { place, left: samples });
        self.next += 1;
    }

    /// Takes out what is done.
    fn retire(&mut self) {
        let config = self.config;
        for live in self.live.extract_if(.., |live| live.is_done(config)) {
            self.done[live.number] = Some(live.rollout);
            if let Some(seat) = &mut self.seats[live.seat] {
                seat.left -= 1;
                if seat.left == 0 {
                    self.room.give(seat.place.clone());
                    self.seats[live.seat] = None;
                }
            }
        }
    }

    /// How many tokens all continuations can be given before the host looks at them.
    fn ahead(&self) -> usize {
        let most = if self.grammar.is_free() && self.config.sampler.plain() { self.ahead } else { 1 };
        let room = |live: &Live| self.config.max_new_tokens - live.rollout.tokens.len();
        self.live.iter().map(room).min().unwrap_or(0).min(most)
    }

    /// The newest tokens, which are drawn but not in the cache.
    fn newest(&self) -> Vec<u32> {
        let newest = |live: &Live| *live.rollout.tokens.last().expect("invariant: one token is drawn first");
        self.live.iter().map(newest).collect()
    }

    /// What every continuation attends to `further` tokens from now.
    fn rows(&self, further: usize) -> Vec<DecodeRow> {
        let row = |live: &Live| DecodeRow {
            prompt_start: live.prompt.start,
            prompt_len: live.prompt.len() as u32,
            slot: live.slot,
            suffix_len: (live.rollout.tokens.len() + further) as u32,
        };
        self.live.iter().map(row).collect()
    }

    /// Makes room in the cache for the next `count` tokens of every continuation, the newest one included.
    fn reserve(&mut self, count: usize) -> Result<()> {
        let longest = self.live.iter().map(|live| live.rollout.tokens.len()).max().unwrap_or(0);
        self.cache.reserve(longest + count - 1)
    }

    /// Gives every continuation a token.
    fn step(&mut self) -> Result<()> {
        self.reserve(1)?;
        let (ids, rows) = (self.newest(), self.rows(0));
        let tape = Tape::inference();
        let hidden = self.model.hidden(&tape, &ids, &mut Decode::new(&mut self.cache, rows)?)?;
        self.draw(&tape, &hidden, 0..self.live.len())
    }

    /// Gives every continuation several tokens, each fed to the model where it was drawn, and looks at them in the end: what a
    /// continuation got after a stop token is dropped.
    fn steps(&mut self, count: usize) -> Result<()> {
        self.reserve(count)?;
        let all = 0..self.live.len();
        let mut newest = Tensor::from_slice(self.model.device(), &self.newest(), [all.len()])?;
        let mut draws: Vec<Drawn> = vec![];
        for further in 0..count {
            let (tape, rows) = (Tape::inference(), self.rows(further));
            let hidden = self.model.hidden_of_drawn(&tape, &newest, &mut Decode::new(&mut self.cache, rows)?)?;
            let (logits, uniforms) = (self.logits(&tape, &hidden)?, self.uniforms(all.clone()));
            let drawn = self.sampler.draw_on_device(&logits, &uniforms)?;
            newest = drawn.tokens.clone();
            draws.push(drawn);
        }
        for drawn in Drawn::read(&draws)? {
            for (live, token) in self.live.iter_mut().zip(drawn) {
                if !live.rollout.finished {
                    live.push(token, vec![], &self.config.stop);
                }
            }
        }
        Ok(())
    }

    /// Logits (R, V) of hidden states (R, C), without those that are never drawn.
    fn logits(&self, tape: &Tape, hidden: &Var) -> Result<Tensor> {
        let limit = self.config.vocab_limit.min(self.model.config().vocab_size);
        let head = tape.constant(self.model.head().value.narrow(0..limit)?);
        Ok(ops::linear(tape, hidden, &head)?.tensor().clone())
    }

    /// The next random number of each of these continuations.
    fn uniforms(&mut self, of: Range<usize>) -> Vec<f32> {
        self.live[of].iter_mut().map(|live| live.rng.random::<f32>()).collect()
    }

    /// Draws the next token of the continuations `of` from their hidden states (R, C).
    fn draw(&mut self, tape: &Tape, hidden: &Var, of: Range<usize>) -> Result<()> {
        let mut logits = self.logits(tape, hidden)?;
        let allowed: Vec<Vec<u32>> = self.live[of.clone()]
            .par_iter()
            .map(|live| self.grammar.allowed(live.rollout.prompt, &live.rollout.tokens).unwrap_or_default())
            .collect();
        let lists: Vec<&[u32]> = allowed.iter().map(Vec::as_slice).collect();
        let limit = logits.shape()[1];
        restrict(logits.buffer_mut(), &lists, limit)?;
        let uniforms = self.uniforms(of.clone());
        let live = &mut self.live[of];
        let histories: Vec<&[u32]> = live.iter().map(|live| live.context.as_slice()).collect();
        let drawn = self.sampler.draw(&logits, &uniforms, &histories)?;
        for ((live, token), list) in live.iter_mut().zip(drawn).zip(allowed) {
            live.push(token, list, &self.config.stop);
        }
        live.par_iter_mut().filter(|live| !live.rollout.finished).for_each(|live| {
            if let Some(rest) = self.grammar.rest(live.rollout.prompt, &live.rollout.tokens) {
                live.append(rest, self.config);
            }
        });
        Ok(())
    }
}
