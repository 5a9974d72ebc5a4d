//! Differentiable ops, one file each: check shapes, call the kernel, record the way back.

mod add;
mod add_bias;
mod attention;
mod dropout;
mod embedding;
mod linear;
mod logprob;
mod matmul;
mod mean_squared;
mod mul;
mod normed;
mod relu;
mod reshape;
mod rms_norm;
mod rope;
mod scale;
mod softmax;
mod sub;
mod sum;
mod swiglu;

pub use add::add;
pub use add_bias::add_bias;
pub use attention::attention;
pub use dropout::dropout;
pub use embedding::{embedding, embedding_on_device, gather_rows};
pub use linear::{linear, linear_each, linear_onto};
pub use logprob::{LogProbs, linear_logprob};
pub use matmul::matmul;
pub use mean_squared::mean_squared;
pub use mul::mul;
pub use normed::{norm_linear_each, norm_linear_swiglu};
pub use relu::relu;
pub use reshape::reshape;
pub use rms_norm::{add_rms_norm, rms_norm};
pub use rope::{RopeTable, Rotation, norm_rope};
pub use scale::scale;
pub use softmax::softmax;
pub use sub::sub;
pub use sum::sum;
pub use swiglu::{linear_swiglu, swiglu};

use crate::autograd::Var;
use crate::error::{Error, Result};

/// Fails if a gradient would be wanted of weights that are stored in two bytes.
fn refuse_narrow(op: &'static str, w: &Var) -> Result<()> {
    let dtype = w.tensor().dtype();
    if !(w.tracked() && dtype.is_half()) {
        return Ok(());
    }
    Err(Error::Shape { op, problem: format!("weights in {dtype} have no gradient: training needs them in f32") })
}

/// Fails unless both have one shape.
fn same_shape(op: &'static str, a: &Var, b: &Var) -> Result<()> {
    let (a, b) = (a.tensor().shape(), b.tensor().shape());
    if a == b {
        return Ok(());
    }
    Err(Error::Shape { op, problem: format!("shapes differ: a is {a}, b is {b}") })
}
