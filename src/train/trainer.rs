//! The loop.

use super::checkpoint::{Cursor, Snapshot, restore, save};
use super::{NonFiniteGuard, TrainConfig};
use crate::autograd::{Gradients, Tape};
use crate::console::{Hold, Progress, check_interrupt, hold, say};
use crate::data::{Batch, Examples};
use crate::error::{Error, Result};
use crate::model::Qwen3;
use crate::nn::{Dropout, Packed};
use crate::optim::{Optimizer, Schedule, StepReport};
use crate::tensor::{Tensor, stream};
use crate::text::Tokenizer;
use crate::{files, ops};
use rand::RngExt;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::Path;
use std::time::Instant;

/// Weighted mean negative log-likelihood of a batch, `−Σ w log p / Σ w`, and its gradients times `scale`.
///
/// Errors: `Shape` for a batch without predictions; `Kernel`.
pub fn loss_and_gradients(
    model: &Qwen3,
    batch: &Batch,
    dropout: Option<Dropout>,
    scale: f64,
) -> Result<(f64, Gradients)> {
    let total: f64 = batch.weights.iter().map(|&w| w as f64).sum();
    if total <= 0.0 {
        return Err(Error::Shape { op: "loss", problem: "the batch has no token with a weight".into() });
    }
    let tape = Tape::new();
    let mut context = Packed::new(batch.segments.clone()).with_dropout(dropout);
    let rows = model.hidden_of(&tape, &batch.ids, &batch.rows, &mut context)?;
    let predicted = ops::linear_logprob(&tape, &rows, &tape.param(model.head()), &batch.targets, 1.0)?;
    let logp = predicted.logp;
    let seed: Vec<f64> = batch.weights.iter().map(|&w| -(w as f64) / total).collect();
    let seed = Tensor::from_f64(model.device(), logp.tensor().dtype(), &seed, logp.tensor().shape().clone())?;
    let gradients = tape.backward_scaled(&[(&logp, seed)], scale)?;
    // read last: a GPU is not waited for before it has everything to do
    let logp = logp.tensor().to_f64()?;
    let loss = -logp.iter().zip(&batch.weights).map(|(l, &w)| l * w as f64).sum::<f64>() / total;
    Ok((loss, gradients))
}

/// One training stage.
pub struct Trainer<'a> {
    /// Name of the stage, in messages and random streams.
    pub stage: &'a str,
    /// What is trained.
    pub model: &'a mut Qwen3,
    /// Saved with every checkpoint.
    pub tokenizer: &'a Tokenizer,
    /// Settings.
    pub config: &'a TrainConfig,
    /// Seed of the order of examples.
    pub seed: u64,
    /// Directory of `checkpoint/` and `metrics.jsonl`.
    pub directory: &'a Path,
}

/// One line of `metrics.jsonl`: means over the updates since the last line that were not skipped, null if all were.
#[derive(Debug, Serialize)]
struct Metrics {
    step: u64,
    epoch: f64,
    loss: f64,
    lr: f64,
    grad_norm: f64,
    tokens: usize,
    tokens_per_s: f64,
    skipped: u64,
    /// Sequences cut at the maximum length since the stage began.
    cut: u64,
}

/// Updates between lines of `metrics.jsonl`.
const LOG_EVERY: u64 = 10;

