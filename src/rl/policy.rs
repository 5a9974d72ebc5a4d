//! The policy's log-probabilities of groups of rollouts, and the gradient of the DAPO loss, each prompt packed once
//! with all its responses.

use super::{Clip, DapoBatch, DapoMetrics, dapo_loss};
use crate::autograd::{Gradients, Tape};
use crate::error::Result;
use crate::model::Qwen3;
use crate::nn::Packed;
use crate::ops;
use crate::tensor::Tensor;
use gr2_kernels::{Segment, Segments};
use std::ops::Range;

/// A prompt and the responses sampled for it.
#[derive(Debug, Clone)]
pub struct Group {
    /// Prompt tokens.
    pub prompt: Vec<u32>,
    /// Response tokens, each with its log-probabilities under the policy that sampled it and its advantage.
    pub responses: Vec<Response>,
}

/// One response of a group.
#[derive(Debug, Clone)]
pub struct Response {
    /// Token ids.
    pub tokens: Vec<u32>,
    /// Tokens that each was chosen from, empty for all.
    pub allowed: Vec<Vec<u32>>,
    /// Tokens from here on could not change the outcome: they are no actions.
    pub settled: usize,
    /// Log-probability of each token as sampling saw it. (tokens)
    pub logp_sampled: Vec<f32>,
    /// Log-probability of each [action](Response::actions) before the first update since sampling; none if there was no
    /// update yet.
    pub logp_old: Option<Vec<f32>>,
    /// Group-normalised advantage.
    pub advantage: f32,
}

impl Response {
    /// Places of the tokens that were chosen among several and bore on the outcome.
    pub fn actions(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.settled.min(self.tokens.len())).filter(|&i| self.allowed[i].len() != 1)
    }
}

/// Groups packed for one pass: prompts as segments of their own, responses as segments that share them.
struct PackedGroups {
    ids: Vec<u32>,
    segments: Segments,
    /// Row whose state predicts each target.
    rows: Vec<u32>,
    /// The actions, each followed by what it was chosen over where a grammar left but a few.
    targets: Vec<u32>,
    /// Targets of each action.
    choices: Vec<Range<usize>>,
    /// Start of each response among the actions, and their end.
    offsets: Vec<usize>,
}

impl PackedGroups {
    fn new(groups: &[Group]) -> Result<PackedGroups> {
        let (mut ids, mut segments, mut rows, mut targets) = (vec![], vec![], vec![], vec![]);
        let (mut choices, mut offsets) = (vec![], vec![0]);
        for group in groups {
            let prompt = ids.len() as u32;
            let length = group.prompt.len() as u32;
            ids.extend_from_slice(&group.prompt);
            segments.push(Segment { start: prompt, len: length, prefix_start: 0, prefix_len: 0 });
            for response in &group.responses {
                // the last action is predicted, and what comes after it predicts none
                let inputs = &response.tokens[..response.actions().last().unwrap_or(0)];
                let start = ids.len() as u32;
                let before = |i: usize| if i == 0 { prompt + length - 1 } else { start + i as u32 - 1 };
                for i in response.actions() {
                    let first = targets.len();
                    let others = response.allowed[i].iter().copied().filter(|&other| other != response.tokens[i]);
                    targets.push(response.tokens[i]);
                    targets.extend(others);
                    rows.resize(targets.len(), before(i));
                    choices.push(first..targets.len());
                }
                if !inputs.is_empty() {
                    ids.extend_from_slice(inputs);
                    let len = inputs.len() as u32;
                    segments.push(Segment { start, len, prefix_start: prompt, prefix_len: length });
                }
                offsets.push(choices.len());
            }
        }
        let tokens = ids.len();
        Ok(PackedGroups { ids, segments: Segments::new(segments, tokens)?, rows, targets, choices, offsets })
    }

    /// Log-probability of each action among what it was chosen from, given those of all targets.
    fn of_actions(&self, logps: &[f32]) -> Vec<f32> {
        self.choices.iter().map(|choice| logps[choice.start] - log_sum_exp_or_zero(&logps[choice.clone()])).collect()
    }

    /// The derivative by the targets' log-probabilities, given that by the actions'.
    fn to_targets(&self, logps: &[f32], grad: &[f32]) -> Vec<f32> {
        let mut seed = vec![0.0; logps.len()];
        for (choice, &g) in self.choices.iter().zip(grad) {
            seed[choice.start] = g;
            if choice.len() > 1 {
                let total = log_sum_exp_or_zero(&logps[choice.clone()]);
                for at in choice.clone() {
                    seed[at] -= g * (logps[at] - total).exp();
                }
            }
        }
        seed
    }
}

/// `ln Σ exp x`, and 0 for a choice among the whole vocabulary, whose one log-probability is normalised already.
fn log_sum_exp_or_zero(logps: &[f32]) -> f32 {
    if logps.len() == 1 {
        return 0.0;
    }
    let top = logps.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    top + logps.iter().map(|l| (l - top).exp()).sum::<f32>().ln()
}

/// What a forward pass says of the actions of some groups, in the order of the responses.
#[derive(Debug, Clone)]
pub struct Logps {
    /// Log-probability of each at the sampling temperature, among what it was chosen from.
    pub logps: Vec<f32>,
    /// Sum of the entropies of the distributions over the whole vocabulary.
    pub entropy: f64,
}

