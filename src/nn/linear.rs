//! Matrix products with a weight, and its transpose's rows by id.

use super::RmsNorm;
use crate::autograd::{Param, Tape, Var};
use crate::error::Result;
use crate::ops;
use crate::tensor::Tensor;

/// `y = x Wᵀ (+ b)`.
#[derive(Debug, Clone)]
pub struct Linear {
    /// W (out, in).
    pub weight: Param,
    /// b (out).
    pub bias: Option<Param>,
}

impl Linear {
    /// Applies the layer to the last dimension of `x`.
    pub fn forward(&self, tape: &Tape, x: &Var) -> Result<Var> {
        let [y] = Linear::forward_each([self], tape, x)?;
        Ok(y)
    }

    /// Applies several layers to one input.
    pub fn forward_each<const N: usize>(layers: [&Linear; N], tape: &Tape, x: &Var) -> Result<[Var; N]> {
        let weights = layers.map(|layer| tape.param(&layer.weight));
        with_biases(layers, tape, ops::linear_each(tape, x, weights.each_ref())?)
    }

    /// Applies several layers to `norm` of one input.
    pub fn forward_each_normed<const N: usize>(
        layers: [&Linear; N],
        tape: &Tape,
        x: &Var,
        norm: &RmsNorm,
    ) -> Result<[Var; N]> {
        let weights = layers.map(|layer| tape.param(&layer.weight));
        let norm = (&tape.param(&norm.weight), norm.eps);
        with_biases(layers, tape, ops::norm_linear_each(tape, x, norm, weights.each_ref())?)
    }

    /// Adds the layer's output for `y` to `x`, in place where it can be.
    pub fn forward_onto(&self, tape: &Tape, x: Var, y: &Var) -> Result<Var> {
        let sum = ops::linear_onto(tape, x, y, &tape.param(&self.weight))?;
        let [sum] = with_biases([self], tape, [sum])?;
        Ok(sum)
    }

    /// Its parameters.
    pub fn params(&self) -> impl Iterator<Item = &Param> {
        std::iter::once(&self.weight).chain(&self.bias)
    }

    /// Its parameters, for writing.
    pub fn params_mut(&mut self) -> impl Iterator<Item = &mut Param> {
        std::iter::once(&mut self.weight).chain(&mut self.bias)
    }
}

fn with_biases<const N: usize>(layers: [&Linear; N], tape: &Tape, mut ys: [Var; N]) -> Result<[Var; N]> {
    for (y, layer) in ys.iter_mut().zip(layers) {
        if let Some(bias) = &layer.bias {
            *y = ops::add_bias(tape, y, &tape.param(bias))?;
        }
    }
    Ok(ys)
}

/// Rows of a table by id.
#[derive(Debug, Clone)]
pub struct Embedding {
    /// The table (V, C).
    pub weight: Param,
    /// A token whose row is not trained through this layer.
    pub padding: Option<u32>,
}

impl Embedding {
    /// Rows of `ids`: (T, C).
    pub fn forward(&self, tape: &Tape, ids: &[u32]) -> Result<Var> {
        ops::embedding(tape, &tape.param(&self.weight), ids, self.padding)
    }

    /// Rows of ids (T) that only the device knows, without gradient: (T, C).
    pub fn forward_on_device(&self, tape: &Tape, ids: &Tensor) -> Result<Var> {
        ops::embedding_on_device(tape, &tape.param(&self.weight), ids)
    }
}
