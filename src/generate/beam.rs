//! Beam search over the items of a catalogue: every path is a full prefix of some item's tokens.

use super::cache::{Cache, CacheConfig, Decode, prefill};
use crate::autograd::{Tape, Var};
use crate::error::{Error, Result};
use crate::model::Qwen3;
use gr2_kernels::decode::DecodeRow;
use gr2_kernels::{Dtype, Segments};

/// A tree of the token sequences that may be generated, all of one length.
pub trait Constraint {
    /// A position in the tree.
    type Node: Copy;

    /// Tokens of a complete path.
    fn depth(&self) -> usize;

    /// The node before the first token.
    fn root(&self) -> Self::Node;

    /// Calls `visit(token, node)` for every token allowed after `node`, in a fixed order.
    fn children(&self, node: Self::Node, visit: impl FnMut(u32, Self::Node));
}

/// One complete path.
#[derive(Debug, Clone, PartialEq)]
pub struct Beam<N> {
    /// Its tokens.
    pub tokens: Vec<u32>,
    /// Its leaf in the constraint.
    pub node: N,
    /// Sum of the tokens' log-probabilities over the whole vocabulary.
    pub logp: f32,
}

/// Logits held at a time: rows of one wave times the vocabulary.
const LOGITS: usize = 16 << 20;

/// The `beams` most probable paths after every prompt, best first; fewer where the constraint has fewer.
///
/// Scores are log-softmax over the whole vocabulary, then restricted to the allowed tokens; equal scores are ordered
/// by token.
/// Errors: `Shape` for an empty prompt; `Run` if the constraint allows nothing.
/// Source: transformers' beam search with a prefix constraint and length penalty 0.
pub fn beam_search<C: Constraint>(
    model: &Qwen3,
    prompts: &[Vec<u32>],
    constraint: &C,
    beams: usize,
) -> Result<Vec<Vec<Beam<C::Node>>>> {
    if let Some(empty) = prompts.iter().position(|p| p.is_empty()) {
        return Err(Error::Shape { op: "beam search", problem: format!("prompt {empty} is empty") });
    }
    let wave = (LOGITS / (beams.max(1) * model.config().vocab_size)).clamp(1, 64);
    let mut found = Vec::with_capacity(prompts.len());
    for prompts in prompts.chunks(wave) {
        found.extend(search(model, prompts, constraint, beams)?);
    }
    Ok(found)
}

fn search<C: Constraint>(
    model: &Qwen3,
    prompts: &[Vec<u32>],
    constraint: &C,
    beams: usize,
) -> Result<Vec<Vec<Beam<C::Node>>>> {
    let prompts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
    let packed = Segments::packed(&prompts.iter().map(|prompt| prompt.len()).collect::<Vec<usize>>())?;
    let (tokens, slots) = (packed.tokens(), prompts.len() * beams);
    let sizes = CacheConfig { prompt_tokens: tokens, slots, capacity: constraint.depth(), stored: Dtype::F32 };
    let mut cache = Cache::new(model.config(), model.device(), sizes)?;
    let places: Vec<_> = packed.list().iter().map(|prompt| prompt.start..prompt.start + prompt.len).collect();
    let hidden = prefill(model, &mut cache, &prompts, &places)?;

    let start = Beam { tokens: vec![], node: constraint.root(), logp: 0.0 };
    let mut paths: Vec<Vec<Beam<C::Node>>> = vec![vec![start]; prompts.len()];
    let mut parents = extend(&mut paths, &log_softmax(model, &Tape::inference(), &hidden)?, constraint, beams)?;
    for depth in 1..constraint.depth() {
        if depth > 1 {
            // paths move to the slots of their new ranks, taking their parents' keys and values along
            let moved = |&(p, from, to): &(usize, usize, usize)| ((p * beams + from) as u32, (p * beams + to) as u32);
            let (from, to): (Vec<u32>, Vec<u32>) = parents.iter().map(moved).unzip();
            cache.copy_slots(&from, &to, depth - 1)?;
        }
        let (mut rows, mut ids) = (vec![], vec![]);
        for (p, (paths, prompt)) in paths.iter().zip(packed.list()).enumerate() {
            for (rank, path) in paths.iter().enumerate() {
                rows.push(DecodeRow {
                    prompt_start: prompt.start,
                    prompt_len: prompt.len,
                    slot: (p * beams + rank) as u32,
                    suffix_len: depth as u32,
                });
                ids.push(*path.tokens.last().expect("invariant: extended before"));
            }
        }
        let tape = Tape::inference();
        let hidden = model.hidden(&tape, &ids, &mut Decode::new(&mut cache, rows)?)?;
        parents = extend(&mut paths, &log_softmax(model, &tape, &hidden)?, constraint, beams)?;
    }
    Ok(paths)
}

/// Logits (R, V) on the host with the log of each row's sum of exponentials.
struct Scores {
    logits: Vec<f32>,
    log_sum: Vec<f32>,
    vocab: usize,
}

fn log_softmax(model: &Qwen3, tape: &Tape, hidden: &Var) -> Result<Scores> {
    let logits = model.logits(tape, hidden)?.tensor().to_vec::<f32>()?;
    let vocab = model.config().vocab_size;
    let log_sum = logits.chunks_exact(vocab).map(|row| {
        let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        largest + row.iter().map(|x| (x - largest).exp()).sum::<f32>().ln()
    });
    Ok(Scores { log_sum: log_sum.collect(), logits, vocab })
}

/// Replaces every prompt's paths by its best extensions. Returns (prompt, old rank, new rank) of each.
fn extend<C: Constraint>(
    paths: &mut [Vec<Beam<C::Node>>],
    scores: &Scores,
    constraint: &C,
    beams: usize,
) -> Result<Vec<(usize, usize, usize)>> {
    let mut parents = vec![];
    let mut row = 0;
    for (p, paths) in paths.iter_mut().enumerate() {
        let mut extensions: Vec<(f32, u32, usize, C::Node)> = vec![];
        for (rank, path) in paths.iter().enumerate() {
            let logits = &scores.logits[row * scores.vocab..(row + 1) * scores.vocab];
            let base = path.logp - scores.log_sum[row];
            constraint.children(path.node, |token, node| {
                extensions.push((base + logits[token as usize], token, rank, node));
            });
            row += 1;
        }
        if extensions.is_empty() {
            return Err(Error::Run {
                stage: "beam search".into(),
                problem: "no token is allowed here: the catalogue's tree is empty".into(),
                hint: Some("the semantic ids and the model must come from the same run".into()),
            });
        }
        extensions.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.2.cmp(&b.2)).then(a.1.cmp(&b.1)));
        extensions.truncate(beams);
        let old = std::mem::take(paths);
        for (new, &(logp, token, rank, node)) in extensions.iter().enumerate() {
            let mut tokens = old[rank].tokens.clone();
            tokens.push(token);
            paths.push(Beam { tokens, node, logp });
            parents.push((p, rank, new));
        }
    }
    Ok(parents)
}
