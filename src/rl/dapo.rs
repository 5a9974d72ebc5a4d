//! The clipped objective of DAPO, with its gradient with respect to the log-probabilities.

use serde::{Deserialize, Serialize};

use crate::bounds::{LARGE, Section, above};
use crate::error::{Error, Result};

/// Log-ratios are held inside ±20 before the exponential, as in verl; the gradient is zero outside.
const LOG_RATIO_LIMIT: f64 = 20.0;

/// How far the ratio of new to old probability may leave 1 before a token stops pulling.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Clip {
    /// The ratio is held above `1 - low`. Default 0.2 (DAPO).
    pub low: f32,
    /// The ratio is held below `1 + high`. Default 0.28 (DAPO's clip-higher).
    pub high: f32,
    /// Dual clip: with a negative advantage the ratio is held below this as well. Default off; verl's own default is 3, its
    /// DAPO script sets 10. TRL's `delta` is the same cap.
    pub dual: Option<f32>,
}

impl Default for Clip {
    fn default() -> Self {
        Self { low: 0.2, high: 0.28, dual: None }
    }
}

impl Clip {
    /// Checks the ranges; `section` is the dotted name of this table in the configuration file, as in `dapo.clip`.
    ///
    /// Errors: `Config` naming the field.
    pub fn validate(&self, section: &str) -> Result<()> {
        let at = Section::new(section);
        at.number("low", self.low, above(0.0, 1.0))?;
        at.number("high", self.high, above(0.0, LARGE))?;
        match self.dual {
            Some(dual) if dual <= 1.0 + self.high => {
                at.refuse("dual", format!("{dual}: expected a number above 1 + high = {}", 1.0 + self.high))
            }
            Some(dual) => at.number("dual", dual, above(1.0, 2.0 * LARGE)),
            None => Ok(()),
        }
    }
}

/// The generated tokens of some sequences, laid end to end; prompt and padding rows may be among them, masked.
#[derive(Debug, Clone, Copy)]
pub struct DapoBatch<'a> {
    /// Log-probability of each token under the policy in training, at the sampling temperature. (R)
    pub logp: &'a [f32],
    /// The same under the policy that sampled it. (R)
    pub logp_old: &'a [f32],
    /// True for tokens that the policy generated. (R)
    pub mask: &'a [bool],
    /// Sequence `s` holds rows `offsets[s] .. offsets[s + 1]`. (S + 1)
    pub offsets: &'a [usize],
    /// One per sequence. (S)
    pub advantage: &'a [f32],
    /// Unmasked tokens of the whole global batch, of which these sequences may be a part: the divisor of the loss.
    pub global_tokens: usize,
}

/// What [`dapo_loss`] returns. Losses, gradients and metrics of parts of a global batch simply add up.
#[derive(Debug, Clone)]
pub struct DapoLoss {
    /// This part's share of the loss of the global batch.
    pub loss: f64,
    /// Derivative of the loss with respect to each `logp`; zero where masked. (R)
    pub grad: Vec<f32>,
    /// Sums over the unmasked tokens.
    pub metrics: DapoMetrics,
}

/// Sums over unmasked tokens, to be [merged](Self::merge) over the parts of a step and read as [`PolicyStats`](Self::stats).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DapoMetrics {
    tokens: usize,
    clipped_low: usize,
    clipped_high: usize,
    clipped_dual: usize,
    ratio_sum: f64,
    ratio_min: f64,
    ratio_max: f64,
    kl_sum: f64,
}

impl Default for DapoMetrics {
    fn default() -> Self {
        let (ratio_min, ratio_max) = (f64::INFINITY, f64::NEG_INFINITY);
        let (tokens, clipped_low, clipped_high, clipped_dual) = (0, 0, 0, 0);
        Self { tokens, clipped_low, clipped_high, clipped_dual, ratio_sum: 0.0, ratio_min, ratio_max, kl_sum: 0.0 }
    }
}

/// How the policy moved in a step, named as in the metrics log.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct PolicyStats {
    /// Share of tokens with a negative advantage whose ratio is below `1 - low`.
    pub clip_low: f64,
    /// Share of tokens with a positive advantage whose ratio is above `1 + high`.
    pub clip_high: f64,
    /// Share of tokens with a negative advantage whose ratio is above the dual clip.
    pub clip_dual: f64,
    /// Mean ratio of new to old probability.
    pub ratio_mean: f64,
    /// Smallest ratio.
    pub ratio_min: f64,
    /// Largest ratio.
    pub ratio_max: f64,
    /// Mean of `logp_old - logp`, each held inside ±20: the k1 estimate of the divergence from the old policy.
    pub approx_kl: f64,
    /// Unmasked tokens.
    pub loss_tokens: usize,
}

impl DapoMetrics {
    /// Adds the sums of another part of the same step.
    pub fn merge(&mut self, other: &Self) {
        self.tokens += other.tokens;
        self.clipped_low += other.clipped_low;
        self.clipped_high += other.clipped_high;
        self.clipped_dual += other.clipped_dual;
        self.ratio_sum += other.ratio_sum;
        self.ratio_min = self.ratio_min.min(other.ratio_min);
        self.ratio_max = self.ratio_max.max(other.ratio_max);
        self.kl_sum += other.kl_sum;
    }

