//! The DAPO loop: sample groups until enough of them have signal, reward, normalise, update.

use super::policy::{Group, Logps, policy_gradients, response_logps};
use super::sample::{Sampled, Task};
use super::signal::{Facts, Signal};
use super::{
    DapoConfig, DapoMetrics, DynamicSampling, LogprobGap, PolicyStats, RolloutStats, SamplingStats, SamplingVerdict,
    logprob_gap, rollout_stats,
};
use crate::autograd::Gradients;
use crate::console::{Hold, Progress, check_interrupt, hold, say};
use crate::error::{Error, Result};
use crate::files;
use crate::model::{self, Qwen3};
use crate::optim::{Decay, Optimizer, Schedule, StepReport};
use crate::text::Tokenizer;
use crate::train::{Cursor, NonFiniteGuard, Snapshot, restore, save};
use serde::Serialize;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Instant;

/// One run of DAPO.
pub struct DapoTrainer<'a> {
    /// The policy.
    pub model: &'a mut Qwen3,
    /// Its tokenizer, saved with every checkpoint.
    pub tokenizer: &'a Tokenizer,
    /// Tokens that end an answer.
    pub stop: Vec<u32>,
    /// Settings.
    pub config: &'a DapoConfig,
    /// Seed of order and draws.
    pub seed: u64,
    /// Directory of `checkpoint/`, `best/` and `metrics.jsonl`.
    pub directory: &'a Path,
}

/// One line of `metrics.jsonl`.
#[derive(Serialize)]
struct Line {
    step: u64,
    #[serde(flatten)]
    rollouts: RolloutStats,
    #[serde(flatten)]
    sampling: SamplingStats,
    #[serde(flatten)]
    policy: PolicyStats,
    #[serde(flatten)]
    gap: LogprobGap,
    entropy: f64,
    loss: f64,
    grad_norm: f64,
    lr: f64,
    /// Updates made since the run began.
    updates: u64,
    skipped: u64,
    rollout_seconds: f64,
    update_seconds: f64,
    rollout_tokens_per_s: f64,
}

impl Line {
    fn facts(&self) -> Facts {
        Facts { step: self.step, rollouts: self.rollouts, sampling: self.sampling, updates: self.updates }
    }
}

