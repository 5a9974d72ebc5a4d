//! Rewards to advantages, inside groups of rollouts of one prompt.

use crate::error::{Error, Result};

/// Default of `adv_eps`: verl's 1e-6. TRL uses 1e-4; for rewards [1, 0, 0, 1] that is 0.86602390 against 0.86587543.
pub const ADV_EPS: f32 = 1e-6;

/// What [`group_advantages`] returns.
#[derive(Debug, Clone, PartialEq)]
pub struct Advantages {
    /// One per rollout, in the order of the rewards.
    pub values: Vec<f32>,
    /// Groups, i.e. prompts.
    pub groups: usize,
    /// Groups in which every rollout earned the same; their advantages are exactly zero.
    pub zero_variance_groups: usize,
}

impl Advantages {
    /// Share of groups that give no gradient.
    pub fn zero_variance_share(&self) -> f64 {
        self.zero_variance_groups as f64 / self.groups as f64
    }
}

/// `A = (r - mean) / (std + eps)` inside each group of `group` consecutive rewards; std is the sample one (over G - 1).
///
/// Shapes: `rewards` (prompts * G). Sums in f64.
/// Errors: `Config` for a group of fewer than two; `Shape` if the rewards are none or no whole number of groups, or if one is
/// not finite.
/// Source: GRPO as in verl's `compute_grpo_outcome_advantage` and TRL's `GRPOTrainer`, which differ in `eps` only ([`ADV_EPS`]).
pub fn group_advantages(rewards: &[f32], group: usize, eps: f32) -> Result<Advantages> {
    check_groups("group_advantages", rewards, group)?;
    let mut values = Vec::with_capacity(rewards.len());
    let mut zero_variance_groups = 0;
    for rewards in rewards.chunks_exact(group) {
        if rewards.iter().all(|r| r == &rewards[0]) {
            zero_variance_groups += 1;
            values.extend(std::iter::repeat_n(0.0, group));
            continue;
        }
        let mean = rewards.iter().map(|&r| r as f64).sum::<f64>() / group as f64;
        let square = rewards.iter().map(|&r| (r as f64 - mean).powi(2)).sum::<f64>();
        let scale = (square / (group - 1) as f64).sqrt() + eps as f64;
        values.extend(rewards.iter().map(|&r| ((r as f64 - mean) / scale) as f32));
    }
    Ok(Advantages { groups: rewards.len() / group, values, zero_variance_groups })
}

/// The demands that every function over groups makes of its rewards.
pub(super) fn check_groups(op: &'static str, rewards: &[f32], group: usize) -> Result<()> {
    if group < 2 {
        return Err(Error::Config {
            field: "dapo.group_size".into(),
            problem: format!("{group}: a group of one has zero advantage"),
            hint: Some("use 8 or more rollouts per prompt".into()),
        });
    }
    if rewards.is_empty() || !rewards.len().is_multiple_of(group) {
        return Err(Error::Shape {
            op,
            problem: format!("{} rewards are no whole number of groups of {group}", rewards.len()),
        });
    }
    if let Some(at) = rewards.iter().position(|r| !r.is_finite()) {
        return Err(Error::Shape { op, problem: format!("reward {at} of {} is {}", rewards.len(), rewards[at]) });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_rewards_give_exact_zeros_and_are_counted() {
        // 0.1 summed eight times is not 0.8: a mean taken in floating point would leave noise that a tiny std blows up.
        let mut rewards = vec![0.1f32; 8];
        rewards.extend([0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]);
        let a = group_advantages(&rewards, 8, ADV_EPS).unwrap();
        assert!(a.values[..8].iter().all(|&v| v == 0.0));
        assert!(a.values[8] < -2.0 && a.values[9] > 0.0);
        assert_eq!((a.groups, a.zero_variance_groups, a.zero_variance_share()), (2, 1, 0.5));
    }

    #[test]
    fn bad_input_is_refused() {
        assert!(group_advantages(&[1.0], 1, ADV_EPS).unwrap_err().to_string().contains("group of one"));
        for rewards in [&[][..], &[1.0, 2.0, 3.0], &[1.0, f32::NAN]] {
            assert!(group_advantages(rewards, 2, ADV_EPS).is_err());
        }
    }
}