impl Trainer<'_> {
    /// Trains to the end, from the last checkpoint if there is one. Returns the number of updates made.
    ///
    /// Errors: `Run` without examples, or if no update was made; `NonFinite`, `Interrupted` (after saving), `Io`, `Kernel`.
    pub fn run(self, examples: &dyn Examples) -> Result<u64> {
        if examples.is_empty() {
            return Err(
                self.nothing_learnt("no training sequences".into(), "look at the results of the stages before".into())
            );
        }
        std::fs::create_dir_all(self.directory).map_err(Error::io(self.directory))?;
        let checkpoint = self.directory.join("checkpoint");
        let metrics = self.directory.join("metrics.jsonl");
        self.model.set_gradient_checkpointing(self.config.gradient_checkpointing);
        let mut optimizer = Optimizer::new(self.config.optimizer, &self.model.params())?;
        let mut cursor = restore(&checkpoint, self.model, &mut optimizer)?.unwrap_or_default();
        files::retain_jsonl(&metrics, |line| line["step"].as_u64().is_some_and(|s| s <= cursor.step))?;

        let size = examples.len();
        let total = self.total_examples(examples)?;
        let warmup = (self.config.warmup * total as f64) as u64;
        let schedule =
            Schedule { peak: self.config.lr, warmup, total, decay: self.config.decay, floor: self.config.lr_floor };
        let batch_dump = self.directory.join("non_finite_batch.json");
        let mut guard = NonFiniteGuard::new(self.stage, self.config.max_skipped, batch_dump.clone());
        let seen = |c: &Cursor| c.epoch * size as u64 + c.position as u64;
        let progress = Progress::new(self.stage, total, seen(&cursor));
        let mut saved = Instant::now();
        let mut window = Window::resume(cursor.extra.take(), &checkpoint)?;
        let finished = |c: &Cursor| seen(c) >= total || self.config.max_steps > 0 && c.step >= self.config.max_steps;
        let mut order = self.order(cursor.epoch, size);
        // as long as there is something to save, an interrupt is answered by a checkpoint, not by an end from outside
        let mut unsaved: Option<Hold> = None;
        while !finished(&cursor) {
            let lr = schedule.at(seen(&cursor));
            let (before, cut) = (cursor.clone(), window.cut);
            let scale = optimizer.loss_scale().factor();
            let (batch, found) = match self.gradients(examples, &order, &mut cursor, &mut window, scale) {
                // nothing is updated yet: the step begins anew where the run goes on
                Err(stopped @ Error::Interrupted { .. }) => {
                    (cursor, window.cut) = (before, cut);
                    if unsaved.is_some() {
                        self.save(&optimizer, &mut cursor, &window, &checkpoint)?;
                    }
                    return Err(stopped);
                }
                found => found?,
            };
            let (mut loss, mut report) = (f64::NAN, None);
            if let Some((found, mut gradients)) = found {
                loss = found;
                let params = self.model.params_mut();
                report = Some(match loss.is_finite() {
                    true => optimizer.step(params, &mut gradients, lr)?,
                    false => StepReport::NOT_TRIED,
                });
            }
            unsaved.get_or_insert_with(hold);
            cursor.step += 1;
            if cursor.position >= size {
                (cursor.epoch, cursor.position) = (cursor.epoch + 1, 0);
                order = self.order(cursor.epoch, size);
            }
            let Some(report) = report else { continue };
            guard.observe(cursor.step, &report, loss, &batch.ids)?;
            if report.applied {
                window.add(loss, report.grad_norm, batch.ids.len());
            }
            progress.advance(seen(&cursor) - progress.position(), format_args!("loss {loss:.4} lr {lr:.2e}"));
            if cursor.step % LOG_EVERY == 0 || finished(&cursor) {
                let epoch = seen(&cursor) as f64 / size as f64;
                files::append_jsonl(&metrics, &window.close(cursor.step, epoch, lr, guard.skipped))?;
            }
            if saved.elapsed().as_secs() >= self.config.checkpoint_seconds {
                self.save(&optimizer, &mut cursor, &window, &checkpoint)?;
                (saved, unsaved) = (Instant::now(), None);
            }
        }
        self.save(&optimizer, &mut cursor, &window, &checkpoint)?;
        let updates = optimizer.updates();
        let cut = match window.cut {
            0 => String::new(),
            cut => format!(", {cut} sequences cut at {} tokens", self.config.max_length),
        };
        progress.finish(format_args!("{updates} updates, {} skipped{cut}", guard.skipped));
        let steps = cursor.step;
        if updates > 0 {
            Ok(updates)
        } else if batch_dump.exists() {
            let problem = format!("{steps} steps, 0 updates: every loss or gradient was NaN or infinite");
            let hint = format!("lower {}.train.lr, or look at {}", self.stage, batch_dump.display());
            Err(self.nothing_learnt(problem, hint))
        } else {
            let problem = format!("{steps} steps, 0 updates: no token of {size} sequences has a weight");
            let hint = format!("look at {}.train.max_length = {}", self.stage, self.config.max_length);
            Err(self.nothing_learnt(problem, hint))
        }
    }

    fn nothing_learnt(&self, problem: String, hint: String) -> Error {
        Error::Run { stage: self.stage.into(), problem, hint: Some(hint) }
    }

    /// The next batch, and its loss and gradients unless it predicts nothing.
    fn gradients(
        &self,
        examples: &dyn Examples,
        order: &[usize],
        cursor: &mut Cursor,
        window: &mut Window,
        scale: f64,
    ) -> Result<(Batch, Option<(f64, Gradients)>)> {
        check_interrupt()?;
        let batch = self.next_batch(examples, order, cursor, window)?;
        if batch.rows.is_empty() {
            return Ok((batch, None));
        }
        let seed = stream(self.seed, &format!("{} dropout", self.stage), cursor.step, 0).random();
        let dropout = Some(Dropout { p: self.config.dropout, seed });
        let found = loss_and_gradients(self.model, &batch, dropout, scale)?;
        Ok((batch, Some(found)))
    }

    fn save(&self, optimizer: &Optimizer, cursor: &mut Cursor, window: &Window, directory: &Path) -> Result<()> {
        cursor.extra = serde_json::to_value(window).expect("invariant: sums serialise");
        save(&Snapshot { model: self.model, tokenizer: self.tokenizer, optimizer: Some(optimizer), cursor }, directory)
    }

    /// Examples of the whole run: all epochs, or as many as the step limit takes.
    fn total_examples(&self, examples: &dyn Examples) -> Result<u64> {
        let all = self.config.epochs.saturating_mul(examples.len() as u64);
        if self.config.max_steps == 0 {
            return Ok(all);
        }
        let lengths: Vec<usize> = (0..examples.len())
            .map(|i| Ok(examples.get(0, i)?.tokens.len().min(self.config.max_length)))
            .collect::<Result<_>>()?;
        let batches = crate::data::batches(&lengths, self.config.batch_tokens).len() as u64;
        Ok(all.min(self.config.max_steps.saturating_mul(examples.len() as u64) / batches.max(1)).max(1))
    }

    fn order(&self, epoch: u64, size: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..size).collect();
        order.shuffle(&mut stream(self.seed, &format!("{} order", self.stage), epoch, 0));
        order
    }

    /// Examples from the cursor on until the token budget is full; at least one. Longer ones are cut at the end, and counted.
    fn next_batch(
        &self,
        examples: &dyn Examples,
        order: &[usize],
        cursor: &mut Cursor,
        window: &mut Window,
    ) -> Result<Batch> {
        let (mut members, mut filled) = (vec![], 0);
        while let Some(&index) = order.get(cursor.position) {
            let mut example = examples.get(cursor.epoch, index)?;
            let length = example.tokens.len().min(self.config.max_length);
            if !members.is_empty() && filled + length > self.config.batch_tokens {
                break;
            }
            if length < example.tokens.len() {
                if window.cut == 0 {
                    let (stage, whole) = (self.stage, example.tokens.len());
                    say!("{stage}: a sequence of {whole} tokens is cut at {stage}.train.max_length = {length}");
                }
                window.cut += 1;
                example.tokens.truncate(length);
                example.weights.truncate(length);
            }
            filled += length;
            members.push(example);
            cursor.position += 1;
        }
        Batch::pack(&members)
    }
}

