//! Golden vectors of the reinforcement-learning arithmetic: worked rewards, TRL and verl advantages, clipped losses, DAPO's
//! length shaping, and the gradient of the loss against central differences.

use gr2::rl::{
    ADV_EPS, Clip, DapoBatch, Outcome, Overlong, RewardConfig, RewardKind, clipped_term, dapo_loss, group_advantages,
    has_signal, reward,
};

fn near(what: &str, got: f64, want: f64, tolerance: f64) {
    assert!((got - want).abs() <= tolerance, "{what}: got {got}, want {want}, tolerance {tolerance}");
}

/// rank_pre -> rank_re over a slate of 10, alpha 0.2: promotion, conditional reward, naive reward.
#[test]
fn worked_rewards() {
    let conditional = RewardConfig::default();
    let naive = RewardConfig { kind: RewardKind::Naive, ..conditional };
    for (rank_pre, rank_re, rank, total, total_naive) in [
        (4, 1, 0.3, 0.5, 0.5),
        (4, 4, 0.0, 0.0, 0.2),
        (1, 1, 0.0, 0.2, 0.2),
        (1, 3, -0.2, -0.2, 0.0),
        (2, 5, -0.3, -0.3, -0.1),
    ] {
        let outcome = Outcome::Valid { rank_pre, rank_re, slate: 10 };
        let what = format!("{rank_pre} -> {rank_re}");
        let (c, n) = (reward(outcome, &conditional).unwrap(), reward(outcome, &naive).unwrap());
        near(&what, c.rank as f64, rank, 1e-7);
        near(&what, c.total as f64, total, 1e-7);
        near(&what, n.total as f64, total_naive, 1e-7);
        assert_eq!((c.raw, n.raw), (c.rank, c.rank), "{what}");
        assert_eq!(c.total, c.rank + c.format, "{what}");
    }
    for config in [conditional, naive] {
        let invalid = reward(Outcome::Invalid, &config).unwrap();
        assert_eq!((invalid.rank, invalid.format, invalid.total, invalid.raw), (0.0, 0.0, -1.0, -1.0));
    }
}

#[test]
fn no_answer_to_a_slate_scores_below_an_invalid_one() {
    let config = RewardConfig::default();
    let worst = reward(Outcome::Valid { rank_pre: 1, rank_re: 10, slate: 10 }, &config).unwrap();
    assert!(worst.total > reward(Outcome::Invalid, &config).unwrap().total);
}

#[test]
fn advantages_of_trl_and_verl() {
    for (eps, want) in [(ADV_EPS, 0.866_023_90), (1e-4, 0.865_875_43)] {
        let a = group_advantages(&[1.0, 0.0, 0.0, 1.0], 4, eps).unwrap();
        for (got, sign) in a.values.iter().zip([1.0, -1.0, -1.0, 1.0]) {
            near(&format!("eps {eps}"), *got as f64, sign * want, 1e-7);
        }
    }
}

/// (log ratio, advantage) -> loss without dual clip, with c = 3, with c = 10.
#[test]
fn clipped_losses_of_verl() {
    let with = |dual| Clip { dual, ..Clip::default() };
    for (log_ratio, advantage, plain, three, ten) in [
        (0.0, 1.0, -1.0, -1.0, -1.0),
        (0.1, 1.0, -1.105171, -1.105171, -1.105171),
        (0.3, 1.0, -1.28, -1.28, -1.28),
        (-0.3, 1.0, -0.740818, -0.740818, -0.740818),
        (0.3, -1.0, 1.349859, 1.349859, 1.349859),
        (-0.3, -1.0, 0.8, 0.8, 0.8),
        (2.0, -1.0, 7.389056, 3.0, 7.389056),
        (3.0, -1.0, 20.085537, 3.0, 10.0),
    ] {
        for (dual, want) in [(None, plain), (Some(3.0), three), (Some(10.0), ten)] {
            let got = clipped_term(log_ratio, advantage, &with(dual)).loss;
            // 0.2 and 0.28 are held in f32: their error, 1e-8, is the largest here beside the six digits of the vectors.
            near(&format!("({log_ratio}, {advantage}), dual {dual:?}"), got, want, 6e-7);
        }
    }
}

#[test]
fn log_ratios_are_held_inside_twenty() {
    let term = clipped_term(25.0, -1.0, &Clip::default());
    assert_eq!((term.loss, term.slope), (20f64.exp(), 0.0));
    assert_eq!(clipped_term(-500.0, 1.0, &Clip::default()).loss, -(-20f64).exp());
}

/// Token losses [[1, 3], [2, 2, 2, 6]] have the token mean 16/6, whether given at once or as two parts of one global batch.
#[test]
fn token_mean_over_the_global_batch() {
    // With ratio 1 the loss of a token is minus its advantage, so each token is a sequence of its own here.
    let losses = [1.0f32, 3.0, 2.0, 2.0, 2.0, 6.0];
    let part = |losses: &[f32]| {
        let advantage: Vec<f32> = losses.iter().map(|l| -l).collect();
        let offsets: Vec<usize> = (0..=losses.len()).collect();
        let (logp, mask) = (vec![-1.0; losses.len()], vec![true; losses.len()]);
        let batch = DapoBatch {
            logp: &logp,
            logp_old: &logp,
            mask: &mask,
            offsets: &offsets,
            advantage: &advantage,
            global_tokens: 6,
        };
        dapo_loss(&batch, &Clip::default()).unwrap().loss
    };
    near("at once", part(&losses), 2.666_666_666_7, 1e-9);
    near("in parts", part(&losses[..2]) + part(&losses[2..]), 2.666_666_666_7, 1e-9);
}

