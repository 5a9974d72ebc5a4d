//! `gr2 logits`: the logits of a token sequence, for comparison with other engines.

use super::args::{DeviceArgs, WeightsArg};
use super::generate::too_long;
use crate::autograd::Tape;
use crate::error::{Error, Result};
use crate::files::{check_target, write_atomic};
use crate::model;
use crate::nn::Packed;
use gr2_kernels::Segments;
use safetensors::tensor::{Dtype, TensorView};
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub(super) struct LogitsArgs {
    /// Checkpoint directory.
    #[arg(long)]
    model: PathBuf,
    /// Token ids, separated by commas.
    #[arg(long, value_delimiter = ',', required = true)]
    tokens: Vec<u32>,
    /// File to write: tensor `logits`, f32, (T, V).
    #[arg(long)]
    out: PathBuf,
    /// What weights are stored in: f16 and bf16 take half the memory.
    #[arg(long, value_enum, default_value = "f32")]
    weights: WeightsArg,
    #[command(flatten)]
    device: DeviceArgs,
}

impl LogitsArgs {
    pub(super) fn run(self) -> Result<()> {
        check_target(&self.out)?;
        let device = self.device.open()?;
        let model = model::load_as(&self.model, &device, self.weights.into())?;
        if self.tokens.len() > model.config().max_position_embeddings {
            return Err(too_long(self.tokens.len(), model.config()));
        }
        let tape = Tape::inference();
        let hidden = model.hidden(&tape, &self.tokens, &mut Packed::new(Segments::single(self.tokens.len())?))?;
        let logits = model.logits(&tape, &hidden)?;
        let values = logits.tensor().to_vec::<f32>()?;
        let write = || {
            let shape = logits.tensor().shape().to_vec();
            let view = TensorView::new(Dtype::F32, shape, bytemuck::cast_slice(&values))?;
            safetensors::serialize([("logits", view)], None)
        };
        let bytes = write().map_err(|e| Error::Weights {
            path: self.out.clone(),
            tensor: "logits".into(),
            problem: e.to_string(),
        })?;
        write_atomic(&self.out, bytes)
    }
}