impl DapoTrainer<'_> {
    /// Trains to the end, from the last checkpoint if there is one, and leaves the best policy by `validate` (called
    /// with the policy every `validate_every` steps, higher is better; `None` keeps the last policy) in the model. Returns the
    /// number of updates.
    ///
    /// Errors: `Run` without slates, or where nothing is learnt (`rl/signal.rs`); `NonFinite`, `Io`, `Kernel`; `Interrupted`, after saving
    /// what there was before the step, unless one of several updates of the step is made: then the last checkpoint stands.
    /// Source: Yu et al. 2025, arXiv:2503.14476.
    pub fn run(&mut self, task: &dyn Task, validate: &dyn Fn(&Qwen3) -> Result<Option<f64>>) -> Result<u64> {
        if task.prompts().is_empty() {
            let problem = "no slate has its target among the candidates: there is nothing to reward".to_string();
            return Err(Error::Run {
                stage: "dapo".into(),
                problem,
                hint: Some("see the hit rate of `slates`".into()),
            });
        }
        let checkpoint = self.directory.join("checkpoint");
        let best = self.directory.join("best");
        let log = self.directory.join("metrics.jsonl");
        let validation = self.directory.join("validation.jsonl");
        files::recover_directory(&best)?;
        self.model.set_gradient_checkpointing(self.config.gradient_checkpointing);
        let mut optimizer = Optimizer::new(self.config.optimizer, &self.model.params())?;
        let restored = restore(&checkpoint, self.model, &mut optimizer)?;
        let fresh = restored.is_none();
        let mut cursor = restored.unwrap_or_default();
        // a run may have been interrupted between a step and its validation
        let mut validated = match cursor.extra.get("validated") {
            Some(step) => step.as_u64(),
            // checkpoints of earlier versions come after it
            None => (!fresh).then_some(cursor.step),
        };
        for (path, last) in [(&log, (!fresh).then_some(cursor.step)), (&validation, validated)] {
            files::retain_jsonl(path, |line| line["step"].as_u64().zip(last).is_some_and(|(s, last)| s <= last))?;
        }
        let config = self.config;
        let mut signal = Signal::new(config);
        if !fresh && log.exists() {
            // of lines that an earlier version wrote nothing is known
            let lines: Vec<Value> = files::read_jsonl(&log)?;
            let steps = lines.into_iter().filter_map(|line| serde_json::from_value(line).ok());
            steps.for_each(|facts| drop(signal.observe(facts)));
        }
        // a run that came to nothing comes to nothing again
        signal.check()?;
        let schedule = Schedule {
            peak: self.config.lr,
            warmup: self.config.warmup_steps,
            total: self.config.steps,
            decay: Decay::Constant,
            floor: 1.0,
        };
        let batch_dump = self.directory.join("non_finite_batch.json");
        let mut guard = NonFiniteGuard::new("dapo", self.config.max_skipped, batch_dump);
        let progress = Progress::new("dapo", self.config.steps, cursor.step);
        let mut saved = Instant::now();
        // as bits: a score that changed on its way through JSON might be beaten by itself
        let note = |best: Option<f64>, validated: Option<u64>| json!({ "best": best.map(f64::to_bits), "validated": validated });
        let mut best_score = cursor.extra["best"].as_u64().map(f64::from_bits);
        cursor.extra = note(best_score, validated);
        // as long as there is something to save, an interrupt is answered by a checkpoint, not by an end from outside
        let mut unsaved: Option<Hold> = None;
        loop {
            let DapoConfig { validate_every: every, steps, .. } = *self.config;
            let due = every > 0 && (cursor.step % every == 0 || cursor.step == steps);
            if due && validated != Some(cursor.step) {
                best_score = match self.measure(validate, &validation, &best, cursor.step, best_score) {
                    Err(stopped @ Error::Interrupted { .. }) => {
                        if unsaved.is_some() {
                            self.save(&optimizer, &cursor, &checkpoint)?;
                        }
                        return Err(stopped);
                    }
                    found => found?,
                };
                validated = Some(cursor.step);
                cursor.extra = note(best_score, validated);
                unsaved.get_or_insert_with(hold);
            }
            if cursor.step >= steps {
                break;
            }
            if saved.elapsed().as_secs() >= self.config.checkpoint_seconds && unsaved.is_some() {
                self.save(&optimizer, &cursor, &checkpoint)?;
                (saved, unsaved) = (Instant::now(), None);
            }
            let lr = schedule.at(cursor.step);
            let (before, mut updating) = (cursor.clone(), false);
            let line = match self.step(task, &mut optimizer, &mut cursor, &mut guard, lr, &mut updating) {
                // nothing is updated yet: the step begins anew where the run goes on
                Err(stopped @ Error::Interrupted { .. }) if !updating => {
                    if unsaved.is_some() {
                        self.save(&optimizer, &before, &checkpoint)?;
                    }
                    return Err(stopped);
                }
                line => line?,
            };
            unsaved.get_or_insert_with(hold);
            progress
                .advance(1, format_args!("reward {:.3} valid {:.2}", line.rollouts.reward, line.rollouts.valid_rate));
            files::append_jsonl(&log, &line)?;
            if let Some(warning) = signal.observe(line.facts()) {
                say!("{warning}");
            }
            if let Err(nothing_learnt) = signal.check() {
                self.save(&optimizer, &cursor, &checkpoint)?;
                return Err(nothing_learnt);
            }
        }
        self.save(&optimizer, &cursor, &checkpoint)?;
        if best.exists() {
            *self.model = model::load(&best, self.model.device())?;
        }
        let updates = optimizer.updates();
        progress.finish(format_args!("{} steps, {updates} updates, {} skipped", cursor.step, guard.skipped));
        Ok(updates)
    }

    fn save(&self, optimizer: &Optimizer, cursor: &Cursor, directory: &Path) -> Result<()> {
        save(&Snapshot { model: self.model, tokenizer: self.tokenizer, optimizer: Some(optimizer), cursor }, directory)
    }

    /// Measures the policy and keeps it in `best` if it beats `score`. Returns the better score.
    fn measure(
        &self,
        validate: &dyn Fn(&Qwen3) -> Result<Option<f64>>,
        log: &Path,
        best: &Path,
        step: u64,
        score: Option<f64>,
    ) -> Result<Option<f64>> {
        let Some(found) = validate(self.model)? else { return Ok(score) };
        files::append_jsonl(log, &json!({ "step": step, "validation_ndcg@5": found }))?;
        if score.is_some_and(|score| found <= score) {
            return Ok(score);
        }
        let cursor = Cursor { step, ..Cursor::default() };
        save(&Snapshot { model: self.model, tokenizer: self.tokenizer, optimizer: None, cursor: &cursor }, best)?;
        Ok(Some(found))
    }

    /// One step: rollouts of a full batch of groups with signal, then the updates; `updating` is set before the first of them.
    fn step(
        &mut self,
        task: &dyn Task,
        optimizer: &mut Optimizer,
        cursor: &mut Cursor,
        guard: &mut NonFiniteGuard,
        lr: f64,
        updating: &mut bool,
    ) -> Result<Line> {
        let started = Instant::now();
        let mut sampling = DynamicSampling::new(self.config.batch_prompts, self.config.max_rounds)?;
        let mut all: Vec<Sampled> = vec![];
        let mut round = 0;
        while let SamplingVerdict::More(wanted) = sampling.verdict() {
            let sampled = self.sample(task, cursor, round, wanted)?;
            let offers =
                sampled.iter().enumerate().map(|(i, s)| (s.rewards.iter().map(|r| r.raw).collect(), all.len() + i));
            sampling.offer(offers.collect())?;
            all.extend(sampled);
            round += 1;
        }
        let (kept, sampling) = sampling.finish();
        let rollout_seconds = started.elapsed().as_secs_f64();
        let generated: usize = all.iter().flat_map(|s| &s.rollouts).map(|r| r.tokens.len()).sum();
        let rollouts = rollout_stats(&self.records(&all), self.config.group_size)?;

        let started = Instant::now();
        let mut groups = self.groups(task, kept.iter().map(|&i| &all[i]))?;
        cursor.step += 1;
        let update = self.update(&mut groups, optimizer, guard, lr, cursor.step, updating)?;
        Ok(Line {
            step: cursor.step,
            rollouts,
            sampling,
            policy: update.metrics.stats(),
            gap: update.gap,
            entropy: update.entropy,
            loss: update.loss,
            grad_norm: update.grad_norm,
            lr,
            updates: optimizer.updates(),
            skipped: guard.skipped,
            rollout_seconds,
            update_seconds: started.elapsed().as_secs_f64(),
            rollout_tokens_per_s: generated as f64 / rollout_seconds,
        })
    }

    /// The updates of one step.
    fn update(
        &mut self,
        groups: &mut [Group],
        optimizer: &mut Optimizer,
        guard: &mut NonFiniteGuard,
        lr: f64,
        step: u64,
        updating: &mut bool,
    ) -> Result<Update> {
        let mut update = Update::default();
        if groups.is_empty() {
            return Ok(update);
        }
        let temperature = self.config.temperature;
        let size = groups.len().div_ceil(self.config.minibatches);
        let count = groups.chunks(size).len() as f64;
        let mut seen = Seen::default();
        // The old policy's log-probabilities are the training engine's own. Those of the first minibatch are found on the
        // way, since nothing is updated before it.
        for minibatch in groups.chunks_mut(size).skip(1) {
            for pass in passes(minibatch, self.config.pass_tokens) {
                let groups = &mut minibatch[pass];
                let found = response_logps(self.model, groups, temperature)?;
                seen.add(groups, &found);
                let mut left = found.logps.as_slice();
                for response in groups.iter_mut().flat_map(|g| &mut g.responses) {
                    let (own, rest) = left.split_at(response.actions().count());
                    (response.logp_old, left) = (Some(own.to_vec()), rest);
                }
            }
        }
        for (at, minibatch) in groups.chunks(size).enumerate() {
            let actions: usize = minibatch.iter().flat_map(|g| &g.responses).map(|r| r.actions().count()).sum();
            let scale = optimizer.loss_scale().factor();
            let (mut loss, mut sum): (f64, Option<Gradients>) = (0.0, None);
            for pass in passes(minibatch, self.config.pass_tokens) {
                let groups = &minibatch[pass];
                let part = policy_gradients(self.model, groups, temperature, &self.config.clip, actions, scale)?;
                if at == 0 {
                    seen.add(groups, &part.actions);
                }
                loss += part.loss;
                update.metrics.merge(&part.metrics);
                match &mut sum {
                    None => sum = Some(part.gradients),
                    Some(sum) => sum.merge(part.gradients)?,
                }
            }
            let Some(mut gradients) = sum else { continue };
            check_interrupt()?;
            *updating = true;
            let report = match loss.is_finite() {
                true => optimizer.step(self.model.params_mut(), &mut gradients, lr)?,
                false => StepReport::NOT_TRIED,
            };
            update.loss += loss / count;
            update.grad_norm += report.grad_norm / count;
            guard.observe(step, &report, loss, &minibatch[0].prompt)?;
        }
        (update.gap, update.entropy) = seen.close()?;
        Ok(update)
    }
}

