//! Trainable tensors.

use crate::tensor::Tensor;
use std::sync::atomic::{AtomicU64, Ordering};

/// Identity of a parameter, unique in the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ParamId(u64);

/// A named trainable tensor. The name is the one it has in a checkpoint. A clone is the same parameter: gradients of both are
/// one.
#[derive(Debug, Clone)]
pub struct Param {
    id: ParamId,
    /// Name in checkpoints, as in `model.layers.0.mlp.up_proj.weight`.
    pub name: String,
    /// Current value.
    pub value: Tensor,
}

impl Param {
    /// A parameter with a fresh identity.
    pub fn new(name: impl Into<String>, value: Tensor) -> Param {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Param { id: ParamId(NEXT.fetch_add(1, Ordering::Relaxed)), name: name.into(), value }
    }

    /// Its identity, by which gradients and optimiser state are kept.
    pub fn id(&self) -> ParamId {
        self.id
    }
}
