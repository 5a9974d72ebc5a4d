//! What a person at the terminal sees and does: lines, progress, and Ctrl-C.

mod interrupt;
mod lines;
mod progress;

pub use interrupt::{Hold, catch_interrupts, check_interrupt, hold, interrupted, leave, working_on};
pub use lines::{Log, STDOUT, reader_is_gone, write_line, write_result};
pub(crate) use lines::{out, say};
pub use progress::Progress;
