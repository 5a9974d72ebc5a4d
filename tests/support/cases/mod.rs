//! The case table: one row per op and interesting shape. A row feeds GPU-against-twin parity (`tests/parity.rs`) and
//! the gradient check in f64 (`tests/gradcheck.rs`).

mod activation;
mod attention;
mod elementwise;
mod embedding;
mod logprob;
mod matmul;
mod reduce;
mod rms_norm;
mod rope;
mod softmax;

use gr2::Result;
use gr2::autograd::{Tape, Var};
use gr2::tensor::Shape;
use gr2_kernels::Device;
pub use gr2_kernels::bench::sum_tolerance;

/// How a case applies its op.
pub type Run = Box<dyn Fn(&Device, &Tape, &[Var]) -> Result<Var>>;

/// A differentiable op applied to inputs of given shapes.
pub struct Case {
    /// `op shape`, shown in failures.
    pub name: String,
    /// Shapes of the inputs.
    pub inputs: Vec<Shape>,
    /// Inputs are uniform in (-scale, scale).
    pub scale: f64,
    /// Largest GPU error relative to the largest magnitude of each output, from the length of the op's sums.
    pub tolerance: f64,
    /// Applies the op.
    pub run: Run,
}

/// Every row.
pub fn all() -> Vec<Case> {
    let mut all = vec![];
    all.extend(activation::cases());
    all.extend(attention::cases());
    all.extend(elementwise::cases());
    all.extend(embedding::cases());
    all.extend(logprob::cases());
    all.extend(matmul::cases());
    all.extend(reduce::cases());
    all.extend(rms_norm::cases());
    all.extend(rope::cases());
    all.extend(softmax::cases());
    all
}
