//! Steps without an update: what they lacked, said while the run goes on, and an end to runs that learn nothing.

use super::{DapoConfig, RolloutStats, SamplingStats};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// Steps in a row without any valid answer after which a run stops: nothing is rewarded, and rollouts are paid for.
const SILENT: u64 = 3;

/// What one step says of it, as the metrics log has it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Facts {
    /// Number of the step, from 1.
    pub(super) step: u64,
    /// The rollouts.
    #[serde(flatten)]
    pub(super) rollouts: RolloutStats,
    /// Their groups.
    #[serde(flatten)]
    pub(super) sampling: SamplingStats,
    /// Updates made since the run began.
    pub(super) updates: u64,
}

/// What a step without an update lacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lack {
    /// Every answer was cut off.
    WholeAnswers,
    /// No answer was valid.
    ValidAnswers,
    /// The rollouts of every group are the same tokens.
    Variety,
    /// The rollouts of every group earned the same.
    Variance,
    /// There was signal, but no loss or gradient was finite.
    FiniteGradients,
}

impl Lack {
    fn of(facts: &Facts, config: &DapoConfig) -> Lack {
        let Facts { rollouts, sampling, .. } = facts;
        let all_alike = 1.0 - 1.0 / config.group_size as f64;
        match () {
            () if sampling.sampling_kept > 0 => Lack::FiniteGradients,
            () if rollouts.truncated_share >= 1.0 => Lack::WholeAnswers,
            () if rollouts.valid_rate == 0.0 => Lack::ValidAnswers,
            () if rollouts.duplicate_share > all_alike - 1e-9 => Lack::Variety,
            () => Lack::Variance,
        }
    }

    /// Whether another step would hardly have gone otherwise; the others may be bad luck.
    fn is_certain(self) -> bool {
        !matches!(self, Lack::ValidAnswers | Lack::Variance)
    }

    fn problem(self, facts: &Facts, config: &DapoConfig) -> String {
        let (limit, groups) = (config.max_new_tokens, facts.sampling.sampling_groups);
        let cut = facts.rollouts.truncated_share * 100.0;
        match self {
            Lack::WholeAnswers => {
                format!(
                    "no group had signal: every answer was cut off at dapo.max_new_tokens = {limit}, valid_rate is 0"
                )
            }
            Lack::ValidAnswers => {
                format!(
                    "no group had signal: valid_rate is 0, {cut:.0} % of the answers were cut off at dapo.max_new_tokens = {limit}"
                )
            }
            Lack::Variety => format!(
                "no group had signal: in all of {groups} groups the rollouts are equal, so that rewards have zero variance, at \
                 dapo.temperature = {:?}",
                config.temperature
            ),
            Lack::Variance => format!(
                "no group had signal: in all of {groups} groups the {} rollouts earned the same, so that rewards have zero variance",
                config.group_size
            ),
            Lack::FiniteGradients => "every loss or gradient was NaN or infinite, and its update skipped".into(),
        }
    }

    fn hint(self, facts: &Facts) -> &'static str {
        match self {
            Lack::WholeAnswers => "raise dapo.max_new_tokens, and dapo.overlong.max_length with it",
            Lack::ValidAnswers if facts.rollouts.truncated_share >= 0.5 => {
                "raise dapo.max_new_tokens, or train longer (sft.train.epochs) so that answers end"
            }
            Lack::ValidAnswers if facts.updates > 0 => "lower dapo.lr: updates may have broken the policy",
            Lack::ValidAnswers => "train longer (sft.train.epochs), or set dapo.constrained = true",
            Lack::Variety => "raise dapo.temperature",
            Lack::Variance => "raise dapo.temperature, dapo.group_size or dapo.batch_prompts",
            Lack::FiniteGradients => "lower dapo.lr, or look at non_finite_batch.json; is the checkpoint sound?",
        }
    }
}

/// What the steps so far say.
pub(super) struct Signal<'a> {
    config: &'a DapoConfig,
    /// Steps in a row without a valid answer.
    silent: u64,
    updates: u64,
    /// The last step without an update.
    last: Option<(Facts, Lack)>,
}

