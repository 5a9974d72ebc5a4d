//! One layer of the transformer.

use super::Qwen3Config;
use crate::autograd::{Param, Tape, Var, recompute};
use crate::error::Result;
use crate::nn::{AttentionShape, Context, Linear, Packed, RmsNorm, SelfAttention, SwiGlu};
use crate::ops;
use crate::ops::Rotation;
use crate::tensor::{Shape, Tensor};
use gr2_kernels::matmul::are_few;

/// `h = x + attention(norm(x)); y = h + mlp(norm(h))`.
#[derive(Debug, Clone)]
pub struct Block {
    index: usize,
    input_norm: RmsNorm,
    attention: SelfAttention,
    post_norm: RmsNorm,
    mlp: SwiGlu,
}

impl Block {
    /// Builds layer `index`, asking `weight(name, shape)` for every parameter by its checkpoint name.
    pub(super) fn build(
        config: &Qwen3Config,
        index: usize,
        weight: &mut dyn FnMut(&str, Shape) -> Result<Tensor>,
    ) -> Result<Block> {
        let Qwen3Config { hidden_size: c, intermediate_size: f, head_dim: d, .. } = *config;
        let shape =
            AttentionShape { heads: config.num_attention_heads, kv_heads: config.num_key_value_heads, head_dim: d };
        let mut param = |part: &str, sizes: &[usize]| -> Result<Param> {
            let name = format!("model.layers.{index}.{part}.weight");
            let value = weight(&name, sizes.into())?;
            Ok(Param::new(name, value))
        };
        let eps = config.rms_norm_eps as f32;
        let mut linear = |part: &str, out: usize, inner: usize| -> Result<Linear> {
            Ok(Linear { weight: param(part, &[out, inner])?, bias: None })
        };
        let (q, kv) = (shape.heads * d, shape.kv_heads * d);
        let q_proj = linear("self_attn.q_proj", q, c)?;
        let k_proj = linear("self_attn.k_proj", kv, c)?;
        let v_proj = linear("self_attn.v_proj", kv, c)?;
        let o_proj = linear("self_attn.o_proj", c, q)?;
        let gate = linear("mlp.gate_proj", f, c)?;
        let up = linear("mlp.up_proj", f, c)?;
        let down = linear("mlp.down_proj", c, f)?;
        let mut norm =
            |part: &str, width: usize| -> Result<RmsNorm> { Ok(RmsNorm { weight: param(part, &[width])?, eps }) };
        Ok(Block {
            index,
            input_norm: norm("input_layernorm", c)?,
            attention: SelfAttention {
                shape,
                q_proj,
                k_proj,
                v_proj,
                o_proj,
                q_norm: norm("self_attn.q_norm", d)?,
                k_norm: norm("self_attn.k_norm", d)?,
            },
            post_norm: norm("post_attention_layernorm", c)?,
            mlp: SwiGlu { gate, up, down },
        })
    }

    /// Applies the layer to (T, C). With `rows`, only those rows go on behind attention, which is for the last layer.
    pub(super) fn forward(
        &self,
        tape: &Tape,
        x: Stream,
        rope: &Rotation,
        context: &mut dyn Context,
        rows: Option<&[u32]>,
    ) -> Result<Stream> {
        if rows.is_none() && !tape.records() && context.adds_whole_branches() && x.is_short() {
            return self.forward_short(tape, x.whole(tape)?, rope, context);
        }
        let (mut x, y) = x.normed(tape, &self.input_norm)?;
        let projected = self.attention.project(tape, &y)?;
        let mut heads = self.attention.heads(tape, projected, rope, self.index, context)?;
        if let Some(rows) = rows {
            x = ops::gather_rows(tape, &x, rows)?;
            heads = ops::gather_rows(tape, &heads, rows)?;
        }
        let a = self.attention.o_proj.forward(tape, &heads)?;
        let (h, y) = self.post_norm.forward_add(tape, &x, &context.residual(tape, a)?)?;
        let m = self.mlp.forward(tape, &y)?;
        Ok(Stream { sum: h, branch: Some(context.residual(tape, m)?) })
    }

    /// The same in fewer launches, for a few rows: norms ride on the products, whose results are added to the stream in place.
    fn forward_short(&self, tape: &Tape, x: Var, rope: &Rotation, context: &mut dyn Context) -> Result<Stream> {
        let projected = self.attention.project_normed(tape, &x, &self.input_norm)?;
        let heads = self.attention.heads(tape, projected, rope, self.index, context)?;
        let x = self.attention.o_proj.forward_onto(tape, x, &heads)?;
        Ok(Stream::new(self.mlp.forward_onto(tape, x, &self.post_norm)?))
    }

    /// [`Self::forward`] that keeps nothing but its input for the way back, where it is run again in `context_again`.
    pub(super) fn forward_checkpointed(
        &self,
        tape: &Tape,
        x: Stream,
        rope: &Rotation,
        (context, context_again): (&mut dyn Context, Packed),
        rows: Option<&[u32]>,
    ) -> Result<Stream> {
        let (x, off) = (x.whole(tape)?, Tape::inference());
        let y = self.forward(&off, Stream::new(off.constant(x.tensor().clone())), rope, context, rows)?.whole(&off)?;
        let (block, rope, rows) = (self.clone(), rope.clone(), rows.map(<[u32]>::to_vec));
        let again = move |tape: &Tape, inputs: &[Var]| {
            let (x, mut context) = (Stream::new(inputs[0].clone()), context_again.clone());
            block.forward(tape, x, &rope, &mut context, rows.as_deref())?.whole(tape)
        };
        let params = self.params().cloned().collect();
        Ok(Stream::new(recompute(tape, y.tensor().clone(), &[&x], params, again)))
    }

    /// Its parameters.
    pub fn params(&self) -> impl Iterator<Item = &Param> {
        let norms = [&self.input_norm.weight, &self.post_norm.weight];
        self.attention.params().chain(self.mlp.params()).chain(norms)
    }

    /// Its parameters, for writing.
    pub fn params_mut(&mut self) -> impl Iterator<Item = &mut Param> {
        let norms = [&mut self.input_norm.weight, &mut self.post_norm.weight];
        self.attention.params_mut().chain(self.mlp.params_mut()).chain(norms)
    }
}

/// The residual stream between two layers (T, C): the sum so far, and the branch that the next normalisation adds to it
/// in its own pass over memory.
pub(super) struct Stream {
    sum: Var,
    branch: Option<Var>,
}

impl Stream {
    /// The stream before the first layer.
    pub(super) fn new(x: Var) -> Stream {
        Stream { sum: x, branch: None }
    }

    /// True if it has so few rows that their device is slowed by launches.
    fn is_short(&self) -> bool {
        let x = self.sum.tensor();
        are_few(x.device(), x.shape().rows().0)
    }

    /// The whole sum.
    fn whole(self, tape: &Tape) -> Result<Var> {
        match self.branch {
            Some(branch) => ops::add(tape, &self.sum, &branch),
            None => Ok(self.sum),
        }
    }

    /// The whole sum, and `norm` of it.
    pub(super) fn normed(self, tape: &Tape, norm: &RmsNorm) -> Result<(Var, Var)> {
        match self.branch {
            Some(branch) => norm.forward_add(tape, &self.sum, &branch),
            None => norm.forward(tape, &self.sum).map(|y| (self.sum, y)),
        }
    }
}
