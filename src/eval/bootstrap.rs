//! Paired bootstrap: how far a difference of two rankers over the same users could be chance.

use rand::RngExt;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::tensor::stream;

/// Names the random streams of this file inside their seed.
const PURPOSE: &str = "eval.bootstrap";

/// How intervals are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bootstrap {
    /// Resamples of the users. Default 10,000.
    pub resamples: usize,
    /// Seed of the resampling. Default 0.
    pub seed: u64,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Self { resamples: 10_000, seed: 0 }
    }
}

/// A mean difference and its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The difference observed, not the mean of the resamples.
    pub mean: f64,
    /// 2.5th percentile of the resampled differences.
    pub low: f64,
    /// 97.5th percentile of the resampled differences.
    pub high: f64,
}

/// 95 % percentile intervals of mean differences, by resampling users with replacement.
///
/// `differences[m][u]` is metric m of user u under the one ranker minus that under the other; all metrics see the same
/// resamples. Percentiles interpolate linearly between order statistics. Resample i draws from its own stream of the seed, so the
/// result does not depend on the number of threads.
/// Errors: `Shape` if there are no users, lists differ in length or hold a value that is not finite; `Config` for no resamples.
/// Source: Efron and Tibshirani 1993, the percentile interval, on paired differences.
pub fn paired_bootstrap(differences: &[Vec<f64>], bootstrap: Bootstrap) -> Result<Vec<Interval>> {
    let refuse = |problem: String| Err(Error::Shape { op: "paired_bootstrap", problem });
    let Some(users) = differences.first().map(Vec::len) else { return Ok(Vec::new()) };
    if users == 0 || users > u32::MAX as usize {
        return refuse(format!("{users} users, expected between 1 and {}", u32::MAX));
    }
    for (m, list) in differences.iter().enumerate() {
        if list.len() != users {
            return refuse(format!("metric 0 has {users} users, metric {m} has {}", list.len()));
        }
        if let Some(u) = list.iter().position(|d| !d.is_finite()) {
            return refuse(format!("metric {m}, user {u}: the difference is {}", list[u]));
        }
    }
    if bootstrap.resamples == 0 {
        let problem = "0: expected at least 1".into();
        return Err(Error::Config { field: "eval.resamples".into(), problem, hint: None });
    }
    let classes = Classes::of(differences);
    let mut resampled = vec![Vec::with_capacity(bootstrap.resamples); differences.len()];
    let draws: Vec<Vec<f64>> = (0..bootstrap.resamples as u64)
        .into_par_iter()
        .map_init(|| vec![0u32; classes.values.len()], |counts, i| classes.resample(counts, bootstrap.seed, i))
        .collect();
    for means in &draws {
        for (list, &mean) in resampled.iter_mut().zip(means) {
            list.push(mean);
        }
    }
    let intervals = resampled.iter_mut().zip(differences).map(|(list, differences)| {
        list.sort_unstable_by(f64::total_cmp);
        let mean = differences.iter().sum::<f64>() / users as f64;
        Interval { mean, low: percentile(list, 0.025), high: percentile(list, 0.975) }
    });
    Ok(intervals.collect())
}

/// Users grouped by equal differences in every metric. Ranks take few values, so a million users make about a hundred classes
/// and a resample is a count of draws per class.
struct Classes {
    /// Class of each user.
    of_user: Vec<u32>,
    /// The differences, one per metric, that the users of a class share.
    values: Vec<Vec<f64>>,
}

impl Classes {
    fn of(differences: &[Vec<f64>]) -> Self {
        let users = differences[0].len();
        let compare = |a: usize, b: usize| {
            let mut orders = differences.iter().map(|list| list[a].total_cmp(&list[b]));
            orders.find(|order| order.is_ne()).unwrap_or(std::cmp::Ordering::Equal)
        };
        let mut by_value: Vec<usize> = (0..users).collect();
        by_value.sort_unstable_by(|&a, &b| compare(a, b));
        let mut of_user = vec![0; users];
        let mut values: Vec<Vec<f64>> = Vec::new();
        let mut last = None;
        for user in by_value {
            if last.is_none_or(|last| compare(last, user).is_ne()) {
                values.push(differences.iter().map(|list| list[user]).collect());
            }
            of_user[user] = (values.len() - 1) as u32;
            last = Some(user);
        }
        Self { of_user, values }
    }