/// Sums between two lines of metrics. They are part of a checkpoint, so that a resumed run writes the lines that it would
/// have written.
#[derive(Serialize, Deserialize)]
struct Window {
    updates: usize,
    loss: f64,
    grad_norm: f64,
    tokens: usize,
    /// Sequences cut since the stage began.
    #[serde(default)]
    cut: u64,
    /// Rate of this process: neither the tokens before a resumption nor the time between count.
    #[serde(skip, default = "Rate::new")]
    rate: Rate,
}

struct Rate {
    since: Instant,
    tokens: usize,
}

impl Rate {
    fn new() -> Rate {
        Rate { since: Instant::now(), tokens: 0 }
    }
}

impl Window {
    fn new() -> Window {
        Window { updates: 0, loss: 0.0, grad_norm: 0.0, tokens: 0, cut: 0, rate: Rate::new() }
    }

    /// The sums of a checkpoint, or none yet.
    fn resume(saved: Value, checkpoint: &Path) -> Result<Window> {
        if saved.is_null() {
            return Ok(Window::new());
        }
        serde_json::from_value(saved).map_err(|e| Error::Weights {
            path: checkpoint.into(),
            tensor: "training state".into(),
            problem: format!("damaged: {e}"),
        })
    }

    fn add(&mut self, loss: f64, grad_norm: f64, tokens: usize) {
        self.updates += 1;
        self.loss += loss;
        self.grad_norm += grad_norm;
        self.tokens += tokens;
        self.rate.tokens += tokens;
    }

    fn close(&mut self, step: u64, epoch: f64, lr: f64, skipped: u64) -> Metrics {
        let n = self.updates as f64;
        let line = Metrics {
            step,
            epoch,
            loss: self.loss / n,
            lr,
            grad_norm: self.grad_norm / n,
            tokens: self.tokens,
            tokens_per_s: self.rate.tokens as f64 / self.rate.since.elapsed().as_secs_f64(),
            skipped,
            cut: self.cut,
        };
        *self = Window { cut: self.cut, ..Window::new() };
        line
    }
}
