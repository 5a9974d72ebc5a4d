//! What the rollouts of one step say about the policy, named as in the metrics log.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::advantage::check_groups;
use super::filter::has_signal;
use super::{Outcome, Reward};
use crate::error::{Error, Result};

/// One rollout, as the monitor sees it.
#[derive(Debug, Clone, Copy)]
pub struct RolloutRecord<'a> {
    /// What it achieved.
    pub outcome: Outcome,
    /// What that earned.
    pub reward: Reward,
    /// What its length cost, at most 0.
    pub overlong: f32,
    /// Whether the answer is valid and equal to the incoming order.
    pub copied: bool,
    /// The generated token ids.
    pub tokens: &'a [u32],
    /// Whether generation was cut off before it ended by itself.
    pub truncated: bool,
}

/// Statistics of the rollouts of one step. Shares are over all rollouts unless said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RolloutStats {
    /// Mean reward before length shaping.
    pub reward: f64,
    /// Its sample standard deviation over all rollouts.
    pub reward_std: f64,
    /// Mean rank promotion (invalid answers count 0).
    pub reward_rank: f64,
    /// Mean format bonus (invalid answers count 0).
    pub reward_format: f64,
    /// Mean length term.
    pub reward_overlong: f64,
    /// Share of valid answers.
    pub valid_rate: f64,
    /// Share of answers that are valid and equal to the incoming order.
    pub order_copy_rate: f64,
    /// Share of answers that are valid and promote the target.
    pub promoted_share: f64,
    /// Share of answers that are valid and demote the target.
    pub demoted_share: f64,
    /// Share of groups whose raw outcomes are all the same.
    pub zero_variance_share: f64,
    /// Mean number of generated tokens.
    pub length_mean: f64,
    /// Fewest generated tokens.
    pub length_min: usize,
    /// Most generated tokens.
    pub length_max: usize,
    /// Share of rollouts cut off at the limit.
    pub truncated_share: f64,
    /// Share of rollouts whose tokens repeat those of an earlier rollout of the same group.
    pub duplicate_share: f64,
}

/// Sums up the rollouts of one step: groups of `group` consecutive rollouts of the same prompt.
///
/// Errors: as [`group_advantages`](super::group_advantages).
pub fn rollout_stats(rollouts: &[RolloutRecord], group: usize) -> Result<RolloutStats> {
    let raw: Vec<f32> = rollouts.iter().map(|r| r.reward.raw).collect();
    check_groups("rollout_stats", &raw, group)?;
    let count = rollouts.len() as f64;
    let mean = |value: &dyn Fn(&RolloutRecord) -> f64| rollouts.iter().map(value).sum::<f64>() / count;
    let share = |holds: &dyn Fn(&RolloutRecord) -> bool| mean(&|r| f64::from(u8::from(holds(r))));
    let promotion = |r: &RolloutRecord| match r.outcome {
        Outcome::Valid { rank_pre, rank_re, .. } => rank_pre.cmp(&rank_re),
        Outcome::Invalid => std::cmp::Ordering::Equal,
    };
    let reward = mean(&|r| r.reward.total as f64);
    let square = mean(&|r| (r.reward.total as f64 - reward).powi(2)) * count;
    let lengths = || rollouts.iter().map(|r| r.tokens.len());
    let duplicates: usize = rollouts.chunks_exact(group).map(repeated).sum();
    let flat_groups = raw.chunks_exact(group).filter(|raw| !has_signal(raw)).count();
    Ok(RolloutStats {
        reward,
        reward_std: (square / (count - 1.0)).sqrt(),
        reward_rank: mean(&|r| r.reward.rank as f64),
        reward_format: mean(&|r| r.reward.format as f64),
        reward_overlong: mean(&|r| r.overlong as f64),
        valid_rate: share(&|r| r.outcome != Outcome::Invalid),
        order_copy_rate: share(&|r| r.copied),
        promoted_share: share(&|r| promotion(r).is_gt()),
        demoted_share: share(&|r| promotion(r).is_lt()),
        zero_variance_share: flat_groups as f64 * group as f64 / count,
        length_mean: mean(&|r| r.tokens.len() as f64),
        length_min: lengths().min().unwrap_or(0),
        length_max: lengths().max().unwrap_or(0),
        truncated_share: share(&|r| r.truncated),
        duplicate_share: duplicates as f64 / count,
    })
}

fn repeated(group: &[RolloutRecord]) -> usize {
    let distinct: HashSet<&[u32]> = group.iter().map(|r| r.tokens).collect();
    group.len() - distinct.len()
}

