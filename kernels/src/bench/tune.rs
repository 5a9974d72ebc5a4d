//! Which way of a product is the fastest on a GPU.

use super::measure::median_seconds;
use super::reference::{noise, noise_on};
use crate::device::{Device, Gpu};
use crate::error::Result;
use crate::matmul::{Matmul, Tunable, Way};
use crate::narrow::narrowed;
use std::time::Instant;

/// What part of the rule's time another way may take at most to be chosen: what measurements differ by.
const WORTH: f64 = 0.95;

/// What was measured of a product.
#[derive(Debug, Clone, PartialEq)]
pub struct Tuned {
    /// The product.
    pub of: Tunable,
    /// Every way with the seconds it takes, the fastest first.
    pub ways: Vec<(Way, f64)>,
    /// The way the rule takes.
    pub rule: Way,
    /// The way to take: the rule's, unless another is faster by more than measurements differ.
    pub choice: Way,
}

impl Tuned {
    /// Seconds of a way that was measured.
    pub fn seconds(&self, way: Way) -> Option<f64> {
        self.ways.iter().find(|(found, _)| *found == way).map(|&(_, seconds)| seconds)
    }
}

/// Times every way of a product on random operands, each for about `budget` seconds.
///
/// Errors: `OutOfMemory`, `DeviceLost`.
pub fn tune(gpu: &Gpu, of: Tunable, budget: f64) -> Result<Tuned> {
    let (device, Matmul { m, n, k, .. }) = (Device::Gpu(gpu.clone()), of.spec);
    let prepared = Instant::now();
    let (a, b) = (noise_on(&device, 1, m * k)?, narrowed(&device, &noise(2, n * k), of.stored)?);
    let (mut ways, mut idle) = (vec![], prepared.elapsed().as_secs_f64());
    for way in Way::all(gpu, of) {
        let run = || way.run(gpu, &a, &b, &of.spec).map(drop);
        ways.push((way, median_seconds(&device, budget, std::mem::take(&mut idle), run)?.seconds));
    }
    ways.sort_by(|x, y| x.1.total_cmp(&y.1));
    let rule = Way::by_rule(gpu, of);
    let mut tuned = Tuned { of, ways, rule, choice: rule };
    let of_rule = tuned.seconds(rule).unwrap_or(f64::INFINITY);
    if let Some(&(fastest, _)) = tuned.ways.first().filter(|(_, seconds)| *seconds < WORTH * of_rule) {
        tuned.choice = fastest;
    }
    Ok(tuned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::Dtype;
    use crate::check::gpu;
    use crate::matmul::Layout;

    #[test]
    fn every_way_is_timed_and_none_slower_than_the_rule_is_chosen() {
        let Some((_, gpu)) = gpu("tuned products") else { return };
        for (layout, stored) in [(Layout::Nt, Dtype::F32), (Layout::Tn, Dtype::F32), (Layout::Nt, Dtype::Bf16)] {
            let of = Tunable { spec: Matmul::one(layout, 16, 24, 40), stored };
            let tuned = tune(&gpu, of, 1e-3).unwrap();
            assert_eq!(tuned.ways.len(), Way::all(&gpu, of).len());
            assert!(tuned.ways.len() >= 4 && tuned.ways.windows(2).all(|w| w[0].1 <= w[1].1), "{tuned:?}");
            assert!(tuned.seconds(tuned.choice).unwrap() <= tuned.seconds(tuned.rule).unwrap());
        }
    }
}
