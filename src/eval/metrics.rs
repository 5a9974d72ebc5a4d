//! Recall@k and NDCG@k of the one relevant item of each user.

use std::fmt;

use rand::RngExt;
use serde_json::{Map, Value};

use crate::tensor::stream;

/// A metric of a ranking with exactly one relevant item, averaged over users.
///
/// `rank` is the position of that item from 1; `None` means that it was not returned at all, which scores 0. Inside a slate the
/// list is the slate; for generation over the full catalogue it is the beams. With one relevant item Recall@k is also called
/// HitRate@k.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Metric {
    /// `1` if `rank <= k`, else `0`.
    Recall(usize),
    /// `1 / log2(rank + 1)` if `rank <= k`, else `0`. The ideal gain is 1, so no division is left.
    Ndcg(usize),
}

/// Metrics inside a slate.
pub const SLATE_METRICS: [Metric; 7] = [
    Metric::Recall(1),
    Metric::Recall(3),
    Metric::Recall(5),
    Metric::Recall(10),
    Metric::Ndcg(3),
    Metric::Ndcg(5),
    Metric::Ndcg(10),
];

/// Metrics of generation over the full catalogue.
pub const CATALOGUE_METRICS: [Metric; 4] = [Metric::Recall(5), Metric::Recall(10), Metric::Ndcg(5), Metric::Ndcg(10)];

impl fmt::Display for Metric {
    /// The key in reports: `recall@5`, `ndcg@10`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Metric::Recall(k) => write!(f, "recall@{k}"),
            Metric::Ndcg(k) => write!(f, "ndcg@{k}"),
        }
    }
}

impl Metric {
    /// The value for one user; ranks count from 1, `None` is a miss.
    pub fn value(self, rank: Option<usize>) -> f64 {
        match (self, rank) {
            (Metric::Recall(k), Some(rank)) if rank <= k => 1.0,
            (Metric::Ndcg(k), Some(rank)) if rank <= k => 1.0 / ((rank + 1) as f64).log2(),
            _ => 0.0,
        }
    }

    /// Mean over users; 0 for none.
    pub fn mean(self, ranks: &[Option<usize>]) -> f64 {
        ranks.iter().map(|&rank| self.value(rank)).sum::<f64>() / ranks.len().max(1) as f64
    }
}

/// The means of `metrics`, keyed by name in the given order.
pub fn mean_metrics(ranks: &[Option<usize>], metrics: &[Metric]) -> Map<String, Value> {
    metrics.iter().map(|metric| (metric.to_string(), metric.mean(ranks).into())).collect()
}

/// Expected value when the relevant item is equally likely at each of `slate` positions: `sum of value(r) over r, / slate`.
///
/// For ten candidates Recall@k is k / 10, NDCG@3 .2131, NDCG@5 .2948, NDCG@10 .4544. 0 for an empty slate.
pub fn random_order_expectation(metric: Metric, slate: usize) -> f64 {
    (1..=slate).map(|rank| metric.value(Some(rank))).sum::<f64>() / slate.max(1) as f64
}

/// Ranks of the relevant item when every slate is shuffled once; an empty slate gives a miss. Same seed, same ranks.
pub fn random_order_ranks(slates: impl IntoIterator<Item = usize>, seed: u64) -> Vec<Option<usize>> {
    let mut rng = stream(seed, "eval.random_order", 0, 0);
    slates.into_iter().map(|slate| (slate > 0).then(|| rng.random_range(1..=slate))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_by_hand() {
        assert_eq!([1, 3, 4].map(|r| Metric::Recall(3).value(Some(r))), [1.0, 1.0, 0.0]);
        assert_eq!([1, 3, 4].map(|r| Metric::Ndcg(3).value(Some(r))), [1.0, 0.5, 0.0]);
        assert_eq!(Metric::Ndcg(10).value(None), 0.0);
        assert_eq!(Metric::Recall(2).mean(&[Some(1), None, Some(3), Some(2)]), 0.5);
        assert_eq!(Metric::Recall(2).mean(&[]), 0.0);
    }

    #[test]
    fn names_are_the_report_keys() {
        let keys: Vec<String> = mean_metrics(&[Some(1)], &SLATE_METRICS).into_iter().map(|(k, _)| k).collect();
        assert_eq!(keys, ["recall@1", "recall@3", "recall@5", "recall@10", "ndcg@3", "ndcg@5", "ndcg@10"]);
    }

    #[test]
    fn random_order_in_closed_form() {
        let near = |metric, want: f64| {
            let got = random_order_expectation(metric, 10);
            assert!((got - want).abs() < 5e-5, "{metric}: {got} against {want}");
        };
        near(Metric::Recall(3), 0.3);
        near(Metric::Ndcg(3), 0.2131);
        near(Metric::Ndcg(5), 0.2948);
        near(Metric::Ndcg(10), 0.4544);
        assert_eq!(random_order_expectation(Metric::Recall(10), 4), 1.0);
    }

    #[test]
    fn random_order_drawn_agrees_with_the_closed_form() {
        let ranks = random_order_ranks(std::iter::repeat_n(10, 20_000), 7);
        assert_eq!(ranks, random_order_ranks(std::iter::repeat_n(10, 20_000), 7));
        assert_ne!(ranks, random_order_ranks(std::iter::repeat_n(10, 20_000), 8));
        for metric in SLATE_METRICS {
            // The deviation of one value is at most 0.5, of the mean 0.0035: four of these.
            assert!((metric.mean(&ranks) - random_order_expectation(metric, 10)).abs() < 0.014, "{metric}");
        }
        assert_eq!(random_order_ranks([0, 1], 1), [None, Some(1)]);
    }
}
