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
    /// Number of tokens that each was chosen from. One that was the only choice is no action: it has no gradient.
    pub choices: Vec<usize>,
    /// Log-probability of each token as sampling saw it. (tokens)
    pub logp_sampled: Vec<f32>,
    /// Log-probability of each [action](Response::actions) over the whole vocabulary before the first update since
    /// sampling; none if there was no update yet.
    pub logp_old: Option<Vec<f32>>,
    /// Group-normalised advantage.
    pub advantage: f32,
}

impl Response {
    /// Places of the tokens that were chosen among several.
    pub fn actions(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.tokens.len()).filter(|&i| self.choices[i] > 1)
    }
}

/// Groups packed for one pass: prompts as segments of their own, responses as segments that share them.
struct PackedGroups {
    ids: Vec<u32>,
    segments: Segments,
    /// Row whose state predicts each action.
    rows: Vec<u32>,
    /// The actions.
    targets: Vec<u32>,
    /// Start of each response among the targets, and their end.
    offsets: Vec<usize>,
}

impl PackedGroups {
    fn new(groups: &[Group]) -> Result<PackedGroups> {
        let (mut ids, mut segments, mut rows, mut targets, mut offsets) = (vec![], vec![], vec![], vec![], vec![0]);
        for group in groups {
            let prompt = ids.len() as u32;
            let length = group.prompt.len() as u32;
            ids.extend_from_slice(&group.prompt);
            segments.push(Segment { start: prompt, len: length, prefix_start: 0, prefix_len: 0 });
            for response in &group.responses {
                // the last token is predicted but predicts nothing
                let inputs = &response.tokens[..response.tokens.len().saturating_sub(1)];
                let start = ids.len() as u32;
                let before = |i: usize| if i == 0 { prompt + length - 1 } else { start + i as u32 - 1 };
                rows.extend(response.actions().map(before));
                if !inputs.is_empty() {
                    ids.extend_from_slice(inputs);
                    let len = inputs.len() as u32;
                    segments.push(Segment { start, len, prefix_start: prompt, prefix_len: length });
                }
                targets.extend(response.actions().map(|i| response.tokens[i]));
                offsets.push(targets.len());
            }
        }
        let tokens = ids.len();
        Ok(PackedGroups { ids, segments: Segments::new(segments, tokens)?, rows, targets, offsets })
    }
}

/// What a forward pass says of the actions of some groups, in the order of the responses.
#[derive(Debug, Clone)]
pub struct Logps {
    /// Log-probability of each over the whole vocabulary at the sampling temperature.
    pub logps: Vec<f32>,
    /// Sum of the entropies of the distributions they come from.
    pub entropy: f64,
}

impl Logps {
    fn of(found: &ops::LogProbs) -> Result<Logps> {
        let entropy = found.entropy.to_f64()?.iter().sum();
        Ok(Logps { logps: found.logp.tensor().to_vec::<f32>()?, entropy })
    }
}

/// The actions' log-probabilities at `temperature`, without gradients.
pub fn response_logps(model: &Qwen3, groups: &[Group], temperature: f32) -> Result<Logps> {
    let packed = PackedGroups::new(groups)?;
    Logps::of(&predict(model, &Tape::inference(), &packed, temperature)?)
}

fn predict(model: &Qwen3, tape: &Tape, packed: &PackedGroups, temperature: f32) -> Result<ops::LogProbs> {
    let hidden = model.hidden(tape, &packed.ids, &mut Packed::new(packed.segments.clone()))?;
    let rows = ops::gather_rows(tape, &hidden, &packed.rows)?;
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
/// Responses without `logp_old` are those of the policy itself: their ratio is 1. Under a grammar the ratio is that of the free policy: what the grammar bars is taken for improbable already.
pub fn policy_gradients(
    model: &Qwen3,
    groups: &[Group],
    temperature: f32,
    clip: &Clip,
    global_tokens: usize,
) -> Result<PolicyPass> {
    let packed = PackedGroups::new(groups)?;
    let tape = Tape::new();
    let found = predict(model, &tape, &packed, temperature)?;
    let actions = Logps::of(&found)?;
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
    let seed = Tensor::from_slice(model.device(), &loss.grad, logp.tensor().shape().clone())?;
    let gradients = tape.backward(&[(&logp, seed)])?;
    Ok(PolicyPass { loss: loss.loss, gradients, metrics: loss.metrics, actions })
}
