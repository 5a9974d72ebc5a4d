//! Dynamic sampling: which groups are worth a place in the batch, and when to stop looking.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Whether a group can teach anything: its raw outcomes are not all the same.
///
/// `raw` is [`Reward::raw`](super::Reward::raw) of every rollout, never the shaped reward: a length term alone would let an
/// all-wrong group through, and normalising it would turn the shaping into a gradient of full size.
pub fn has_signal(raw: &[f32]) -> bool {
    raw.iter().any(|r| r != &raw[0])
}

/// What to do after a round of sampling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SamplingVerdict {
    /// The batch is full: train on it.
    Full,
    /// Sample another round of this many groups: so many that those missing come out of it if as large a share of them
    /// has signal as so far, but never more than a batch.
    More(usize),
    /// The cap on rounds is reached: train on what there is, which may be nothing.
    CapReached,
}

/// Counts of one step of dynamic sampling, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SamplingStats {
    /// Rounds of generation.
    pub sampling_rounds: usize,
    /// Groups generated.
    pub sampling_groups: usize,
    /// Groups set aside because all their raw outcomes are the same.
    pub sampling_zero_variance: usize,
    /// Groups with signal that came after the batch was full, and were dropped.
    pub sampling_surplus: usize,
    /// Groups in the batch.
    pub sampling_kept: usize,
}

/// Collects groups with signal over rounds of generation until a batch is full; surplus is dropped, not carried over.
///
/// `G` is whatever the loop keeps of a group. Groups are kept in the order in which they are offered.
/// Source: DAPO, arXiv:2503.14476, section 3.2; bookkeeping as in verl's `filter_groups`, save that a reached cap ends the
/// step with a smaller batch where verl stops the run.
#[derive(Debug)]
pub struct DynamicSampling<G> {
    batch: usize,
    max_rounds: usize,
    kept: Vec<G>,
    stats: SamplingStats,
}

impl<G> DynamicSampling<G> {
    /// An empty batch of `batch` groups, to be filled in at most `max_rounds` rounds.
    ///
    /// Errors: `Config` if either is 0.
    pub fn new(batch: usize, max_rounds: usize) -> Result<Self> {
        for (field, value) in [("dapo.batch_prompts", batch), ("dapo.max_rounds", max_rounds)] {
            if value == 0 {
                let problem = "0: expected at least 1".into();
                return Err(Error::Config { field: field.into(), problem, hint: None });
            }
        }
        Ok(Self { batch, max_rounds, kept: Vec::with_capacity(batch), stats: SamplingStats::default() })
    }

    /// Takes the groups of one round, each with the raw outcomes of its rollouts, and says how to go on.
    ///
    /// Errors: `Shape` if a group has fewer than two rollouts or a raw outcome is not finite; nothing of the round is kept then.
    pub fn offer(&mut self, round: Vec<(Vec<f32>, G)>) -> Result<SamplingVerdict> {
        for (at, (raw, _)) in round.iter().enumerate() {
            let problem = match raw.iter().find(|r| !r.is_finite()) {
                Some(bad) => format!("group {at} of {} has a raw outcome of {bad}", round.len()),
                None if raw.len() < 2 => {
                    format!("group {at} of {} has {} rollouts, expected at least 2", round.len(), raw.len())
                }
                None => continue,
            };
            return Err(Error::Shape { op: "dynamic_sampling", problem });
        }
        self.stats.sampling_rounds += 1;
        self.stats.sampling_groups += round.len();
        for (raw, group) in round {
            if !has_signal(&raw) {
                self.stats.sampling_zero_variance += 1;
            } else if self.kept.len() == self.batch {
                self.stats.sampling_surplus += 1;
            } else {
                self.kept.push(group);
            }
        }
        self.stats.sampling_kept = self.kept.len();
        Ok(self.verdict())
    }

    /// What to do next; after the last [`offer`](Self::offer) the same as it returned.
    pub fn verdict(&self) -> SamplingVerdict {
        if self.kept.len() == self.batch {
            SamplingVerdict::Full
        } else if self.stats.sampling_rounds >= self.max_rounds {
            SamplingVerdict::CapReached
        } else {
            let missing = self.batch - self.kept.len();
            let expected = match self.kept.len() {
                0 => self.batch,
                kept => (missing * self.stats.sampling_groups).div_ceil(kept),
            };
            SamplingVerdict::More(expected.min(self.batch))
        }
    }

    /// The batch and the counts.
    pub fn finish(self) -> (Vec<G>, SamplingStats) {
        (self.kept, self.stats)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(name: &'static str) -> (Vec<f32>, &'static str) {
        (vec![0.3; 4], name)
    }

    fn mixed(name: &'static str) -> (Vec<f32>, &'static str) {
        (vec![0.0, 0.0, -1.0, 0.0], name)
    }

    #[test]
    fn fills_over_rounds_and_drops_surplus() {
        let mut sampling = DynamicSampling::new(3, 5).unwrap();
        assert_eq!(sampling.offer(vec![flat("a"), mixed("b")]).unwrap(), SamplingVerdict::More(3));
        assert_eq!(sampling.offer(vec![mixed("c"), mixed("d"), flat("e"), mixed("f")]).unwrap(), SamplingVerdict::Full);
        let (batch, stats) = sampling.finish();
        assert_eq!(batch, ["b", "c", "d"]);
        let expected = SamplingStats {
            sampling_rounds: 2,
            sampling_groups: 6,
            sampling_zero_variance: 2,
            sampling_surplus: 1,
            sampling_kept: 3,
        };
        assert_eq!(stats, expected);
    }

    #[test]
    fn the_cap_ends_the_search_with_what_there_is() {
        let mut sampling = DynamicSampling::new(2, 2).unwrap();
        assert_eq!(sampling.offer(vec![flat("a")]).unwrap(), SamplingVerdict::More(2));
        assert_eq!(sampling.offer(vec![mixed("b")]).unwrap(), SamplingVerdict::CapReached);
        assert_eq!(sampling.finish().0, ["b"]);
    }

    #[test]
    fn bad_groups_are_refused_whole() {
        let mut sampling = DynamicSampling::new(2, 2).unwrap();
        assert!(sampling.offer(vec![mixed("a"), (vec![1.0], "single")]).is_err());
        assert!(sampling.offer(vec![mixed("a"), (vec![1.0, f32::NAN], "nan")]).is_err());
        assert_eq!(sampling.verdict(), SamplingVerdict::More(2));
        assert!(DynamicSampling::<()>::new(0, 1).is_err());
        assert!(DynamicSampling::<()>::new(1, 0).is_err());
    }
}
