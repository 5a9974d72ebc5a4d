//! The encoder and decoder of the RQ-VAE: fully connected layers with ReLU between them.

use crate::autograd::{Param, Tape, Var};
use crate::error::Result;
use crate::nn::Linear;
use crate::ops;
use crate::tensor::{Tensor, normal, stream};
use gr2_kernels::{Device, Dtype};

/// Layers of given widths; ReLU after all but the last.
pub(super) struct Mlp {
    layers: Vec<Linear>,
}

impl Mlp {
    /// Xavier-normal weights and zero biases (LC-Rec, MiniOneRec).
    pub(super) fn new(device: &Device, name: &str, widths: &[usize], seed: u64) -> Result<Mlp> {
        let layer = |(i, w): (usize, &[usize])| {
            let (inner, out) = (w[0], w[1]);
            let part = format!("{name}.{i}");
            let std = (2.0 / (inner + out) as f64).sqrt();
            let weight = normal(device, &mut stream(seed, &part, 0, 0), std, [out, inner])?;
            let bias = Tensor::zeros(device, Dtype::F32, [out])?;
            Ok(Linear {
                weight: Param::new(format!("{part}.weight"), weight),
                bias: Some(Param::new(format!("{part}.bias"), bias)),
            })
        };
        Ok(Mlp { layers: widths.windows(2).enumerate().map(layer).collect::<Result<_>>()? })
    }

    pub(super) fn forward(&self, tape: &Tape, x: &Var) -> Result<Var> {
        let mut y = x.clone();
        for (i, layer) in self.layers.iter().enumerate() {
            y = layer.forward(tape, &y)?;
            if i + 1 < self.layers.len() {
                y = ops::relu(tape, &y)?;
            }
        }
        Ok(y)
    }

    pub(super) fn params(&self) -> impl Iterator<Item = &Param> {
        self.layers.iter().flat_map(Linear::params)
    }

    pub(super) fn params_mut(&mut self) -> impl Iterator<Item = &mut Param> {
        self.layers.iter_mut().flat_map(Linear::params_mut)
    }
}