    /// Shares and means; all zero if there was no token.
    pub fn stats(&self) -> PolicyStats {
        if self.tokens == 0 {
            return PolicyStats::default();
        }
        let tokens = self.tokens as f64;
        PolicyStats {
            clip_low: self.clipped_low as f64 / tokens,
            clip_high: self.clipped_high as f64 / tokens,
            clip_dual: self.clipped_dual as f64 / tokens,
            ratio_mean: self.ratio_sum / tokens,
            ratio_min: self.ratio_min,
            ratio_max: self.ratio_max,
            approx_kl: self.kl_sum / tokens,
            loss_tokens: self.tokens,
        }
    }

    fn add(&mut self, term: &ClippedTerm) {
        self.tokens += 1;
        self.clipped_low += usize::from(term.branch == Branch::Low);
        self.clipped_high += usize::from(term.branch == Branch::High);
        self.clipped_dual += usize::from(term.branch == Branch::Dual);
        self.ratio_sum += term.ratio;
        self.ratio_min = self.ratio_min.min(term.ratio);
        self.ratio_max = self.ratio_max.max(term.ratio);
        self.kl_sum -= term.log_ratio;
    }
}

/// Loss of one token, its slope, and which bound decided it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClippedTerm {
    /// The loss.
    pub loss: f64,
    /// Its derivative with respect to the log-ratio.
    pub slope: f64,
    /// The ratio of new to old probability.
    pub ratio: f64,
    /// The bound that decided the loss.
    pub branch: Branch,
    log_ratio: f64,
}

/// The bound that decided the loss of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Branch {
    /// None: the ratio itself.
    Free,
    /// The lower bound, with a negative advantage.
    Low,
    /// The upper bound, with a positive advantage.
    High,
    /// The dual clip, with a negative advantage.
    Dual,
}

/// `max(-A r, -A clip(r, 1 - low, 1 + high))` with `r = exp(log_ratio)`, for `A < 0` at most `-A dual`; in f64.
///
/// A NaN stays a NaN, in the loss and in the slope.
/// Source: PPO's clipped surrogate with DAPO's two bounds (arXiv:2503.14476, eq. 8), dual clip as in verl's
/// `compute_policy_loss_vanilla`.
pub fn clipped_term(log_ratio: f64, advantage: f64, clip: &Clip) -> ClippedTerm {
    let log_ratio_held = log_ratio.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT);
    let ratio = log_ratio_held.exp();
    let (low, high) = (1.0 - clip.low as f64, 1.0 + clip.high as f64);
    let decided = |loss: f64, slope: f64, branch| ClippedTerm { loss, slope, ratio, branch, log_ratio: log_ratio_held };
    if advantage > 0.0 && ratio > high {
        return decided(-advantage * high, 0.0, Branch::High);
    }
    if advantage < 0.0 && ratio < low {
        return decided(-advantage * low, 0.0, Branch::Low);
    }
    if let Some(dual) = clip.dual.map(f64::from)
        && advantage < 0.0
        && ratio > dual
    {
        return decided(-advantage * dual, 0.0, Branch::Dual);
    }
    // Outside the held range the ratio is a constant. A NaN is not outside, and passes on.
    let slope = if log_ratio.abs() > LOG_RATIO_LIMIT { 0.0 } else { -advantage * ratio };
    decided(-advantage * ratio, slope, Branch::Free)
}

/// Token-mean clipped objective of DAPO, negated for minimising: the sum of [`clipped_term`] over the unmasked tokens, over
/// `global_tokens`.
///
/// Shapes: see [`DapoBatch`]. Sums in f64. Log-probabilities of masked rows are not read. A NaN in an unmasked row makes the
/// loss and that row's gradient NaN, for the caller's check of non-finite updates to find.
/// Errors: `Shape` if lengths disagree, offsets do not cover the rows in order, or `global_tokens` is 0 or fewer than the
/// unmasked tokens here.
/// Source: Yu et al. 2025, arXiv:2503.14476, eq. 8 and 12; agrees with TRL's `loss_type="dapo"` and verl's `token-mean`.
pub fn dapo_loss(batch: &DapoBatch, clip: &Clip) -> Result<DapoLoss> {
    check(batch)?;
    let mut loss = 0.0;
    let mut grad = vec![0.0; batch.logp.len()];
    let mut metrics = DapoMetrics::default();
    let per_token = 1.0 / batch.global_tokens as f64;
    for (rows, &advantage) in batch.offsets.windows(2).zip(batch.advantage) {
        for row in (rows[0]..rows[1]).filter(|&row| batch.mask[row]) {
            let log_ratio = batch.logp[row] as f64 - batch.logp_old[row] as f64;
            let term = clipped_term(log_ratio, advantage as f64, clip);
            loss += term.loss;
            grad[row] = (term.slope * per_token) as f32;
            metrics.add(&term);
        }
    }
    Ok(DapoLoss { loss: loss * per_token, grad, metrics })
}

