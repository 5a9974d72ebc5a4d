//! The decoder: embedding, layers, final norm, output head.

use super::Qwen3Config;
use super::block::{Block, Stream};
use crate::autograd::{Param, Tape, Var};
use crate::console::check_interrupt;
use crate::error::{Error, Result};
use crate::nn::{Context, Embedding, RmsNorm};
use crate::ops;
use crate::ops::RopeTable;
use crate::tensor::{Shape, Tensor, normal, stream};
use gr2_kernels::{Device, Dtype};
use std::collections::HashMap;

/// A Qwen3-architecture language model on one device.
pub struct Qwen3 {
    config: Qwen3Config,
    device: Device,
    embedding: Embedding,
    blocks: Vec<Block>,
    norm: RmsNorm,
    /// `None` if the head is the embedding.
    head: Option<Param>,
    rope: RopeTable,
    gradient_checkpointing: bool,
}

impl Qwen3 {
    /// Builds a model, asking `weight(name, shape)` for every parameter by its checkpoint name.
    pub(super) fn build(
        config: Qwen3Config,
        device: &Device,
        weight: &mut dyn FnMut(&str, Shape) -> Result<Tensor>,
    ) -> Result<Qwen3> {
        config.validate()?;
        let (v, c) = (config.vocab_size, config.hidden_size);
        let mut param = |name: &str, shape: Shape| -> Result<Param> { Ok(Param::new(name, weight(name, shape)?)) };
        let table = param("model.embed_tokens.weight", [v, c].into())?;
        let embedding = Embedding { weight: table, padding: config.pad_token_id };
        let norm = RmsNorm { weight: param("model.norm.weight", [c].into())?, eps: config.rms_norm_eps as f32 };
        let head = match config.tie_word_embeddings {
            true => None,
            false => Some(param("lm_head.weight", [v, c].into())?),
        };
        let blocks = (0..config.num_hidden_layers).map(|i| Block::build(&config, i, weight)).collect::<Result<_>>()?;
        // norms are in the dtype of the activations
        let rope = RopeTable::new(device, config.head_dim, config.rope_theta, norm.weight.value.dtype())?;
        Ok(Qwen3 { config, device: device.clone(), embedding, blocks, norm, head, rope, gradient_checkpointing: false })
    }

    /// Fresh weights: normal with the config's `initializer_range`, norms one.
    ///
    /// Source: transformers Qwen3PreTrainedModel._init_weights.
    pub fn random(config: Qwen3Config, device: &Device, seed: u64) -> Result<Qwen3> {
        let std = config.initializer_range;
        Qwen3::build(config, device, &mut |name, shape| match shape.split_last() {
            Some((&width, [])) => Tensor::from_slice(device, &vec![1.0f32; width], shape),
            _ => normal(device, &mut stream(seed, name, 0, 0), std, shape),
        })
    }

    /// The same weights as another float type or on another device: f64 on the CPU is for gradient checks.
    pub fn convert(&self, dtype: Dtype, device: &Device) -> Result<Qwen3> {
        let values: HashMap<&str, &Tensor> = self.params().into_iter().map(|p| (p.name.as_str(), &p.value)).collect();
        Qwen3::build(self.config.clone(), device, &mut |name, shape| {
            Tensor::from_f64(device, dtype, &values[name].to_f64()?, shape)
        })
    }

    /// Stores tables and projections as `weights`: in f16 and bf16 they take half the memory. Nothing else changes: sums,
    /// activations and norms stay f32. A model in f16 or bf16 cannot be trained.
    ///
    /// Errors: `Kernel` for a weight that f16 cannot hold.
    pub fn store(mut self, weights: Dtype) -> Result<Qwen3> {
        let device = self.device.clone();
        for param in self.params_mut() {
            let shape = param.value.shape().clone();
            if shape[..].len() == 2 && param.value.dtype() != weights {
                param.value = Tensor::from_f64(&device, weights, &param.value.to_f64()?, shape)?;
            }
        }
        Ok(self)
    }

    /// The configuration.
    pub fn config(&self) -> &Qwen3Config {
        &self.config
    }

    /// Sets the tokens that end a generation, as its configuration names them.
    pub fn set_eos(&mut self, ids: &[u32]) {
        self.config.eos_token_ids = ids.to_vec();
    }

