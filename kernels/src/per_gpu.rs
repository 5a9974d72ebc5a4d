//! Values a GPU needs again and again, made once for each.

use crate::device::Gpu;
use crate::error::Result;
use std::sync::{Mutex, PoisonError};

/// One `T` for each opened GPU that has asked for it: index tables that every layer of a step reads.
pub(crate) struct PerGpu<T>(Mutex<Vec<(Gpu, T)>>);

impl<T> Default for PerGpu<T> {
    fn default() -> PerGpu<T> {
        PerGpu(Mutex::new(vec![]))
    }
}

impl<T: Clone> PerGpu<T> {
    /// The value for `gpu`, made by `make` the first time.
    pub(crate) fn get(&self, gpu: &Gpu, make: impl FnOnce() -> Result<T>) -> Result<T> {
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, found)) = made.iter().find(|(of, _)| of.same(gpu)) {
            return Ok(found.clone());
        }
        let fresh = make()?;
        made.push((gpu.clone(), fresh.clone()));
        Ok(fresh)
    }
}