impl Logps {
    fn of(found: &ops::LogProbs, packed: &PackedGroups) -> Result<Logps> {
        let entropy = found.entropy.to_f64()?;
        let logps = packed.of_actions(&found.logp.tensor().to_vec::<f32>()?);
        Ok(Logps { logps, entropy: packed.choices.iter().map(|choice| entropy[choice.start]).sum() })
    }
}

/// The actions' log-probabilities at `temperature`, without gradients.
pub fn response_logps(model: &Qwen3, groups: &[Group], temperature: f32) -> Result<Logps> {
    let packed = PackedGroups::new(groups)?;
    Logps::of(&predict(model, &Tape::inference(), &packed, temperature)?, &packed)
}

fn predict(model: &Qwen3, tape: &Tape, packed: &PackedGroups, temperature: f32) -> Result<ops::LogProbs> {
    let mut context = Packed::new(packed.segments.clone());
    let rows = model.hidden_of(tape, &packed.ids, &packed.rows, &mut context)?;
    ops::linear_logprob(tape, &rows, &tape.param(model.head()), &packed.targets, temperature)
}

/// One part of a policy update.
pub struct PolicyPass {
    /// Its share of the loss of the global batch.
    pub loss: f64,
    /// Its share of the gradients.
    pub gradients: Gradients,
    /// How the policy has moved.
    pub metrics: DapoMetrics,
    /// The actions under the policy in training.
    pub actions: Logps,
}

/// Loss, gradients and metrics of one part of a global batch of `global_tokens` actions.
///
/// Responses without `logp_old` are those of the policy itself: their ratio is 1.
pub fn policy_gradients(
    model: &Qwen3,
    groups: &[Group],
    temperature: f32,
    clip: &Clip,
    global_tokens: usize,
    scale: f64,
) -> Result<PolicyPass> {
    let packed = PackedGroups::new(groups)?;
    let tape = Tape::new();
    let found = predict(model, &tape, &packed, temperature)?;
    let actions = Logps::of(&found, &packed)?;
    let responses = || groups.iter().flat_map(|g| &g.responses);
    let mut logp_old = actions.logps.clone();
    for (response, range) in responses().zip(packed.offsets.windows(2)) {
        if let Some(old) = &response.logp_old {
            logp_old[range[0]..range[1]].copy_from_slice(old);
        }
    }
    let advantage: Vec<f32> = responses().map(|r| r.advantage).collect();
    let mask = vec![true; logp_old.len()];
    let batch = DapoBatch {
        logp: &actions.logps,
        logp_old: &logp_old,
        mask: &mask,
        offsets: &packed.offsets,
        advantage: &advantage,
        global_tokens,
    };
    let loss = dapo_loss(&batch, clip)?;
    let logp = found.logp;
    let seed = packed.to_targets(&logp.tensor().to_vec::<f32>()?, &loss.grad);
    let seed = Tensor::from_slice(model.device(), &seed, logp.tensor().shape().clone())?;
    let gradients = tape.backward_scaled(&[(&logp, seed)], scale)?;
    Ok(PolicyPass { loss: loss.loss, gradients, metrics: loss.metrics, actions })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(tokens: &[u32], allowed: &[&[u32]], settled: usize) -> Response {
        let allowed = allowed.iter().map(|list| list.to_vec()).collect();
        Response { tokens: tokens.into(), allowed, settled, logp_sampled: vec![], logp_old: None, advantage: 1.0 }
    }

    #[test]
    fn forced_and_settled_tokens_are_no_actions_and_a_choice_brings_its_alternatives() {
        let first = response(&[7, 8, 9, 5, 6], &[&[], &[8], &[3, 9], &[4, 5], &[]], 4);
        let second = response(&[1], &[&[]], 1);
        let packed = PackedGroups::new(&[Group { prompt: vec![1, 2, 3], responses: vec![first, second] }]).unwrap();
        assert_eq!(packed.ids, [1, 2, 3, 7, 8, 9]);
        // 7 free, 9 chosen over 3, 5 chosen over 4; then the second response's 1
        assert_eq!((packed.targets, packed.rows), (vec![7, 9, 3, 5, 4, 1], vec![2, 4, 4, 5, 5, 2]));
        assert_eq!((packed.choices, packed.offsets), (vec![0..1, 1..3, 3..5, 5..6], vec![0, 3, 4]));
    }

    #[test]
    fn a_choice_is_normalised_over_its_alternatives_and_so_is_its_gradient() {
        let one = response(&[7, 9], &[&[], &[2, 3, 9]], 2);
        let packed = PackedGroups::new(&[Group { prompt: vec![1], responses: vec![one] }]).unwrap();
        let logps = [-0.5f32, 0.1f32.ln(), 0.3f32.ln(), 0.1f32.ln()];
        let found = packed.of_actions(&logps);
        assert!((found[0] + 0.5).abs() < 1e-6 && (found[1] - 0.2f32.ln()).abs() < 1e-6, "{found:?}");
        let grad = [2.0, -3.0];
        let seed = packed.to_targets(&logps, &grad);
        for at in 0..logps.len() {
            let loss = |step: f32| -> f32 {
                let mut moved = logps;
                moved[at] += step;
                packed.of_actions(&moved).iter().zip(grad).map(|(l, g)| l * g).sum()
            };
            let expected = (loss(1e-2) - loss(-1e-2)) / 2e-2;
            assert!((seed[at] - expected).abs() < 1e-3, "{at}: {} {expected}", seed[at]);
        }
    }
}
