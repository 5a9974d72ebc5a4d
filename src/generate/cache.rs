//! The KV cache: prompts packed as they were prefilled and shared by all their continuations, and a slot per
//! continuation for what it adds.

use crate::autograd::{Tape, Var};
use crate::error::Result;
use crate::model::Qwen3Config;
use crate::nn::Context;
use crate::ops;
use crate::tensor::Tensor;
use gr2_kernels::attention::Segments;
use gr2_kernels::decode::{self, DecodeRows, DecodeShape};
use gr2_kernels::{Buffer, Device, Dtype};

/// Keys and values of one layer.
struct LayerCache {
    /// (Tp, K, D) of the packed prompts.
    prompt: Option<(Tensor, Tensor)>,
    /// (slots, capacity, K, D) of the continuations.
    suffix: (Buffer, Buffer),
}

/// Keys and values of a set of prompts and their continuations.
pub struct Cache {
    layers: Vec<LayerCache>,
    shape: DecodeShape,
}

impl Cache {
    /// Room for `slots` continuations of `capacity` tokens each.
    pub fn new(config: &Qwen3Config, device: &Device, slots: usize, capacity: usize) -> Result<Cache> {
        let shape = DecodeShape {
            heads: config.num_attention_heads,
            kv_heads: config.num_key_value_heads,
            head_dim: config.head_dim,
            slots,
            capacity,
        };
        let len = slots * capacity * shape.kv_heads * shape.head_dim;
        let room = || Buffer::zeros(device, "kv cache", Dtype::F32, len);
        let layers = (0..config.num_hidden_layers).map(|_| Ok(LayerCache { prompt: None, suffix: (room()?, room()?) }));
        Ok(Cache { layers: layers.collect::<Result<_>>()?, shape })
    }

    /// Continuation `to[i]` becomes a copy of what continuation `from[i]` was, for all `i` at once.
    pub fn copy_slots(&mut self, from: &[u32], to: &[u32], length: usize) -> Result<()> {
        for layer in &mut self.layers {
            let (k, v) = &mut layer.suffix;
            decode::copy_slots(k, v, from, to, length, &self.shape)?;
        }
        Ok(())
    }
}

/// Runs prompts and keeps their keys and values.
pub struct Prefill<'a> {
    cache: &'a mut Cache,
    segments: Segments,
    positions: Vec<u32>,
}

impl<'a> Prefill<'a> {
    /// Prompts packed one after the other.
    pub fn new(cache: &'a mut Cache, segments: Segments) -> Prefill<'a> {
        Prefill { cache, positions: segments.positions(), segments }
    }
}

impl Context for Prefill<'_> {
    fn positions(&self) -> &[u32] {
        &self.positions
    }

    fn attend(&mut self, tape: &Tape, layer: usize, q: &Var, k: &Var, v: &Var) -> Result<Var> {
        tape.refuse_tracked("prefill", &[q, k, v])?;
        self.cache.layers[layer].prompt = Some((k.tensor().clone(), v.tensor().clone()));
        ops::attention(tape, q, k, v, &self.segments)
    }
}

/// One token of every active continuation.
pub struct Decode<'a> {
    cache: &'a mut Cache,
    rows: DecodeRows,
    positions: Vec<u32>,
}

impl<'a> Decode<'a> {
    /// Row `r` extends slot `rows.slot[r]`, whose token of this step is its `rows.suffix_len[r]`-th.
    pub fn new(cache: &'a mut Cache, rows: DecodeRows) -> Decode<'a> {
        let positions = rows.prompt_len.iter().zip(&rows.suffix_len).map(|(p, s)| p + s - 1).collect();
        Decode { cache, rows, positions }
    }
}

impl Context for Decode<'_> {
    fn positions(&self) -> &[u32] {
        &self.positions
    }

    fn attend(&mut self, tape: &Tape, layer: usize, q: &Var, k: &Var, v: &Var) -> Result<Var> {
        tape.refuse_tracked("decode", &[q, k, v])?;
        let Cache { layers, shape } = &mut *self.cache;
        let LayerCache { prompt, suffix } = &mut layers[layer];
        let (sk, sv) = suffix;
        decode::write_suffix(sk, sv, k.tensor().buffer(), v.tensor().buffer(), &self.rows, shape)?;
        let (pk, pv) = prompt.as_ref().expect("invariant: prompts are prefilled before decoding");
        let out = decode::decode(q.tensor().buffer(), (pk.buffer(), pv.buffer()), (sk, sv), &self.rows, shape)?;
        Ok(tape.constant(Tensor::new(out, q.tensor().shape().clone())?))
    }
}
