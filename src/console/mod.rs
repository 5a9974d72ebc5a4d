//! What a person at the terminal sees and does: progress, and Ctrl-C.

mod interrupt;
mod progress;

pub use interrupt::{catch_interrupts, interrupted};
pub use progress::Progress;
