//! Random initial values.

use super::{Rng, Shape, Tensor};
use crate::error::Result;
use gr2_kernels::Device;
use rand::RngExt;

/// Normal values of mean 0 by the Box-Muller transform, f32.
pub fn normal(device: &Device, rng: &mut Rng, std: f64, shape: impl Into<Shape>) -> Result<Tensor> {
    let shape = shape.into();
    let mut values = Vec::with_capacity(shape.len() + 1);
    while values.len() < shape.len() {
        let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt() * std;
        let angle = std::f64::consts::TAU * rng.random::<f64>();
        values.extend([(radius * angle.cos()) as f32, (radius * angle.sin()) as f32]);
    }
    values.truncate(shape.len());
    Tensor::from_slice(device, &values, shape)
}

/// Uniform values in (-bound, bound), f32.
pub fn uniform(device: &Device, rng: &mut Rng, bound: f64, shape: impl Into<Shape>) -> Result<Tensor> {
    let shape = shape.into();
    let values: Vec<f32> = (0..shape.len()).map(|_| ((rng.random::<f64>() * 2.0 - 1.0) * bound) as f32).collect();
    Tensor::from_slice(device, &values, shape)
}
