//! Layers: parameters with the ops that apply them. Names of parameters are those of a Hugging Face checkpoint.

mod attention;
mod linear;
mod norm;
mod swiglu;

pub use attention::{AttentionShape, Context, Dropout, Packed, SelfAttention};
pub use linear::{Embedding, Linear};
pub use norm::RmsNorm;
pub use swiglu::SwiGlu;