    /// Where the weights are.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Final hidden states (T, C), normalised, of the packed tokens.
    ///
    /// Errors: `Shape` for an id past the vocabulary or a context of another length; `Interrupted`, which is asked at every block.
    pub fn hidden(&self, tape: &Tape, ids: &[u32], context: &mut dyn Context) -> Result<Var> {
        let (count, x) = (ids.len(), || self.embedding.forward(tape, ids));
        self.run(tape, (count, x), None, context)
    }

    /// [`Self::hidden`] of tokens (T) that were just drawn and that only the device knows.
    ///
    /// Errors: `Shape` for a context of another length.
    pub fn hidden_of_drawn(&self, tape: &Tape, ids: &Tensor, context: &mut dyn Context) -> Result<Var> {
        let (count, x) = (ids.shape().len(), || self.embedding.forward_on_device(tape, ids));
        self.run(tape, (count, x), None, context)
    }

    /// Rows `rows` of [`Self::hidden`]: (R, C). What others alone would need of the last layer is not computed.
    ///
    /// Errors: as of `hidden`; `Shape` for a row past T.
    pub fn hidden_of(&self, tape: &Tape, ids: &[u32], rows: &[u32], context: &mut dyn Context) -> Result<Var> {
        let all = rows.len() == ids.len() && rows.iter().enumerate().all(|(i, &row)| row as usize == i);
        let (count, x) = (ids.len(), || self.embedding.forward(tape, ids));
        self.run(tape, (count, x), Some(rows).filter(|_| !all), context)
    }

    fn run(
        &self,
        tape: &Tape,
        (tokens, embed): (usize, impl FnOnce() -> Result<Var>),
        rows: Option<&[u32]>,
        context: &mut dyn Context,
    ) -> Result<Var> {
        if tokens != context.positions().len() {
            let problem = format!("{tokens} tokens, context of {}", context.positions().len());
            return Err(Error::Shape { op: "model", problem });
        }
        let rope = self.rope.at(context.positions())?;
        let mut x = Stream::new(embed()?);
        for (i, block) in self.blocks.iter().enumerate() {
            check_interrupt()?;
            let rows = rows.filter(|_| i + 1 == self.blocks.len());
            let checkpointed = self.gradient_checkpointing && tape.records();
            x = match checkpointed.then(|| context.again()).flatten() {
                Some(again) => block.forward_checkpointed(tape, x, &rope, (context, again), rows)?,
                None => block.forward(tape, x, &rope, context, rows)?,
            };
        }
        Ok(x.normed(tape, &self.norm)?.1)
    }

    /// Whether training keeps of every layer its input only and computes the rest again on the way back: a third more work, and
    /// memory for the activations of one layer instead of all.
    pub fn set_gradient_checkpointing(&mut self, on: bool) {
        self.gradient_checkpointing = on;
    }

    /// The output head (V, C): the embedding if they are tied.
    pub fn head(&self) -> &Param {
        self.head.as_ref().unwrap_or(&self.embedding.weight)
    }

    /// Logits (T, V) of hidden states (T, C). For many tokens [`ops::linear_logprob`] needs no whole logits.
    pub fn logits(&self, tape: &Tape, hidden: &Var) -> Result<Var> {
        ops::linear(tape, hidden, &tape.param(self.head()))
    }

    /// Its parameters in a fixed order.
    pub fn params(&self) -> Vec<&Param> {
        let ends = [&self.embedding.weight, &self.norm.weight];
        ends.into_iter().chain(&self.head).chain(self.blocks.iter().flat_map(Block::params)).collect()
    }

    /// Its parameters in the same order, for writing.
    pub fn params_mut(&mut self) -> Vec<&mut Param> {
        let ends = [&mut self.embedding.weight, &mut self.norm.weight];
        let blocks = self.blocks.iter_mut().flat_map(Block::params_mut);
        ends.into_iter().chain(&mut self.head).chain(blocks).collect()
    }