/// The actions of a step, as sampling and as training saw them.
#[derive(Default)]
struct Seen {
    sampled: Vec<f32>,
    trained: Vec<f32>,
    entropy: f64,
}

impl Seen {
    fn add(&mut self, groups: &[Group], found: &Logps) {
        for response in groups.iter().flat_map(|g| &g.responses) {
            self.sampled.extend(response.actions().map(|i| response.logp_sampled[i]));
        }
        self.trained.extend(&found.logps);
        self.entropy += found.entropy;
    }

    /// The gap between the two, and the mean entropy.
    fn close(self) -> Result<(LogprobGap, f64)> {
        let gap = logprob_gap(&self.sampled, &self.trained, &vec![true; self.trained.len()])?;
        Ok((gap, self.entropy / self.trained.len().max(1) as f64))
    }
}

/// Means over the updates of one step.
#[derive(Default)]
struct Update {
    metrics: DapoMetrics,
    gap: LogprobGap,
    entropy: f64,
    loss: f64,
    grad_norm: f64,
}

/// Splits groups into passes of at most `budget` tokens, a prompt counted once; each is at least one group.
fn passes(groups: &[Group], budget: usize) -> Vec<std::ops::Range<usize>> {
    let tokens = |g: &Group| g.prompt.len() + g.responses.iter().map(|r| r.tokens.len()).sum::<usize>();
    crate::data::batches(&groups.iter().map(tokens).collect::<Vec<_>>(), budget)
}