/// A long sequence weighs as many times more as it has more tokens, the mean over sequences would weigh both the same.
#[test]
fn every_token_weighs_the_same() {
    let logp = [-1.0f32; 6];
    let batch = DapoBatch {
        logp: &logp,
        logp_old: &logp,
        mask: &[true, true, true, true, true, false],
        offsets: &[0, 1, 6],
        advantage: &[5.0, -1.0],
        global_tokens: 5,
    };
    let out = dapo_loss(&batch, &Clip::default()).unwrap();
    near("loss", out.loss, (-5.0 + 4.0) / 5.0, 1e-12);
    for (got, want) in out.grad.iter().zip([-1.0, 0.2, 0.2, 0.2, 0.2, 0.0]) {
        near("grad", *got as f64, want, 1e-7);
    }
}

#[test]
fn slope_is_the_derivative() {
    let h = 1e-5;
    for dual in [None, Some(3.0)] {
        let clip = Clip { dual, ..Clip::default() };
        for advantage in [-1.7, -0.3, 0.0, 0.4, 2.1] {
            for step in -60..=60 {
                // No point falls within h of a corner: log 0.8, log 1.28, log 3.
                let d = step as f64 * 0.05 + 0.0123;
                let difference = (clipped_term(d + h, advantage, &clip).loss
                    - clipped_term(d - h, advantage, &clip).loss)
                    / (2.0 * h);
                let slope = clipped_term(d, advantage, &clip).slope;
                // Central differences err by h²/6 times the third derivative, at most |A| e^3.1 here: 8e-10; the rest is rounding.
                near(&format!("d {d}, A {advantage}, dual {dual:?}"), slope, difference, 1e-8);
            }
        }
    }
}

#[test]
fn gradient_is_the_derivative_of_the_whole_loss() {
    // Multiples of 1/1024 and a step of 1/1024 are exact in f32, so only the truncation error of the difference is left.
    let unit = 1.0 / 1024.0;
    let at = |n: i32| n as f32 * unit;
    let mut logp: Vec<f32> = (0..40).map(|i| at(-1500 + (i * 397) % 1100)).collect();
    let logp_old: Vec<f32> = (0..40).map(|i| at(-1400 + (i * 211) % 900)).collect();
    let mask: Vec<bool> = (0..40).map(|i| i % 5 != 0).collect();
    let offsets = [0, 7, 7, 22, 40];
    let advantage = [1.25, 9.0, -0.75, 0.5];
    let clip = Clip { dual: Some(3.0), ..Clip::default() };
    let loss = |logp: &[f32]| {
        let batch = DapoBatch {
            logp,
            logp_old: &logp_old,
            mask: &mask,
            offsets: &offsets,
            advantage: &advantage,
            global_tokens: 64,
        };
        dapo_loss(&batch, &clip).unwrap()
    };
    let grad = loss(&logp).grad;
    let mut moved = 0;
    for row in 0..40 {
        let here = logp[row];
        let ratio = ((here - logp_old[row]) as f64).exp();
        if [0.8, 1.28, 3.0].iter().any(|corner| (ratio / corner).ln().abs() < 2.0 * unit as f64) {
            continue;
        }
        logp[row] = here + unit;
        let above = loss(&logp).loss;
        logp[row] = here - unit;
        let below = loss(&logp).loss;
        logp[row] = here;
        let difference = (above - below) / (2.0 * unit as f64);
        // h²/6 * |A| r / 64 is below 2e-8 here.
        near(&format!("row {row}"), grad[row] as f64, difference, 5e-8);
        moved += usize::from(grad[row] != 0.0);
    }
    assert!(moved >= 10, "only {moved} rows have a gradient, the check is empty");
}

#[test]
fn overlong_of_dapo_and_trl() {
    let dapo = Overlong { max_length: 20480, buffer: 4096, factor: 1.0 };
    for (length, want) in [(16384, 0.0), (17000, -0.150390625), (18432, -0.5), (20480, -1.0)] {
        assert_eq!(dapo.penalty(length) as f64, want, "length {length}");
    }
    assert_eq!(Overlong { max_length: 100, buffer: 20, factor: 1.0 }.penalty(90), -0.5);
}

/// A group of copies stays without signal whatever their lengths cost, and whatever the format bonus is.
#[test]
fn length_and_format_are_no_signal() {
    let shape = Overlong { max_length: 100, buffer: 50, factor: 1.0 };
    for kind in [RewardKind::Conditional, RewardKind::Naive] {
        let config = RewardConfig { kind, ..RewardConfig::default() };
        let copy = reward(Outcome::Valid { rank_pre: 3, rank_re: 3, slate: 10 }, &config).unwrap();
        let shaped: Vec<f32> = [40, 60, 80, 100].iter().map(|&n| copy.total + shape.penalty(n)).collect();
        assert!(has_signal(&shaped), "the lengths do differ");
        assert!(!has_signal(&[copy.raw; 4]));
    }
}