    /// Grows the vocabulary to `vocab_size`: new rows of the embedding (and of an untied head) are normal with the
    /// config's `initializer_range`; a tied head stays tied.
    ///
    /// Errors: `Shape` if the vocabulary would shrink.
    pub fn resize_vocabulary(&mut self, vocab_size: usize, seed: u64) -> Result<()> {
        let (old, c) = (self.config.vocab_size, self.config.hidden_size);
        if vocab_size < old {
            let problem = format!("{old} tokens cannot shrink to {vocab_size}");
            return Err(Error::Shape { op: "resize vocabulary", problem });
        }
        let std = self.config.initializer_range;
        for table in [Some(&mut self.embedding.weight), self.head.as_mut()].into_iter().flatten() {
            let mut rng = stream(seed, &format!("new rows of {}", table.name), old as u64, 0);
            let fresh = normal(&Device::Cpu, &mut rng, std, [vocab_size - old, c])?;
            let mut values = table.value.to_vec::<f32>()?;
            values.extend(fresh.to_vec::<f32>()?);
            table.value = Tensor::from_slice(&self.device, &values, [vocab_size, c])?;
        }
        self.config.vocab_size = vocab_size;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{Dropout, Packed};
    use gr2_kernels::Segments;

    #[test]
    fn gradient_checkpointing_changes_no_gradient() {
        let model = Qwen3::random(Qwen3Config::small(11, 8, 3, (2, 1, 4), 12), &Device::Cpu, 3).unwrap();
        let mut model = model.convert(Dtype::F64, &Device::Cpu).unwrap();
        let (ids, rows) = ([1, 5, 2, 7, 10, 0], [5, 1, 2]);
        let mut run = |on: bool| {
            model.set_gradient_checkpointing(on);
            let tape = Tape::new();
            let context = Packed::new(Segments::packed(&[4, 2]).unwrap());
            let mut context = context.with_dropout(Some(Dropout { p: 0.3, seed: 9 }));
            let hidden = model.hidden_of(&tape, &ids, &rows, &mut context).unwrap();
            let seed: Vec<f64> = (0..hidden.tensor().shape().len()).map(|i| (i as f64).sin()).collect();
            let seed = Tensor::from_f64(&Device::Cpu, Dtype::F64, &seed, hidden.tensor().shape().clone()).unwrap();
            let found = hidden.tensor().to_f64().unwrap();
            let mut gradients = tape.backward(&[(&hidden, seed)]).unwrap();
            let of = |p: &&Param| gradients.take(p).map(|g| g.to_f64().unwrap());
            (found, model.params().iter().map(of).collect::<Option<Vec<_>>>().expect("a gradient for every parameter"))
        };
        let (plain, checkpointed) = (run(false), run(true));
        assert_eq!(plain, checkpointed);
        assert!(plain.1.iter().all(|gradient| gradient.iter().any(|x| *x != 0.0)));
    }

    #[test]
    fn hidden_of_some_rows_is_those_rows_and_their_gradients() {
        let model = Qwen3::random(Qwen3Config::small(11, 8, 2, (2, 1, 4), 12), &Device::Cpu, 3).unwrap();
        let model = model.convert(Dtype::F64, &Device::Cpu).unwrap();
        let (ids, rows) = ([1, 5, 2, 7, 10, 0], [5, 1, 2, 1]);
        let run = |some: bool| {
            let tape = Tape::new();
            let mut context = Packed::new(Segments::packed(&[4, 2]).unwrap());
            let hidden = match some {
                true => model.hidden_of(&tape, &ids, &rows, &mut context).unwrap(),
                false => ops::gather_rows(&tape, &model.hidden(&tape, &ids, &mut context).unwrap(), &rows).unwrap(),
            };
            let seed: Vec<f64> = (0..hidden.tensor().shape().len()).map(|i| (i as f64).sin()).collect();
            let seed = Tensor::from_f64(&Device::Cpu, Dtype::F64, &seed, hidden.tensor().shape().clone()).unwrap();
            let found = hidden.tensor().to_f64().unwrap();
            let mut gradients = tape.backward(&[(&hidden, seed)]).unwrap();
            let of = |p: &&Param| gradients.take(p).map(|g| g.to_f64().unwrap());
            (found, model.params().iter().filter_map(of).collect::<Vec<_>>())
        };
        let ((some, some_gradients), (all, all_gradients)) = (run(true), run(false));
        assert_eq!(some.len(), 4 * 8);
        let close = |x: &[f64], y: &[f64]| x.len() == y.len() && x.iter().zip(y).all(|(x, y)| (x - y).abs() < 1e-12);
        assert!(close(&some, &all), "{some:?} for {all:?}");
        assert_eq!(some_gradients.len(), model.params().len());
        for (some, all) in some_gradients.iter().zip(&all_gradients) {
            assert!(close(some, all), "{some:?} for {all:?}");
        }
    }
}
