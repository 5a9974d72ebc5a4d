//! The `rerank` section of a report: every ranker over the same slates, scored and compared.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::bootstrap::{Bootstrap, paired_bootstrap};
use super::metrics::{Metric, SLATE_METRICS, mean_metrics, random_order_expectation};
use crate::error::{Error, Result};

/// Metric in which the share of the best possible score is stated.
const BEST_METRIC: Metric = Metric::Ndcg(5);

/// A slate as it came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlateCase {
    /// Candidates in it.
    pub size: usize,
    /// Position of the target in the incoming order, from 1.
    pub rank_pre: usize,
}

/// What a re-ranker made of a slate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RankerAnswer {
    /// A permutation of the slate.
    Valid {
        /// Position of the target in it, from 1.
        rank: usize,
        /// Whether it is the incoming order again.
        copied: bool,
    },
    /// No usable answer.
    Invalid,
}

impl RankerAnswer {
    /// The target's rank when an invalid answer is replaced by the incoming order, as a server would.
    fn or_fallback(self, slate: &SlateCase) -> Option<usize> {
        Some(if let RankerAnswer::Valid { rank, .. } = self { rank } else { slate.rank_pre })
    }

    /// The target's rank when an invalid answer scores nothing.
    fn or_miss(self) -> Option<usize> {
        if let RankerAnswer::Valid { rank, .. } = self { Some(rank) } else { None }
    }
}

/// A trained re-ranker and its answers, one per slate.
#[derive(Debug, Clone)]
pub struct Ranker {
    /// Its key in the report, as in `sft` or `dapo`.
    pub name: String,
    /// Its answers, in the order of the slates.
    pub answers: Vec<RankerAnswer>,
    /// Share of valid answers when nothing limits what it writes, if that was measured apart.
    pub free_valid_rate: Option<f64>,
}

/// All rankers over the same slates, which hold their target each.
#[derive(Debug, Clone)]
pub struct RerankEvaluation {
    /// The slates.
    pub slates: Vec<SlateCase>,
    /// The re-rankers, in the order in which they were trained; each is compared with the one before it as well.
    pub rankers: Vec<Ranker>,
    /// Rank of the target in the best possible order of each slate, where that is known (the synthetic shop).
    pub oracle: Option<Vec<usize>>,
    /// How intervals are computed.
    pub bootstrap: Bootstrap,
}

impl RerankEvaluation {
    /// The section: `users`, `slate_size`, then `prerank`, `random`, each ranker and its `_miss` twin, and with an oracle
    /// `oracle`, `share_of_best` and `share_of_gain`.
    ///
    /// A ranker has the [slate metrics](SLATE_METRICS), `valid_rate`, where measured `free_valid_rate`, `order_copy_rate` (share of all answers that are valid and
    /// equal to the incoming order) and `delta_vs_prerank` with `{mean, low, high}` for each metric, and `delta_vs_X` for the
    /// ranker X before it. In its own entry an invalid answer counts as the incoming order, in `_miss` as a target not found.
    /// `random` is the expected value over all orders. `share_of_best` is a ranker's score over the oracle's; `share_of_gain` the
    /// part of the way from the incoming order to the oracle that it went.
    /// Errors: `Shape` if there is no slate, a ranker has another number of answers, a rank is outside its slate, or two entries
    /// would share a name.
    pub fn section(&self) -> Result<Map<String, Value>> {
        self.check()?;
        let prerank: Vec<_> = self.slates.iter().map(|s| Some(s.rank_pre)).collect();
        let sizes: usize = self.slates.iter().map(|s| s.size).sum();
        let mut section = Map::new();
        section.insert("users".into(), self.slates.len().into());
        section.insert("slate_size".into(), (sizes as f64 / self.slates.len() as f64).into());
        section.insert("prerank".into(), mean_metrics(&prerank, &SLATE_METRICS).into());
        section.insert("random".into(), self.random().into());
        let mut before: Option<(&str, Vec<Option<usize>>)> = None;
        for ranker in &self.rankers {
            let answers = || ranker.answers.iter().zip(&self.slates);
            let fallback: Vec<_> = answers().map(|(a, s)| a.or_fallback(s)).collect();
            let miss: Vec<_> = answers().map(|(a, _)| a.or_miss()).collect();
            let share = |holds: fn(&RankerAnswer) -> bool| {
                ranker.answers.iter().filter(|a| holds(a)).count() as f64 / self.slates.len() as f64
            };
            let mut entry = mean_metrics(&fallback, &SLATE_METRICS);
            entry.insert("valid_rate".into(), share(|a| *a != RankerAnswer::Invalid).into());
            if let Some(free) = ranker.free_valid_rate {
                entry.insert("free_valid_rate".into(), free.into());
            }
            entry.insert(
                "order_copy_rate".into(),
                share(|a| matches!(a, RankerAnswer::Valid { copied: true, .. })).into(),
            );
            entry.insert("delta_vs_prerank".into(), self.deltas(&fallback, &prerank)?.into());
            if let Some((name, ranks)) = &before {
                entry.insert(format!("delta_vs_{name}"), self.deltas(&fallback, ranks)?.into());
            }
            let mut missed = mean_metrics(&miss, &SLATE_METRICS);
            missed.insert("delta_vs_prerank".into(), self.deltas(&miss, &prerank)?.into());
            section.insert(ranker.name.clone(), entry.into());
            section.insert(format!("{}_miss", ranker.name), missed.into());
            before = Some((&ranker.name, fallback));
        }
        if let Some(oracle) = &self.oracle {
            let oracle: Vec<_> = oracle.iter().map(|&rank| Some(rank)).collect();
            section.insert("oracle".into(), mean_metrics(&oracle, &SLATE_METRICS).into());
            self.shares(BEST_METRIC.mean(&oracle), &mut section);
        }
        Ok(section)
    }

