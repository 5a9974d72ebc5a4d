//! AdamW over the parameters of a model.

use super::LossScale;
use crate::autograd::{Gradients, Param};
use crate::bounds::{Section, above};
use crate::error::{Error, Result};
use crate::tensor::Tensor;
use gr2_kernels::adamw::{self, AdamW};
use gr2_kernels::{Device, Dtype, reduce};
use serde::{Deserialize, Serialize};

/// Constants of AdamW.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdamWConfig {
    /// Decay of the mean gradient.
    pub beta1: f64,
    /// Decay of the mean squared gradient. 0.95: nanochat, llm.c.
    pub beta2: f64,
    /// Added to the root of the mean square.
    pub eps: f64,
    /// Decoupled weight decay per step, times the learning rate.
    pub weight_decay: f64,
    /// True if norms and biases (tensors of one dimension) decay as well.
    pub decay_vectors: bool,
    /// Largest global gradient norm; longer gradients are scaled down. 1.0: DAPO, llm.c.
    pub clip_norm: f64,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        AdamWConfig { beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, decay_vectors: false, clip_norm: 1.0 }
    }
}

impl AdamWConfig {
    /// Checks the ranges; `section` is the dotted name of this table in the configuration file.
    ///
    /// Errors: `Config` naming the field.
    pub fn validate(&self, section: &str) -> Result<()> {
        let at = Section::new(section);
        at.number("beta1", self.beta1, 0.0..1.0)?;
        at.number("beta2", self.beta2, 0.0..1.0)?;
        at.because("where no gradient has come yet, 0 is divided by it").number("eps", self.eps, above(0.0, 1.0))?;
        at.number("weight_decay", self.weight_decay, 0.0..=10.0)?;
        at.because("every gradient would be scaled to nothing").number("clip_norm", self.clip_norm, 1e-6..=1e9)
    }
}

/// What one update did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// Global norm of the gradient before clipping.
    pub grad_norm: f64,
    /// False if the norm was NaN or infinite: then nothing was changed.
    pub applied: bool,
    /// True if it was so because the loss scale was too large, which is now smaller.
    pub overflowed: bool,
}

impl StepReport {
    /// Of an update that was not tried, as the loss was NaN or infinite.
    pub const NOT_TRIED: StepReport = StepReport { grad_norm: f64::NAN, applied: false, overflowed: false };
}

/// First and second moments of every parameter, in the order the parameters are given, and the scale of the loss.
pub struct Optimizer {
    config: AdamWConfig,
    moments: Vec<(Tensor, Tensor)>,
    updates: u64,
    loss_scale: LossScale,
}

impl Optimizer {
    /// Zero moments for these parameters.
    pub fn new(config: AdamWConfig, params: &[&Param]) -> Result<Optimizer> {
        let zeros = |p: &Param| Tensor::zeros(p.value.device(), Dtype::F32, p.value.shape().clone());
        let moments = params.iter().map(|p| Ok((zeros(p)?, zeros(p)?))).collect::<Result<_>>()?;
        let device = params.first().map_or(Device::Cpu, |p| p.value.device().clone());
        Ok(Optimizer { config, moments, updates: 0, loss_scale: LossScale::of(&device) })
    }

    /// Updates applied so far.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// By what the loss of the next update is to be multiplied.
    pub fn loss_scale(&self) -> LossScale {
        self.loss_scale
    }

    /// First and second moments by parameter, for a checkpoint.
    pub fn moments(&self) -> &[(Tensor, Tensor)] {
        &self.moments
    }

    /// Puts a checkpoint's moments back.
    pub fn restore(&mut self, moments: Vec<(Tensor, Tensor)>, updates: u64, loss_scale: Option<LossScale>) {
        self.moments = moments;
        self.updates = updates;
        self.loss_scale.resume(loss_scale);
    }

    /// One update with learning rate `lr`, the gradients' scale taken out. A parameter without gradient keeps its value. A non-finite gradient norm
    /// changes nothing and is reported.
    ///
    /// Errors: `Shape` if the parameters are not the ones given to [`Optimizer::new`].
    /// Source: torch.optim.AdamW after torch.nn.utils.clip_grad_norm_.
    pub fn step(&mut self, mut params: Vec<&mut Param>, gradients: &mut Gradients, lr: f64) -> Result<StepReport> {
        if params.len() != self.moments.len() {
            let problem = format!("{} parameters, moments of {}", params.len(), self.moments.len());
            return Err(Error::Shape { op: "adamw", problem });
        }
        let scale = gradients.scale();
        let gradients: Vec<Option<Tensor>> = params.iter().map(|p| gradients.take(p)).collect();
        let buffers: Vec<_> = gradients.iter().flatten().map(|g| g.buffer()).collect();
        let grad_norm = reduce::global_norm(&buffers)? / scale;
        let overflowed = self.loss_scale.observe(grad_norm.is_finite());
        if !grad_norm.is_finite() {
            return Ok(StepReport { grad_norm, applied: false, overflowed });
        }
        self.updates += 1;
        // the small constant is torch's
        let grad_scale = (self.config.clip_norm / (grad_norm + 1e-6)).min(1.0) / scale;
        for ((param, gradient), (m, v)) in params.iter_mut().zip(&gradients).zip(&mut self.moments) {
            let Some(gradient) = gradient else { continue };
            let decays = self.config.decay_vectors || param.value.shape().rank() > 1;
            let update = AdamW {
                lr,
                beta1: self.config.beta1,
                beta2: self.config.beta2,
                eps: self.config.eps,
                weight_decay: if decays { self.config.weight_decay } else { 0.0 },
                step: self.updates,
                grad_scale,
            };
            adamw::update(param.value.buffer_mut(), gradient.buffer(), m.buffer_mut(), v.buffer_mut(), &update)?;
        }
        Ok(StepReport { grad_norm, applied: true, overflowed })
    }
}