    /// The mean of every metric over as many users drawn with replacement; `counts` is room to count in.
    fn resample(&self, counts: &mut [u32], seed: u64, i: u64) -> Vec<f64> {
        let mut rng = stream(seed, PURPOSE, i, 0);
        let users = self.of_user.len();
        counts.fill(0);
        for _ in 0..users {
            counts[self.of_user[rng.random_range(0..users as u32) as usize] as usize] += 1;
        }
        let mut means = vec![0.0; self.values[0].len()];
        for (values, &count) in self.values.iter().zip(counts.iter()) {
            for (mean, value) in means.iter_mut().zip(values) {
                *mean += value * count as f64;
            }
        }
        means.iter_mut().for_each(|mean| *mean /= users as f64);
        means
    }
}

/// Linear interpolation between the order statistics of a sorted list that is not empty.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let at = share * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    below + (above - below) * at.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FEW: Bootstrap = Bootstrap { resamples: 2000, seed: 1 };

    #[test]
    fn percentiles_interpolate() {
        assert_eq!(percentile(&[0.0, 10.0, 20.0], 0.25), 5.0);
        assert_eq!(percentile(&[3.0], 0.975), 3.0);
    }

    #[test]
    fn agrees_with_the_normal_interval() {
        // 400 users, a quarter gain 1, the rest nothing: mean 0.25, standard error sqrt(0.25 * 0.75 / 400) = 0.02165.
        let gains: Vec<f64> = (0..400).map(|u| f64::from(u8::from(u % 4 == 0))).collect();
        let interval = paired_bootstrap(&[gains], FEW).unwrap()[0];
        assert_eq!(interval.mean, 0.25);
        // The ends lie 1.96 standard errors away; half a user's weight (0.00125) and Monte Carlo error (0.0013) are allowed twice.
        assert!((interval.low - (0.25 - 1.96 * 0.02165)).abs() < 0.005, "{interval:?}");
        assert!((interval.high - (0.25 + 1.96 * 0.02165)).abs() < 0.005, "{interval:?}");
    }

    #[test]
    fn constant_differences_have_no_width_and_pairing_is_kept() {
        let noise: Vec<f64> = (0..50).map(|u| (u * 37 % 11) as f64).collect();
        let shifted: Vec<f64> = noise.iter().map(|x| x + 2.0).collect();
        let intervals = paired_bootstrap(&[vec![0.5; 50], noise, shifted], FEW).unwrap();
        assert_eq!(intervals[0], Interval { mean: 0.5, low: 0.5, high: 0.5 });
        // The same resamples serve every metric, so a constant shift moves both ends by exactly as much.
        assert!((intervals[2].low - intervals[1].low - 2.0).abs() < 1e-12);
        assert!((intervals[2].high - intervals[1].high - 2.0).abs() < 1e-12);
    }

    #[test]
    fn threads_and_grouping_do_not_change_the_result() {
        let gains: Vec<f64> = (0..300).map(|u| (u * 7919 % 13) as f64 / 13.0 - 0.4).collect();
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| paired_bootstrap(std::slice::from_ref(&gains), FEW).unwrap())
        };
        assert_eq!(run(1), run(3));
        let other = paired_bootstrap(std::slice::from_ref(&gains), Bootstrap { seed: 2, ..FEW }).unwrap();
        assert_ne!(other, run(1));
        // Straight from the definition: the mean over drawn users, without classes.
        let mut means: Vec<f64> = (0..FEW.resamples as u64)
            .map(|i| {
                let mut rng = stream(FEW.seed, PURPOSE, i, 0);
                (0..300).map(|_| gains[rng.random_range(0..300u32) as usize]).sum::<f64>() / 300.0
            })
            .collect();
        means.sort_by(f64::total_cmp);
        assert!((percentile(&means, 0.025) - run(1)[0].low).abs() < 1e-12);
    }

    #[test]
    fn bad_input_is_refused() {
        assert!(paired_bootstrap(&[vec![]], FEW).is_err());
        assert!(paired_bootstrap(&[vec![1.0], vec![1.0, 2.0]], FEW).is_err());
        assert!(paired_bootstrap(&[vec![f64::NAN]], FEW).is_err());
        assert!(paired_bootstrap(&[vec![1.0]], Bootstrap { resamples: 0, seed: 0 }).is_err());
        assert!(paired_bootstrap(&[], FEW).unwrap().is_empty());
    }
}
