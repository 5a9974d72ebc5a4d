//! Ctrl-C and termination signals ask the running stage to save and stop; a second one ends the process at once.

use std::sync::atomic::{AtomicU32, Ordering};

static SIGNALS: AtomicU32 = AtomicU32::new(0);

/// Starts listening. Called once by `main`.
pub fn catch_interrupts() {
    let handler = || {
        if SIGNALS.fetch_add(1, Ordering::SeqCst) > 0 {
            std::process::exit(130);
        }
        eprintln!("stopping after this step; once more to stop at once");
    };
    if let Err(error) = ctrlc::set_handler(handler) {
        tracing::warn!("Ctrl-C will end the program at once: {error}");
    }
}

/// True once a signal has come: loops check it each step, save, and return `Error::Interrupted`.
pub fn interrupted() -> bool {
    SIGNALS.load(Ordering::SeqCst) > 0
}