fn check(batch: &DapoBatch) -> Result<()> {
    let refuse = |problem: String| Err(Error::Shape { op: "dapo_loss", problem });
    let rows = batch.logp.len();
    for (name, len) in [("logp_old", batch.logp_old.len()), ("mask", batch.mask.len())] {
        if len != rows {
            return refuse(format!("logp has {rows} rows, {name} has {len}"));
        }
    }
    let offsets = batch.offsets;
    if offsets.len() != batch.advantage.len() + 1 {
        return refuse(format!(
            "{} sequences need one offset more, there are {}",
            batch.advantage.len(),
            offsets.len()
        ));
    }
    if offsets.first() != Some(&0) || offsets.last() != Some(&rows) || !offsets.is_sorted() {
        return refuse(format!("offsets must rise from 0 to {rows} rows"));
    }
    let tokens = batch.mask.iter().filter(|&&m| m).count();
    if batch.global_tokens == 0 || batch.global_tokens < tokens {
        return refuse(format!("global_tokens is {}, {tokens} tokens are unmasked here", batch.global_tokens));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch<'a>(logp: &'a [f32], mask: &'a [bool], offsets: &'a [usize], advantage: &'a [f32]) -> DapoBatch<'a> {
        const OLD: [f32; 8] = [-1.0; 8];
        DapoBatch { logp, logp_old: &OLD[..logp.len()], mask, offsets, advantage, global_tokens: 10 }
    }

    #[test]
    fn masked_rows_are_never_read() {
        let logp = [f32::NAN, -1.0, f32::NEG_INFINITY];
        let out = dapo_loss(&batch(&logp, &[false, true, false], &[0, 3], &[2.0]), &Clip::default()).unwrap();
        assert_eq!((out.loss, &out.grad[..]), (-0.2, &[0.0, -0.2, 0.0][..]));
    }

    #[test]
    fn nan_reaches_loss_and_gradient() {
        for advantage in [1.0, -1.0] {
            let logp = [f32::NAN, -1.0];
            let out = dapo_loss(&batch(&logp, &[true; 2], &[0, 2], &[advantage]), &Clip::default()).unwrap();
            assert!(out.loss.is_nan() && out.grad[0].is_nan() && out.grad[1].is_finite());
        }
    }

    #[test]
    fn metrics_of_parts_merge_to_the_whole() {
        let (logp, mask) = ([-1.0, -0.2, -2.0, 0.4, -0.9], [true; 5]);
        let clip = Clip { dual: Some(3.0), ..Default::default() };
        let whole = dapo_loss(&batch(&logp, &mask, &[0, 2, 5], &[1.0, -1.0]), &clip).unwrap();
        let mut sums = dapo_loss(&batch(&logp[..2], &mask[..2], &[0, 2], &[1.0]), &clip).unwrap().metrics;
        sums.merge(&dapo_loss(&batch(&logp[2..], &mask[2..], &[0, 3], &[-1.0]), &clip).unwrap().metrics);
        let (stats, whole) = (sums.stats(), whole.metrics.stats());
        assert!(
            (stats.ratio_mean - whole.ratio_mean).abs() < 1e-12 && (stats.approx_kl - whole.approx_kl).abs() < 1e-12
        );
        assert_eq!((stats.ratio_min, stats.ratio_max, stats.loss_tokens), (whole.ratio_min, whole.ratio_max, 5));
        assert_eq!((stats.clip_low, stats.clip_high, stats.clip_dual), (0.2, 0.2, 0.2));
        let kl = -(0.0 + 0.8 - 1.0 + 1.4 + 0.1) / 5.0;
        assert!((stats.approx_kl - kl).abs() < 1e-7, "{} against {kl}", stats.approx_kl);
        assert_eq!(DapoMetrics::default().stats(), PolicyStats::default());
    }

    #[test]
    fn disagreeing_lengths_are_refused() {
        let (logp, mask) = ([-1.0; 3], [true; 3]);
        let good = batch(&logp, &mask, &[0, 3], &[1.0]);
        assert!(dapo_loss(&good, &Clip::default()).is_ok());
        for bad in [
            DapoBatch { logp_old: &[-1.0; 2], ..good },
            DapoBatch { mask: &[true; 4], ..good },
            DapoBatch { offsets: &[0, 2], ..good },
            DapoBatch { offsets: &[0, 3, 3], ..good },
            DapoBatch { offsets: &[0, 3, 2, 3], advantage: &[1.0; 3], ..good },
            DapoBatch { global_tokens: 0, ..good },
            DapoBatch { global_tokens: 2, ..good },
        ] {
            assert!(dapo_loss(&bad, &Clip::default()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn clip_ranges() {
        assert!(Clip::default().validate("dapo.clip").is_ok());
        for bad in [
            Clip { low: 0.0, ..Default::default() },
            Clip { low: 1.5, ..Default::default() },
            Clip { high: f32::INFINITY, ..Default::default() },
            Clip { dual: Some(1.1), ..Default::default() },
        ] {
            assert!(bad.validate("dapo.clip").is_err(), "{bad:?}");
        }
    }
}
