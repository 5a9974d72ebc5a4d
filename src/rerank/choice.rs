//! Conditional logit: weights of features under which the choices that were made are the likeliest.

/// The candidates of one choice by their features, and which was chosen.
#[derive(Debug, Clone)]
pub(super) struct Choice<const N: usize> {
    pub(super) candidates: Vec<[f64; N]>,
    pub(super) chosen: usize,
}

/// Newton steps at most; the objective is concave, and a handful is enough.
const STEPS: usize = 25;

/// The w that maximise `Σ ln softmax(x·w)[chosen] − ridge/2 · |w − prior|²`.
///
/// Source: McFadden 1974, conditional logit.
pub(super) fn fit<const N: usize>(choices: &[Choice<N>], prior: [f64; N], ridge: f64) -> [f64; N] {
    let mut weights = prior;
    let mut here = objective(choices, &weights, &prior, ridge);
    for _ in 0..STEPS {
        let (gradient, curvature) = derivatives(choices, &weights, &prior, ridge);
        let step = solve(curvature, gradient);
        let mut scale = 1.0;
        let moved = loop {
            let trial: [f64; N] = std::array::from_fn(|i| weights[i] + scale * step[i]);
            let there = objective(choices, &trial, &prior, ridge);
            if there > here || scale < 1e-6 {
                break (there > here).then_some((trial, there));
            }
            scale /= 2.0;
        };
        let Some((trial, there)) = moved else { break };
        let gained = there - here;
        (weights, here) = (trial, there);
        if gained < 1e-9 * here.abs() {
            break;
        }
    }
    weights
}

pub(super) fn dot<const N: usize>(a: &[f64; N], b: &[f64; N]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Probability of each candidate.
fn probabilities<const N: usize>(candidates: &[[f64; N]], weights: &[f64; N]) -> Vec<f64> {
    let scores: Vec<f64> = candidates.iter().map(|x| dot(x, weights)).collect();
    let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let raised: Vec<f64> = scores.iter().map(|score| (score - top).exp()).collect();
    let total: f64 = raised.iter().sum();
    raised.into_iter().map(|p| p / total).collect()
}

fn objective<const N: usize>(choices: &[Choice<N>], weights: &[f64; N], prior: &[f64; N], ridge: f64) -> f64 {
    let likelihood: f64 = choices.iter().map(|c| probabilities(&c.candidates, weights)[c.chosen].ln()).sum();
    let away: f64 = weights.iter().zip(prior).map(|(w, p)| (w - p) * (w - p)).sum();
    likelihood - ridge / 2.0 * away
}

/// Gradient and negated Hessian.
fn derivatives<const N: usize>(
    choices: &[Choice<N>],
    weights: &[f64; N],
    prior: &[f64; N],
    ridge: f64,
) -> ([f64; N], [[f64; N]; N]) {
    let mut gradient: [f64; N] = std::array::from_fn(|i| ridge * (prior[i] - weights[i]));
    let mut curvature = [[0.0; N]; N];
    (0..N).for_each(|i| curvature[i][i] = ridge);
    for choice in choices {
        let p = probabilities(&choice.candidates, weights);
        let mean: [f64; N] = std::array::from_fn(|i| choice.candidates.iter().zip(&p).map(|(x, p)| p * x[i]).sum());
        (0..N).for_each(|i| gradient[i] += choice.candidates[choice.chosen][i] - mean[i]);
        for (x, p) in choice.candidates.iter().zip(&p) {
            for i in 0..N {
                for j in 0..N {
                    curvature[i][j] += p * (x[i] - mean[i]) * (x[j] - mean[j]);
                }
            }
        }
    }
    (gradient, curvature)
}

/// x with A·x = b, for a positive definite A, by Gaussian elimination.
fn solve<const N: usize>(mut a: [[f64; N]; N], mut b: [f64; N]) -> [f64; N] {
    for column in 0..N {
        let pivot = a[column];
        for row in column + 1..N {
            let factor = a[row][column] / pivot[column];
            (column..N).for_each(|k| a[row][k] -= factor * pivot[k]);
            b[row] -= factor * b[column];
        }
    }
    let mut x = [0.0; N];
    for row in (0..N).rev() {
        let known: f64 = (row + 1..N).map(|k| a[row][k] * x[k]).sum();
        x[row] = (b[row] - known) / a[row][row];
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::stream;
    use rand::RngExt;

    #[test]
    fn weights_behind_random_choices_are_found() {
        let truth = [1.5, -0.7, 0.0];
        let mut rng = stream(1, "test", 0, 0);
        let mut choose = |weights: [f64; 3]| {
            let candidates: Vec<[f64; 3]> =
                (0..5).map(|_| std::array::from_fn(|_| rng.random::<f64>() * 4.0 - 2.0)).collect();
            let mut left: f64 = rng.random();
            let p = probabilities(&candidates, &weights);
            let chosen = p.iter().position(|p| {
                left -= p;
                left < 0.0
            });
            Choice { chosen: chosen.unwrap_or(4), candidates }
        };
        let choices: Vec<_> = (0..4000).map(|_| choose(truth)).collect();
        let found = fit(&choices, [0.0; 3], 1.0);
        assert!(found.iter().zip(truth).all(|(f, t)| (f - t).abs() < 0.1), "{found:?}");
        let at_random: Vec<_> = (0..4000).map(|_| choose([0.0; 3])).collect();
        let found = fit(&at_random, [1.0; 3], 1.0);
        assert!(found.iter().all(|w| w.abs() < 0.06), "choices at random leave no weight: {found:?}");
        assert_eq!(fit(&[], [1.0, 2.0, 3.0], 1.0), [1.0, 2.0, 3.0]);
    }

    #[test]
    fn a_feature_that_never_differs_keeps_its_weight() {
        let choice = Choice { candidates: vec![[1.0, 5.0], [0.0, 5.0]], chosen: 0 };
        let found = fit(&[choice], [0.0, 0.4], 1.0);
        assert!((found[1] - 0.4).abs() < 1e-12 && found[0] > 0.3, "{found:?}");
        let solved = solve([[4.0, 2.0], [2.0, 3.0]], [2.0, 5.0]);
        assert!((solved[0] + 0.5).abs() < 1e-12 && (solved[1] - 2.0).abs() < 1e-12, "{solved:?}");
    }
}
