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
    /// Log-probability of each token before the update. (tokens)
    pub logp_old: Vec<f32>,
    /// Group-normalised advantage.
    pub advantage: f32,
}

/// Groups packed for one pass: prompts as segments of their own, responses as segments that share them.
struct PackedGroups {
    ids: Vec<u32>,
    segments: Segments,
    /// Row whose state predicts each response token.
    rows: Vec<u32>,
    /// The response tokens.
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
                if !response.tokens.is_empty() {
                    rows.push(prompt + length - 1);
                    rows.extend((0..inputs.len() as u32).map(|i| start + i));
                }
                if !inputs.is_empty() {
                    ids.extend_from_slice(inputs);
                    let len = inputs.len() as u32;
                    segments.push(Segment { start, len, prefix_start: prompt, prefix_len: length });
                }
                targets.extend_from_slice(&response.tokens);
                offsets.push(targets.len());
            }
        }
        let tokens = ids.len();
        Ok(PackedGroups { ids, segments: Segments::new(segments, tokens)?, rows, targets, offsets })
    }
}

/// Log-probability of every response token at `temperature`, and the mean entropy: in the order of the responses.
pub fn response_logps(model: &Qwen3, groups: &[Group], temperature: f32) -> Result<(Vec<f32>, f64)> {
    let packed = PackedGroups::new(groups)?;
    let tape = Tape::inference();
    let hidden = model.hidden(&tape, &packed.ids, &mut Packed::new(packed.segments))?;
    let rows = ops::gather_rows(&tape, &hidden, &packed.rows)?;
    let found = ops::linear_logprob(&tape, &rows, &tape.param(model.head()), &packed.targets, temperature)?;
    let entropy = found.entropy.to_f64()?;
    let mean = entropy.iter().sum::<f64>() / entropy.len().max(1) as f64;
    Ok((found.logp.tensor().to_vec::<f32>()?, mean))
}

/// Loss, gradients and metrics of one part of a global batch of `global_tokens` response tokens.
pub fn policy_gradients(
    model: &Qwen3,
    groups: &[Group],
    temperature: f32,
    clip: &Clip,
    global_tokens: usize,
) -> Result<(f64, Gradients, DapoMetrics)> {
    let packed = PackedGroups::new(groups)?;
    let tape = Tape::new();
    let hidden = model.hidden(&tape, &packed.ids, &mut Packed::new(packed.segments))?;
    let rows = ops::gather_rows(&tape, &hidden, &packed.rows)?;
    let found = ops::linear_logprob(&tape, &rows, &tape.param(model.head()), &packed.targets, temperature)?;
    let logp = found.logp.tensor().to_vec::<f32>()?;
    let responses = || groups.iter().flat_map(|g| &g.responses);
    let logp_old: Vec<f32> = responses().flat_map(|r| &r.logp_old).copied().collect();
    let advantage: Vec<f32> = responses().map(|r| r.advantage).collect();
    let mask = vec![true; logp.len()];
    let batch = DapoBatch {
        logp: &logp,
        logp_old: &logp_old,
        mask: &mask,
        offsets: &packed.offsets,
        advantage: &advantage,
        global_tokens,
    };
    let loss = dapo_loss(&batch, clip)?;
    let logp = found.logp;
    let seed = Tensor::from_slice(model.device(), &loss.grad, logp.tensor().shape().clone())?;
    Ok((loss.loss, tape.backward(&[(&logp, seed)])?, loss.metrics))
}
