//! Rank-promotion reward with a conditional format bonus.

use serde::{Deserialize, Serialize};

use crate::bounds::{LARGE, Section, WEIGHT};
use crate::error::{Error, Result};

/// When a valid answer earns the format bonus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RewardKind {
    /// Only if the target is promoted, or was first and stays first; copying the incoming order then earns nothing.
    #[default]
    Conditional,
    /// Always: the plain sum, kept as a control because copying the incoming order earns the bonus safely.
    Naive,
}

/// What a rollout earns.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RewardConfig {
    /// Format bonus. Default 0.2 (Diffusion-GR2, arXiv:2607.01170).
    pub alpha: f32,
    /// When the bonus is paid. Default conditional (GR2, arXiv:2602.07774).
    pub kind: RewardKind,
    /// Whole reward of an invalid or truncated answer. Default -1 (Diffusion-GR2).
    pub invalid: f32,
}

impl Default for RewardConfig {
    fn default() -> Self {
        Self { alpha: 0.2, kind: RewardKind::Conditional, invalid: -1.0 }
    }
}

impl RewardConfig {
    /// Checks the ranges; `section` is the dotted name of this table in the configuration file, as in `dapo.reward`.
    ///
    /// Errors: `Config` naming the field.
    pub fn validate(&self, section: &str) -> Result<()> {
        let at = Section::new(section);
        at.number("alpha", self.alpha, WEIGHT)?;
        if self.invalid > -1.0 {
            let problem =
                format!("{}: a valid answer can score nearly -1, an invalid one must not score more", self.invalid);
            return at.refuse("invalid", problem);
        }
        at.number("invalid", self.invalid, -LARGE..=-1.0)
    }
}

/// What a rollout achieved, before any reward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The answer parses and is a permutation of the slate.
    Valid {
        /// Position of the target in the incoming order, from 1.
        rank_pre: usize,
        /// Position of the target in the answer, from 1.
        rank_re: usize,
        /// Candidates in the slate, |D|.
        slate: usize,
    },
    /// The answer does not parse, repeats, omits or invents a candidate, or was cut off.
    Invalid,
}

/// A reward and its parts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Reward {
    /// `(rank_pre - rank_re) / |D|`; 0 for an invalid answer.
    pub rank: f32,
    /// The format bonus that was paid; 0 for an invalid answer.
    pub format: f32,
    /// What the policy is trained on, before any length shaping: rank + format, or the price of an invalid answer.
    pub total: f32,
    /// What dynamic sampling judges a group by: the promotion, or the price of an invalid answer. It holds no bonus and no
    /// length term, so neither can make a group without signal look as if it had some.
    pub raw: f32,
}

/// `R = (rank_pre - rank_re) / |D| + alpha * [bonus is due]`, or `invalid`.
///
/// The conditional bonus is due if `rank_re < rank_pre` or `rank_re = rank_pre = 1`.
/// Errors: `Shape` if a rank is not in 1..=|D|.
/// Source: GR2, arXiv:2602.07774, rank promotion with conditional format reward, in the stricter form that Diffusion-GR2
/// (arXiv:2607.01170) states: a target demoted from the first place earns no bonus.
pub fn reward(outcome: Outcome, config: &RewardConfig) -> Result<Reward> {
    let Outcome::Valid { rank_pre, rank_re, slate } = outcome else {
        return Ok(Reward { rank: 0.0, format: 0.0, total: config.invalid, raw: config.invalid });
    };
    for (name, rank) in [("rank_pre", rank_pre), ("rank_re", rank_re)] {
        if !(1..=slate).contains(&rank) {
            return Err(Error::Shape {
                op: "reward",
                problem: format!("{name} is {rank}, the slate has {slate} candidates"),
            });
        }
    }
    let rank = (rank_pre as f32 - rank_re as f32) / slate as f32;
    let due = match config.kind {
        RewardKind::Conditional => rank_re < rank_pre || (rank_pre == 1 && rank_re == 1),
        RewardKind::Naive => true,
    };
    let format = if due { config.alpha } else { 0.0 };
    Ok(Reward { rank, format, total: rank + format, raw: rank })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copying_pays_only_under_the_naive_sum() {
        let copy = Outcome::Valid { rank_pre: 4, rank_re: 4, slate: 10 };
        let naive = RewardConfig { kind: RewardKind::Naive, ..Default::default() };
        assert_eq!(reward(copy, &RewardConfig::default()).unwrap().total, 0.0);
        assert_eq!(reward(copy, &naive).unwrap().total, 0.2);
        assert_eq!(reward(copy, &naive).unwrap().raw, 0.0);
    }

    #[test]
    fn bad_ranks_and_bad_configs_are_refused() {
        let config = RewardConfig::default();
        for (rank_pre, rank_re) in [(0, 1), (1, 11), (11, 1), (1, 0)] {
            assert!(reward(Outcome::Valid { rank_pre, rank_re, slate: 10 }, &config).is_err());
        }
        assert!(config.validate("dapo.reward").is_ok());
        let soft = RewardConfig { invalid: -0.5, ..config };
        assert!(soft.validate("dapo.reward").unwrap_err().to_string().starts_with("config: dapo.reward.invalid: -0.5"));
        assert!(RewardConfig { alpha: f32::NAN, ..config }.validate("r").is_err());
    }

    #[test]
    fn unknown_config_keys_are_refused() {
        assert!(toml::from_str::<RewardConfig>("alpha = 0.1\nkind = \"naive\"").is_ok());
        assert!(toml::from_str::<RewardConfig>("beta = 0.1").is_err());
    }
}