/// How far the log-probabilities that sampling saw are from those that training computes for the same tokens and weights.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct LogprobGap {
    /// Mean of `|logp_rollout - logp_train|` over unmasked tokens; 0 if there is none.
    pub logprob_gap_mean: f64,
    /// Largest of them.
    pub logprob_gap_max: f64,
}

/// Compares two computations of the same log-probabilities. A NaN in an unmasked row makes both numbers NaN.
///
/// Shapes: all (R).
/// Errors: `Shape` if lengths disagree.
pub fn logprob_gap(rollout: &[f32], train: &[f32], mask: &[bool]) -> Result<LogprobGap> {
    if rollout.len() != train.len() || rollout.len() != mask.len() {
        let problem = format!("rollout has {} rows, train {}, mask {}", rollout.len(), train.len(), mask.len());
        return Err(Error::Shape { op: "logprob_gap", problem });
    }
    let (mut sum, mut max, mut tokens) = (0.0, 0.0, 0usize);
    for ((&rollout, &train), _) in rollout.iter().zip(train).zip(mask).filter(|(_, mask)| **mask) {
        let gap = (rollout as f64 - train as f64).abs();
        sum += gap;
        max = if gap > max || gap.is_nan() { gap } else { max };
        tokens += 1;
    }
    Ok(LogprobGap { logprob_gap_mean: sum / tokens.max(1) as f64, logprob_gap_max: max })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rl::{RewardConfig, reward};

    fn rollout(outcome: Outcome, tokens: &[u32]) -> RolloutRecord<'_> {
        let reward = reward(outcome, &RewardConfig::default()).unwrap();
        let copied = matches!(outcome, Outcome::Valid { rank_pre, rank_re, .. } if rank_pre == rank_re);
        RolloutRecord { outcome, reward, overlong: 0.0, copied, tokens, truncated: outcome == Outcome::Invalid }
    }

    fn valid(rank_pre: usize, rank_re: usize) -> Outcome {
        Outcome::Valid { rank_pre, rank_re, slate: 10 }
    }

    #[test]
    fn two_groups_counted_by_hand() {
        let rollouts = [
            rollout(valid(4, 1), &[1, 2]),
            rollout(valid(4, 4), &[3]),
            rollout(valid(4, 6), &[3]),
            rollout(Outcome::Invalid, &[9; 6]),
            rollout(valid(1, 1), &[3]),
            rollout(valid(1, 1), &[3]),
            rollout(valid(1, 1), &[3]),
            rollout(valid(1, 1), &[4]),
        ];
        let stats = rollout_stats(&rollouts, 4).unwrap();
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-7, "{a} against {b}");
        near(stats.reward, (0.5 + 0.0 - 0.2 - 1.0 + 4.0 * 0.2) / 8.0);
        near(stats.reward_rank, (0.3 - 0.2) / 8.0);
        near(stats.reward_format, 5.0 * 0.2 / 8.0);
        near(stats.valid_rate, 7.0 / 8.0);
        near(stats.order_copy_rate, 5.0 / 8.0);
        near(stats.promoted_share, 1.0 / 8.0);
        near(stats.demoted_share, 1.0 / 8.0);
        near(stats.zero_variance_share, 0.5);
        near(stats.truncated_share, 1.0 / 8.0);
        near(stats.duplicate_share, 3.0 / 8.0);
        near(stats.length_mean, 14.0 / 8.0);
        assert_eq!((stats.length_min, stats.length_max), (1, 6));
        // Sample deviation of the eight totals about their mean 0.0125, worked out by hand.
        near(stats.reward_std, (1.44875f64 / 7.0).sqrt());
        assert!(rollout_stats(&rollouts, 3).is_err());
    }

    #[test]
    fn gap_ignores_masked_rows_and_shows_nan() {
        let gap = logprob_gap(&[-1.0, -2.0, f32::NAN], &[-1.5, -2.25, 0.0], &[true, true, false]).unwrap();
        assert_eq!(gap, LogprobGap { logprob_gap_mean: 0.375, logprob_gap_max: 0.5 });
        let gap = logprob_gap(&[f32::NAN, -1.0], &[0.0, -3.0], &[true; 2]).unwrap();
        assert!(gap.logprob_gap_mean.is_nan() && gap.logprob_gap_max.is_nan());
        assert_eq!(logprob_gap(&[0.0], &[1.0], &[false]).unwrap(), LogprobGap::default());
        assert!(logprob_gap(&[0.0], &[], &[true]).is_err());
    }
}
