//! Causal grouped-query self-attention with normalised queries and keys.

use super::{Linear, RmsNorm};
use crate::autograd::{Param, Tape, Var};
use crate::error::Result;
use crate::ops;
use crate::ops::Rotation;
use gr2_kernels::Segments;

/// Where queries find their keys: the tokens of the same packed batch ([`Packed`]), or a cache (`generate`).
pub trait Context {
    /// Position of every token for the rotary embedding.
    fn positions(&self) -> &[u32];

    /// Attention of `q` (T, H, D) over the keys and values this context holds, `k` and `v` (T, K, D) of these tokens
    /// included: (T, H, D).
    fn attend(&mut self, tape: &Tape, layer: usize, q: &Var, k: &Var, v: &Var) -> Result<Var>;

    /// What of a `branch` (T, C), the output of attention or MLP, is added to the stream: all of it, unless training
    /// says otherwise.
    fn residual(&mut self, _tape: &Tape, branch: Var) -> Result<Var> {
        Ok(branch)
    }

    /// True if [`Self::residual`] leaves branches as they are.
    fn adds_whole_branches(&self) -> bool {
        true
    }

    /// A context that gives the same from here on once more, for gradient checkpointing; none if a pass leaves traces.
    fn again(&self) -> Option<Packed> {
        None
    }
}

/// Dropout of residual branches.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    /// Probability that an element is dropped.
    pub p: f32,
    /// Seed of the draws of one pass; every branch has draws of its own.
    pub seed: u64,
}

/// Sequences packed one after the other, as in training: every token sees its own sequence up to itself, and the
/// prefix its sequence shares.
#[derive(Clone)]
pub struct Packed {
    segments: Segments,
    positions: Vec<u32>,
    dropout: Option<Dropout>,
}

impl Packed {
    /// A context over these segments.
    pub fn new(segments: Segments) -> Packed {
        Packed { positions: segments.positions(), segments, dropout: None }
    }

    /// The same, with dropout in a pass that trains.
    pub fn with_dropout(self, dropout: Option<Dropout>) -> Packed {
        Packed { dropout: dropout.filter(|d| d.p > 0.0), ..self }
    }
}

impl Context for Packed {
    fn positions(&self) -> &[u32] {
        &self.positions
    }

    fn attend(&mut self, tape: &Tape, _layer: usize, q: &Var, k: &Var, v: &Var) -> Result<Var> {
        ops::attention(tape, q, k, v, &self.segments)
    }

    fn residual(&mut self, tape: &Tape, branch: Var) -> Result<Var> {
        let Some(dropout) = &mut self.dropout else { return Ok(branch) };
        dropout.seed = dropout.seed.wrapping_add(1);
        ops::dropout(tape, &branch, dropout.p, dropout.seed)
    }

    fn adds_whole_branches(&self) -> bool {
        self.dropout.is_none()
    }

    fn again(&self) -> Option<Packed> {
        Some(self.clone())
    }
}

/// Head counts and width.
#[derive(Debug, Clone, Copy)]
pub struct AttentionShape {
    /// H.
    pub heads: usize,
    /// K.
    pub kv_heads: usize,
    /// D.
    pub head_dim: usize,
}

/// `o(attention(rope(norm(q(x))), rope(norm(k(x))), v(x)))`.
#[derive(Debug, Clone)]
pub struct SelfAttention {
    /// Head counts and width.
    pub shape: AttentionShape,
    /// (H·D, C).
    pub q_proj: Linear,
    /// (K·D, C).
    pub k_proj: Linear,
    /// (K·D, C).
    pub v_proj: Linear,
    /// (C, H·D).
    pub o_proj: Linear,
    /// Over D, shared by the query heads, before the rotary embedding.
    pub q_norm: RmsNorm,
    /// Over D, shared by the key heads, before the rotary embedding.
    pub k_norm: RmsNorm,
}

impl SelfAttention {
    /// The first projections of (T, C): queries, keys and values.
    pub fn project(&self, tape: &Tape, x: &Var) -> Result<[Var; 3]> {
        Linear::forward_each([&self.q_proj, &self.k_proj, &self.v_proj], tape, x)
    }

    /// The same of `norm` of (T, C).
    pub fn project_normed(&self, tape: &Tape, x: &Var, norm: &RmsNorm) -> Result<[Var; 3]> {
        Linear::forward_each_normed([&self.q_proj, &self.k_proj, &self.v_proj], tape, x, norm)
    }

    /// What the heads find for these projections, side by side (T, H·D): the layer but for its last projection.
    pub fn heads(
        &self,
        tape: &Tape,
        [q, k, v]: [Var; 3],
        rope: &Rotation,
        layer: usize,
        context: &mut dyn Context,
    ) -> Result<Var> {
        let AttentionShape { heads, kv_heads, head_dim } = self.shape;
        let (tokens, _) = q.tensor().shape().dims2("attention")?;
        let q = ops::reshape(tape, &q, [tokens, heads, head_dim])?;
        let k = ops::reshape(tape, &k, [tokens, kv_heads, head_dim])?;
        let v = ops::reshape(tape, &v, [tokens, kv_heads, head_dim])?;
        let norms = [&self.q_norm, &self.k_norm].map(|norm| tape.param(&norm.weight));
        let [q, k] = ops::norm_rope(tape, [&q, &k], norms.each_ref(), self.q_norm.eps, rope)?;
        ops::reshape(tape, &context.attend(tape, layer, &q, &k, &v)?, [tokens, heads * head_dim])
    }

    /// Its parameters.
    pub fn params(&self) -> impl Iterator<Item = &Param> {
        let projections = [&self.q_proj, &self.k_proj, &self.v_proj, &self.o_proj];
        let norms = [&self.q_norm.weight, &self.k_norm.weight];
        projections.into_iter().flat_map(Linear::params).chain(norms)
    }

    /// Its parameters, for writing.
    pub fn params_mut(&mut self) -> impl Iterator<Item = &mut Param> {
        let projections = [&mut self.q_proj, &mut self.k_proj, &mut self.v_proj, &mut self.o_proj];
        let norms = [&mut self.q_norm.weight, &mut self.k_norm.weight];
        projections.into_iter().flat_map(Linear::params_mut).chain(norms)
    }
}
