//! Ctrl-C, a termination signal, a closed terminal: the running command stops within two seconds; a second signal ends it at once.
//!
//! Loops ask [`check_interrupt`]: what has something to save then saves it. What does not come to ask, as one long product or a
//! silent server, is ended from outside [`PATIENCE`] after the signal, since it has nothing to save; a [`Hold`] keeps off that end
//! for as long as something is being written, or as a training loop has updates to save, which asks at every block of its model and saves
//! what it had before the step.

use super::say;
use crate::error::{Error, Result};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long after a signal a command may go on that does not ask.
const PATIENCE: Duration = Duration::from_millis(1500);

/// How long a last line may take to be written: a terminal may be stopped.
const LAST_LINE: Duration = Duration::from_millis(200);

static SIGNALS: AtomicU32 = AtomicU32::new(0);

static STATE: Mutex<State> = Mutex::new(State { work: "gr2", holds: 0 });

/// Told when the last [`Hold`] ends.
static RELEASED: Condvar = Condvar::new();

struct State {
    /// What is running: a stage or a command.
    work: &'static str,
    holds: usize,
}

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts listening. Called once by `main`.
pub fn catch_interrupts() {
    let ignored = hangups_ignored();
    let handler = || {
        if SIGNALS.fetch_add(1, Ordering::SeqCst) > 0 {
            leave();
        }
        // not here: writing may block, and the second signal comes to this thread
        let end = || {
            say!("stopping; once more to stop at once");
            std::thread::sleep(PATIENCE);
            end_from_outside();
        };
        if std::thread::Builder::new().spawn(end).is_err() {
            leave();
        }
    };
    if let Err(error) = ctrlc::set_handler(handler) {
        tracing::warn!("Ctrl-C will end the program at once: {error}");
    }
    if ignored {
        ignore_hangups();
    }
}

/// Ends the process as soon as nothing is held.
fn end_from_outside() {
    let mut state = state();
    while state.holds > 0 {
        state = RELEASED.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
    // the lock is kept: nothing can be held from here on
    let error = Error::Interrupted { stage: state.work.into() };
    let (said, wait) = std::sync::mpsc::channel();
    let last = move || {
        say!("error: {error}");
        let _ = said.send(());
    };
    if std::thread::Builder::new().spawn(last).is_ok() {
        let _ = wait.recv_timeout(LAST_LINE);
    }
    leave()
}

/// Ends an interrupted process without what other libraries have registered for its end: a driver may wait there for what it
/// compiles, or destroy what other threads are using.
pub fn leave() -> ! {
    #[cfg(unix)]
    // SAFETY: it only ends the process; what this program writes to standard output is flushed line by line.
    unsafe {
        libc::_exit(130)
    }
    #[cfg(not(unix))]
    std::process::exit(130)
}

/// True if a closed terminal is to be outlived, as `nohup` asks.
fn hangups_ignored() -> bool {
    #[cfg(unix)]
    {
        // SAFETY: it only asks, into a struct of its own.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            libc::sigaction(libc::SIGHUP, std::ptr::null(), &mut action) == 0 && action.sa_sigaction == libc::SIG_IGN
        }
    }
    #[cfg(not(unix))]
    false
}

/// Undoes for hang-ups what `ctrlc` has set for every signal it knows.
fn ignore_hangups() {
    #[cfg(unix)]
    // SAFETY: no handler is set, only the one of `ctrlc` taken away.
    unsafe {
        libc::signal(libc::SIGHUP, libc::SIG_IGN);
    }
}

/// Names what runs from here on, for the message of an interrupt: a stage or a command.
pub fn working_on(work: &'static str) {
    state().work = work;
}

/// True once a signal has come.
pub fn interrupted() -> bool {
    SIGNALS.load(Ordering::Relaxed) > 0
}

/// What loops ask, each turn: it costs a load.
///
/// Errors: `Interrupted`, naming what runs, once a signal has come.
#[inline]
pub fn check_interrupt() -> Result<()> {
    if interrupted() { Err(Error::Interrupted { stage: state().work.into() }) } else { Ok(()) }
}

/// What is under way until it is dropped is not ended from outside by the first signal.
#[derive(Debug)]
#[must_use]
pub struct Hold(());

/// For writing files, and for loops that ask often and then save.
pub fn hold() -> Hold {
    state().holds += 1;
    Hold(())
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut state = state();
        state.holds -= 1;
        if state.holds == 0 {
            RELEASED.notify_all();
        }
    }
}
