//! Benchmarks of the kernels. A case is checked first, then timed, and its figure stands beside what the same device
//! reached in the same run with nothing but multiply-adds, or nothing but copies.
//!
//! | file | holds |
//! |---|---|
//! | `cases/` | [`cases`]: the table, one file per kind of kernel |
//! | `measure.rs` | [`median_seconds`]: the median of many runs |
//! | `ceiling.rs` | [`Ceilings`]: multiply-adds and copies per second |
//! | `tune.rs` | [`tune`]: which way of a product is the fastest |
//! | `reference.rs` | inputs without pattern, and comparison with f64 |

mod cases;
mod ceiling;
mod measure;
mod reference;
mod tune;

pub use cases::cases;
pub(crate) use ceiling::KERNELS;
pub use ceiling::{Ceilings, ceilings};
pub use measure::{Timing, median_seconds};
pub use reference::{Agreement, sum_tolerance};
pub use tune::{Tuned, tune};

use crate::buffer::Buffer;
use crate::device::Device;
use crate::error::Result;

/// What a case does, counted as the mathematics needs it: whatever a kernel computes or moves twice counts once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Work {
    /// Floating-point operations, a multiply-add being two.
    Flops(f64),
    /// Bytes read and written.
    Bytes(f64),
}

impl Work {
    /// Seconds at the device's ceiling: no kernel can take less.
    pub fn floor(self, ceilings: &Ceilings) -> f64 {
        match self {
            Work::Flops(flops) => flops / ceilings.flops,
            Work::Bytes(bytes) => bytes / ceilings.bytes,
        }
    }
}

/// One row of the table.
pub struct Case {
    /// Kernel and shape, as `matmul 512x512x512`.
    pub name: String,
    /// What it does.
    pub work: Work,
    /// Bytes its operands and results take.
    pub memory: u64,
    /// Puts its inputs on a device.
    pub open: Open,
}

/// Puts the inputs of a case on a device.
pub type Open = Box<dyn Fn(&Device) -> Result<Opened>>;
/// Runs a kernel once.
pub type Run = Box<dyn FnMut() -> Result<Vec<Buffer>>>;
/// Compares some of a kernel's results with f64.
pub type Check = Box<dyn Fn(&[Buffer]) -> Result<Agreement>>;

/// A case with its inputs in place.
pub struct Opened {
    /// Runs the kernel once.
    pub run: Run,
    /// Compares some of the results with f64.
    pub check: Check,
}