    /// Expected metrics of a random order; slates may differ in size.
    fn random(&self) -> Map<String, Value> {
        let mut sizes = BTreeMap::<usize, usize>::new();
        for slate in &self.slates {
            *sizes.entry(slate.size).or_default() += 1;
        }
        let mean = |metric| {
            let sum =
                sizes.iter().map(|(&size, &count)| count as f64 * random_order_expectation(metric, size)).sum::<f64>();
            sum / self.slates.len() as f64
        };
        SLATE_METRICS.iter().map(|&metric| (metric.to_string(), mean(metric).into())).collect()
    }

    fn deltas(&self, ranks: &[Option<usize>], base: &[Option<usize>]) -> Result<Map<String, Value>> {
        let differences: Vec<Vec<f64>> = SLATE_METRICS
            .iter()
            .map(|metric| ranks.iter().zip(base).map(|(&a, &b)| metric.value(a) - metric.value(b)).collect())
            .collect();
        let intervals = paired_bootstrap(&differences, self.bootstrap)?;
        Ok(SLATE_METRICS.iter().zip(intervals).map(|(metric, i)| (metric.to_string(), json!(i))).collect())
    }

    /// Adds `share_of_best` and `share_of_gain` of every entry that is already there.
    fn shares(&self, best: f64, section: &mut Map<String, Value>) {
        let key = BEST_METRIC.to_string();
        let score = |name: &str| section.get(name).and_then(|entry| entry[&key].as_f64()).unwrap_or(0.0);
        let start = score("prerank");
        let (mut of_best, mut of_gain) = (Map::new(), Map::new());
        of_best.insert("metric".into(), key.clone().into());
        of_gain.insert("metric".into(), key.clone().into());
        for name in ["prerank", "random"].into_iter().chain(self.rankers.iter().map(|r| r.name.as_str())) {
            of_best.insert(name.into(), (score(name) / best).into());
        }
        for ranker in &self.rankers {
            of_gain.insert(ranker.name.clone(), ((score(&ranker.name) - start) / (best - start)).into());
        }
        if best > 0.0 {
            section.insert("share_of_best".into(), of_best.into());
        }
        if best > start {
            section.insert("share_of_gain".into(), of_gain.into());
        }
    }

