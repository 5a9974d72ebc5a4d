//! The KV cache: a room of tokens where prompts lie, each shared by all its continuations, and a slot per continuation for
//! what it adds.

use crate::autograd::{Tape, Var};
use crate::error::Result;
use crate::model::{Qwen3, Qwen3Config};
use crate::nn::Context;
use crate::ops;
use crate::tensor::Tensor;
use gr2_kernels::attention::Heads;
use gr2_kernels::decode::{self, DecodeDims, DecodeRow, DecodeRows, Places};
use gr2_kernels::{Buffer, Device, Dtype, Segments};
use std::ops::Range;

/// Keys and values of one layer.
struct LayerCache {
    /// (tokens, K, D) of the prompts.
    prompt: (Buffer, Buffer),
    /// (slots, capacity, K, D) of the continuations.
    suffix: (Buffer, Buffer),
}

/// Keys and values of a set of prompts and their continuations.
pub struct Cache {
    layers: Vec<LayerCache>,
    dims: DecodeDims,
    prompt_tokens: usize,
}

/// Tokens a slot has room for at first, at most: longer continuations get theirs as they come to it.
const FIRST: usize = 1024;

/// How much a cache holds, and how.
#[derive(Debug, Clone, Copy)]
pub struct CacheConfig {
    /// Tokens of all prompts together.
    pub prompt_tokens: usize,
    /// Continuations.
    pub slots: usize,
    /// Tokens of a continuation at most.
    pub capacity: usize,
    /// What keys and values are stored in: f32, or f16, which takes half the memory.
    pub stored: Dtype,
}

impl Cache {
    /// Empty.
    ///
    /// Errors: `Kernel`, as out of memory.
    pub fn new(config: &Qwen3Config, device: &Device, sizes: CacheConfig) -> Result<Cache> {
        let CacheConfig { prompt_tokens, slots, capacity, stored } = sizes;
        let heads = Heads { query: config.num_attention_heads, kv: config.num_key_value_heads, dim: config.head_dim };
        let capacity = capacity.min(FIRST);
        let dims = DecodeDims { heads, capacity, scale: heads.scale() };
        let room = |tokens: usize| -> Result<(Buffer, Buffer)> {
            let zeros = || Buffer::zeros(device, "kv cache", stored, tokens.saturating_mul(heads.kv * heads.dim));
            Ok((zeros()?, zeros()?))
        };
        let suffix = slots.saturating_mul(capacity);
        let layer = |_| Ok(LayerCache { prompt: room(prompt_tokens)?, suffix: room(suffix)? });
        Ok(Cache { layers: (0..config.num_hidden_layers).map(layer).collect::<Result<_>>()?, dims, prompt_tokens })
    }

    /// Makes room for continuations of `tokens` tokens, if there is not enough.
    ///
    /// Errors: `Kernel`, as out of memory.
    pub(super) fn reserve(&mut self, tokens: usize) -> Result<()> {
        let before = self.dims.capacity;
        if tokens <= before {
            return Ok(());
        }
        let capacity = tokens.max(before.saturating_mul(2));
        for layer in &mut self.layers {
            let (k, v) = &layer.suffix;
            layer.suffix = decode::grown_slots((k, v), before, capacity, self.dims)?;
        }
        self.dims.capacity = capacity;
        Ok(())
    }

    /// Continuation `to[i]` becomes a copy of what continuation `from[i]` was, for all `i` at once.
    pub fn copy_slots(&mut self, from: &[u32], to: &[u32], length: usize) -> Result<()> {
        for layer in &mut self.layers {
            let (k, v) = &mut layer.suffix;
            decode::copy_slots((k, v), (from, to), length, self.dims)?;
        }
        Ok(())
    }
}

/// Runs prompts, none of them empty, and keeps their keys and values at `places` of the cache: the hidden state of the last
/// token of each (P, C).
///
/// Errors: `Shape` for a token past the vocabulary; `Kernel`, for a place past the cache's room too.
pub(super) fn prefill(model: &Qwen3, cache: &mut Cache, prompts: &[&[u32]], places: &[Range<u32>]) -> Result<Var> {
    let lengths: Vec<usize> = prompts.iter().map(|prompt| prompt.len()).collect();
    let segments = Segments::packed(&lengths)?;
    let last: Vec<u32> = segments.list().iter().map(|prompt| prompt.start + prompt.len - 1).collect();
    // the room is one slot, in which every token has its place
    let tokens = places.iter().cloned().flatten().map(|token| (0, token));
    let places = Places::new(tokens.collect())?;
    let mut context = Prefill { cache, positions: segments.positions(), segments, places };
    model.hidden_of(&Tape::inference(), &prompts.concat(), &last, &mut context)
}

/// Prompts packed one after the other.
struct Prefill<'a> {
    cache: &'a mut Cache,
    segments: Segments,
    positions: Vec<u32>,
    places: Places,
}

impl Context for Prefill<'_> {
    fn positions(&self) -> &[u32] {
        &self.positions
    }

    fn attend(&mut self, tape: &Tape, layer: usize, q: &Var, k: &Var, v: &Var) -> Result<Var> {
        tape.refuse_tracked("prefill", &[q, k, v])?;
        let Cache { layers, dims, prompt_tokens } = &mut *self.cache;
        let (pk, pv) = &mut layers[layer].prompt;
        let room = DecodeDims { capacity: *prompt_tokens, ..*dims };
        decode::write_tokens((pk, pv), (k.tensor().buffer(), v.tensor().buffer()), &self.places, room)?;
        ops::attention(tape, q, k, v, &self.segments)
    }
}

/// One token of every active continuation.
pub struct Decode<'a> {
    cache: &'a mut Cache,
    rows: DecodeRows,
    places: Places,
    positions: Vec<u32>,
}

impl<'a> Decode<'a> {
    /// Each row extends its slot by one token, which its `suffix_len` counts already.
    ///
    /// Errors: `Shape` if two rows have the same slot.
    pub fn new(cache: &'a mut Cache, rows: Vec<DecodeRow>) -> Result<Decode<'a>> {
        let positions = rows.iter().map(|row| row.prompt_len + row.suffix_len - 1).collect();
        let rows = DecodeRows::new(rows);
        Ok(Decode { cache, places: rows.places()?, rows, positions })
    }
}

impl Context for Decode<'_> {
    fn positions(&self) -> &[u32] {
        &self.positions
    }

    fn attend(&mut self, tape: &Tape, layer: usize, q: &Var, k: &Var, v: &Var) -> Result<Var> {
        tape.refuse_tracked("decode", &[q, k, v])?;
        let Cache { layers, dims, .. } = &mut *self.cache;
        let LayerCache { prompt: (pk, pv), suffix: (sk, sv) } = &mut layers[layer];
        decode::write_tokens((sk, sv), (k.tensor().buffer(), v.tensor().buffer()), &self.places, *dims)?;
        let out = decode::decode(q.tensor().buffer(), (pk, pv), (sk, sv), &self.rows, *dims)?;
        Ok(tape.constant(Tensor::new(out, q.tensor().shape().clone())?))
    }
}