impl<'a> Signal<'a> {
    pub(super) fn new(config: &'a DapoConfig) -> Signal<'a> {
        Signal { config, silent: 0, updates: 0, last: None }
    }

    /// Takes note of a step. Returns what to warn of: what it lacked, unless the last step without an update lacked the same.
    pub(super) fn observe(&mut self, facts: Facts) -> Option<String> {
        self.silent = if facts.rollouts.valid_rate == 0.0 { self.silent + 1 } else { 0 };
        let made = facts.updates > self.updates;
        self.updates = facts.updates;
        if made {
            return None;
        }
        let lack = Lack::of(&facts, self.config);
        let before = self.last.replace((facts, lack));
        let known = before.is_some_and(|(_, before)| before == lack);
        (!known).then(|| {
            let (problem, hint) = (lack.problem(&facts, self.config), lack.hint(&facts));
            format!("warning: dapo: step {} made no update: {problem}\n  hint: {hint}", facts.step)
        })
    }

    /// Errors: `Run` after several steps in a row without a valid answer; and after the last step if there was no update in the
    /// whole run, unless it was a single step that may have had bad luck.
    pub(super) fn check(&self) -> Result<()> {
        let Some((facts, lack)) = &self.last else { return Ok(()) };
        let Facts { step, updates, .. } = *facts;
        let is_last = step >= self.config.steps;
        let count = if self.silent >= SILENT {
            format!("{step} steps, {updates} updates, no valid answer in the last {}", self.silent)
        } else if updates == 0 && is_last && (step > 1 || lack.is_certain()) {
            format!("{step} steps, 0 updates")
        } else {
            return Ok(());
        };
        Err(Error::Run {
            stage: "dapo".into(),
            problem: format!("{count}: {}", lack.problem(facts, self.config)),
            hint: Some(format!("{}; dapo.steps = 0 leaves DAPO out", lack.hint(facts))),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLLOUTS: RolloutStats = RolloutStats {
        reward: 0.0,
        reward_std: 0.0,
        reward_rank: 0.0,
        reward_format: 0.0,
        reward_overlong: 0.0,
        valid_rate: 1.0,
        order_copy_rate: 0.0,
        promoted_share: 0.0,
        demoted_share: 0.0,
        zero_variance_share: 1.0,
        length_mean: 1.0,
        length_min: 1,
        length_max: 1,
        truncated_share: 0.0,
        duplicate_share: 0.0,
    };

    fn facts(step: u64, updates: u64, kept: usize, rollouts: RolloutStats) -> Facts {
        let sampling = SamplingStats { sampling_groups: 6, sampling_kept: kept, ..SamplingStats::default() };
        Facts { step, rollouts, sampling, updates }
    }

    fn cut() -> RolloutStats {
        RolloutStats { valid_rate: 0.0, truncated_share: 1.0, ..ROLLOUTS }
    }

    fn garbled() -> RolloutStats {
        RolloutStats { valid_rate: 0.0, truncated_share: 0.25, ..ROLLOUTS }
    }

    fn alike() -> RolloutStats {
        RolloutStats { duplicate_share: 0.875, ..ROLLOUTS }
    }

    #[test]
    fn what_is_lacking_is_said_once_and_again_when_it_changes() {
        let config = DapoConfig { steps: 9, group_size: 8, ..DapoConfig::default() };
        let mut signal = Signal::new(&config);
        let said = [
            (facts(1, 0, 0, cut()), "step 1 made no update: no group had signal: every answer was cut off"),
            (facts(2, 0, 0, cut()), ""),
            (
                facts(3, 0, 0, alike()),
                "the rollouts are equal, so that rewards have zero variance, at dapo.temperature = 1.0",
            ),
            (facts(4, 2, 4, ROLLOUTS), ""),
            (facts(5, 2, 0, alike()), ""),
            (facts(6, 2, 0, ROLLOUTS), "the 8 rollouts earned the same"),
            (facts(7, 2, 3, ROLLOUTS), "every loss or gradient was NaN or infinite"),
        ];
        for (facts, expected) in said {
            let warning = signal.observe(facts);
            assert_eq!(warning.is_some(), !expected.is_empty(), "step {}: {warning:?}", facts.step);
            assert!(warning.unwrap_or_default().contains(expected));
            signal.check().unwrap();
        }
    }

    /// What a run of so many equal steps without an update ends with.
    fn end(steps: u64, rollouts: RolloutStats) -> Option<String> {
        let config = DapoConfig { steps, group_size: 8, ..DapoConfig::default() };
        let mut signal = Signal::new(&config);
        for step in 1..=steps {
            signal.observe(facts(step, 0, 0, rollouts));
            match signal.check() {
                Err(error) => return Some(error.to_string()),
                Ok(()) => continue,
            }
        }
        None
    }

    #[test]
    fn a_run_without_an_update_is_an_error_that_names_the_setting() {
        assert!(end(2, cut()).unwrap().starts_with("run: dapo: 2 steps, 0 updates: no group had signal: every answer"));
        assert!(end(2, cut()).unwrap().contains("hint: raise dapo.max_new_tokens"));
        assert!(end(2, alike()).unwrap().contains("hint: raise dapo.temperature"));
        assert!(end(5, ROLLOUTS).unwrap().starts_with("run: dapo: 5 steps, 0 updates"));
        // one step proves something only where another would be the same
        assert!(end(1, cut()).is_some() && end(1, alike()).is_some());
        assert!(end(1, garbled()).is_none() && end(1, ROLLOUTS).is_none());
        assert!(end(0, cut()).is_none());
    }

    #[test]
    fn several_steps_without_a_valid_answer_end_a_run_early() {
        let message = end(100, garbled()).unwrap();
        assert!(message.starts_with("run: dapo: 3 steps, 0 updates, no valid answer in the last 3"), "{message}");
        assert!(message.contains("valid_rate is 0, 25 %") && message.contains("sft.train.epochs"), "{message}");
        // the same after updates: the policy is broken
        let config = DapoConfig { steps: 100, ..DapoConfig::default() };
        let mut signal = Signal::new(&config);
        signal.observe(facts(1, 2, 5, ROLLOUTS));
        (2..5).for_each(|step| drop(signal.observe(facts(step, 2, 0, garbled()))));
        assert!(signal.check().unwrap_err().to_string().contains("lower dapo.lr"));
    }
}