    fn check(&self) -> Result<()> {
        let refuse = |problem: String| Err(Error::Shape { op: "rerank_evaluation", problem });
        if self.slates.is_empty() {
            return refuse("no slate to evaluate".into());
        }
        let mut names =
            vec!["users", "slate_size", "prerank", "random", "oracle", "share_of_best", "share_of_gain", "hit_rate"];
        for ranker in &self.rankers {
            if ranker.answers.len() != self.slates.len() {
                let (slates, answers) = (self.slates.len(), ranker.answers.len());
                return refuse(format!("{slates} slates, {} has {answers} answers", ranker.name));
            }
            if names.contains(&ranker.name.as_str()) || ranker.name.ends_with("_miss") {
                return refuse(format!("a ranker cannot be named `{}`: the report uses that key", ranker.name));
            }
            names.push(&ranker.name);
        }
        if let Some(oracle) = self.oracle.as_ref().filter(|o| o.len() != self.slates.len()) {
            return refuse(format!("{} slates, the oracle has {} ranks", self.slates.len(), oracle.len()));
        }
        for (at, slate) in self.slates.iter().enumerate() {
            let answers =
                self.rankers.iter().filter_map(|r| r.answers[at].or_miss().map(|rank| (r.name.as_str(), rank)));
            let oracle = self.oracle.iter().map(|o| ("oracle", o[at]));
            for (name, rank) in std::iter::once(("prerank", slate.rank_pre)).chain(answers).chain(oracle) {
                if !(1..=slate.size).contains(&rank) {
                    return refuse(format!("slate {at} has {} candidates, {name} ranks the target {rank}", slate.size));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evaluation() -> RerankEvaluation {
        let valid = |rank, copied| RankerAnswer::Valid { rank, copied };
        RerankEvaluation {
            slates: vec![
                SlateCase { size: 10, rank_pre: 3 },
                SlateCase { size: 10, rank_pre: 1 },
                SlateCase { size: 10, rank_pre: 7 },
                SlateCase { size: 10, rank_pre: 2 },
            ],
            rankers: vec![
                Ranker {
                    name: "sft".into(),
                    answers: vec![valid(3, true), valid(2, false), RankerAnswer::Invalid, valid(2, false)],
                    free_valid_rate: None,
                },
                Ranker {
                    name: "dapo".into(),
                    answers: vec![valid(1, false), valid(1, true), valid(3, false), RankerAnswer::Invalid],
                    free_valid_rate: Some(0.25),
                },
            ],
            oracle: Some(vec![1, 1, 1, 1]),
            bootstrap: Bootstrap { resamples: 200, seed: 3 },
        }
    }

    #[test]
    fn scores_by_hand() {
        let section = Value::from(evaluation().section().unwrap());
        assert!(section["sft"].get("free_valid_rate").is_none());
        let near = |pointer: &str, want: f64| {
            let got = section.pointer(pointer).and_then(Value::as_f64).unwrap_or(f64::NAN);
            assert!((got - want).abs() < 1e-12, "{pointer}: {got} against {want}");
        };
        let second = 1.0 / 3f64.log2();
        near("/dapo/free_valid_rate", 0.25);
        near("/prerank/recall@3", 0.75);
        near("/prerank/ndcg@5", (0.5 + 1.0 + 0.0 + second) / 4.0);
        near("/random/recall@3", 0.3);
        near("/sft/recall@1", 0.0);
        near("/sft/recall@10", 1.0);
        near("/sft_miss/recall@10", 0.75);
        near("/sft/valid_rate", 0.75);
        near("/sft/order_copy_rate", 0.25);
        near("/dapo/ndcg@5", (1.0 + 1.0 + 0.5 + second) / 4.0);
        near("/dapo_miss/ndcg@5", 2.5 / 4.0);
        near("/dapo/delta_vs_prerank/ndcg@5/mean", 1.0 / 4.0);
        near("/dapo_miss/delta_vs_prerank/recall@1/mean", 1.0 / 4.0);
        near("/dapo/delta_vs_sft/recall@1/mean", 0.5);
        near("/oracle/ndcg@10", 1.0);
        near("/share_of_best/dapo", (2.5 + second) / 4.0);
        near("/share_of_gain/dapo", 1.0 / (2.5 - second));
        assert!(section.pointer("/sft/delta_vs_prerank/ndcg@5/low").unwrap().as_f64() <= Some(0.0));
    }

    #[test]
    fn a_perfect_incoming_order_leaves_no_gain_to_share() {
        let mut e = evaluation();
        e.slates.iter_mut().for_each(|s| s.rank_pre = 1);
        let section = e.section().unwrap();
        assert!(section.contains_key("share_of_best") && !section.contains_key("share_of_gain"));
    }

    #[test]
    fn disagreements_are_refused() {
        let refused = |change: fn(&mut RerankEvaluation)| {
            let mut e = evaluation();
            change(&mut e);
            e.section().unwrap_err().to_string()
        };
        assert!(refused(|e| e.slates.clear()).contains("no slate"));
        assert!(refused(|e| e.rankers[1].answers.truncate(2)).contains("4 slates, dapo has 2 answers"));
        assert!(refused(|e| e.rankers[1].name = "sft".into()).contains("`sft`"));
        assert!(refused(|e| e.rankers[1].name = "prerank".into()).contains("`prerank`"));
        assert!(
            refused(|e| e.slates[2].rank_pre = 11).contains("slate 2 has 10 candidates, prerank ranks the target 11")
        );
        assert!(refused(|e| e.oracle = Some(vec![1, 1, 0, 1])).contains("oracle ranks the target 0"));
        assert!(refused(|e| e.oracle = Some(vec![1])).contains("oracle has 1 ranks"));
    }
}
