//! Work on files that nobody vouches for, such as the chat template of a downloaded checkpoint: on a thread of its own, with
//! limits on stack, memory and time.
//!
//! A library that panics becomes an error here, without a word on standard error ([`catch`]). What Rust cannot unwind from, an
//! overflown stack or an allocation that fails, is seen before it happens ([`run`]): the program's allocator asks, on such a
//! thread only, how much is held and how deep the stack is, and holds the thread for good when it is too much. Its memory
//! comes back when the program ends, which an error soon brings about.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Once};
use std::time::Duration;

/// What [`run`] allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of stack. Only what is touched takes memory.
    pub stack: usize,
    /// Bytes held at any moment.
    pub memory: usize,
    /// Wall time in which the program runs.
    pub time: Duration,
}

/// Why there is no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Overrun {
    /// It went deeper than the stack allows.
    Stack,
    /// It asked for more memory than that many bytes.
    Memory(usize),
    /// It took longer than this.
    Time(Duration),
    /// It panicked, with this message.
    Panic(String),
}

impl fmt::Display for Overrun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Overrun::Stack => f.write_str("is nested too deeply"),
            Overrun::Memory(bytes) => write!(f, "needs more than {} MB of memory", bytes >> 20),
            Overrun::Time(time) => write!(f, "does not end within {} s", time.as_secs()),
            Overrun::Panic(message) => write!(f, "cannot be read: {message}"),
        }
    }
}

/// Runs `work` on a thread of its own and waits for it.
///
/// Half of the stack is left for what frees memory while unwinding, which asks for none and is not seen. Work that
/// neither asks for memory nor ends goes on after [`Overrun::Time`], until the program ends.
pub fn run<T: Send + 'static>(
    limits: Limits,
    work: impl FnOnce() -> T + Send + 'static,
) -> std::result::Result<T, Overrun> {
    let budget = Arc::new(Budget { memory: limits.memory, ..Budget::default() });
    let (send, receive) = sync_channel(1);
    let shared = budget.clone();
    let body = move || {
        let result = catch(|| {
            let _entered = shared.enter(limits.stack / 2);
            work()
        });
        // nobody listens any more once the time is over
        let _ = send.send(result);
    };
    let thread = std::thread::Builder::new().name("sandbox".into()).stack_size(limits.stack);
    thread.spawn(body).map_err(|e| Overrun::Panic(format!("no thread for it: {e}")))?;
    const SLICE: Duration = Duration::from_millis(10);
    let mut waited = Duration::ZERO;
    loop {
        match receive.recv_timeout(SLICE) {
            Ok(result) => return result.map_err(Overrun::Panic),
            Err(RecvTimeoutError::Disconnected) => return Err(Overrun::Panic("its thread ended".into())),
            Err(RecvTimeoutError::Timeout) => match budget.state.load(Relaxed) {
                STACK => return Err(Overrun::Stack),
                MEMORY => return Err(Overrun::Memory(limits.memory)),
                // slices are counted, not the clock: a program that was stopped, or hardly gets to run, is not late
                _ if waited < limits.time => waited += SLICE,
                _ => {
                    budget.state.store(CANCELLED, Relaxed);
                    return Err(Overrun::Time(limits.time));
                }
            },
        }
    }
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
    static BUDGET: Cell<*const Budget> = const { Cell::new(std::ptr::null()) };
}

/// What `work` returns, or the message it panicked with, which is printed nowhere.
pub fn catch<T>(work: impl FnOnce() -> T) -> std::result::Result<T, String> {
    static HOOK: Once = Once::new();
    if !std::thread::panicking() {
        HOOK.call_once(|| {
            let others = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                if !QUIET.get() {
                    others(info);
                }
            }));
        });
    }
    let before = QUIET.replace(true);
    // what a panic leaves behind is not used again: callers give up the object, or only read it
    let result = catch_unwind(AssertUnwindSafe(work));
    QUIET.set(before);
    result.map_err(|payload| {
        let text = payload.downcast_ref::<&str>().copied().map(str::to_owned);
        text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default()
    })
}

const RUNNING: u8 = 0;
const STACK: u8 = 1;
const MEMORY: u8 = 2;
const CANCELLED: u8 = 3;

/// What a limited thread may take, and has taken.
#[derive(Default)]
struct Budget {
    memory: usize,
    held: AtomicUsize,
    /// Address that its stack, which grows downwards, must not reach.
    floor: AtomicUsize,
    state: AtomicU8,
}

impl Budget {
    /// Applies to this thread until what is returned is dropped.
    fn enter(self: &Arc<Budget>, stack: usize) -> Entered {
        self.floor.store(here().saturating_sub(stack), Relaxed);
        BUDGET.set(Arc::as_ptr(self));
        Entered { _budget: self.clone() }
    }

    /// Takes `more` and gives back `less`; does not return if that is too much.
    #[cold]
    fn charge(&self, more: usize, less: usize) {
        let held = self.held.load(Relaxed).saturating_add(more).saturating_sub(less);
        self.held.store(held, Relaxed);
        let state = match self.state.load(Relaxed) {
            RUNNING if held > self.memory => MEMORY,
            RUNNING if here() < self.floor.load(Relaxed) => STACK,
            state => state,
        };
        if state != RUNNING {
            self.state.store(state, Relaxed);
            loop {
                std::thread::sleep(Duration::from_secs(1 << 20));
            }
        }
    }
}

/// An address in the stack frame of the caller.
#[inline(never)]
fn here() -> usize {
    let mark = 0u8;
    std::ptr::from_ref(std::hint::black_box(&mark)) as usize
}

struct Entered {
    _budget: Arc<Budget>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        BUDGET.set(std::ptr::null());
    }
}

/// The system's allocator, which heeds the limits of the thread.
#[derive(Debug)]
pub struct Allocator;

#[inline(always)]
fn charge(more: usize, less: usize) {
    let budget = BUDGET.get();
    if !budget.is_null() {
        // SAFETY: it is set on this thread alone, while an `Entered` keeps what it points to alive.
        unsafe { &*budget }.charge(more, less);
    }
}

// SAFETY: every call goes on to the system's allocator with the arguments it came with.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        charge(layout.size(), 0);
        // SAFETY: as this function's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        charge(layout.size(), 0);
        // SAFETY: as this function's.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        charge(size, layout.size());
        // SAFETY: as this function's.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        charge(0, layout.size());
        // SAFETY: as this function's.
        unsafe { System.dealloc(block, layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { stack: 4 << 20, memory: 8 << 20, time: Duration::from_secs(20) };

    #[test]
    fn what_keeps_to_the_limits_comes_back() {
        assert_eq!(run(LIMITS, || vec![7u8; 4 << 20].len()), Ok(4 << 20));
        // held one after the other, not at once
        assert_eq!(run(LIMITS, || (0..20).map(|_| vec![1u8; 4 << 20].len()).sum::<usize>()), Ok(80 << 20));
    }

    #[test]
    fn too_much_of_anything_is_an_error() {
        fn deep(n: u64) -> u64 {
            let more = std::hint::black_box(vec![n]);
            if n == u64::MAX { n } else { deep(n + 1) + more[0] }
        }
        assert_eq!(run(LIMITS, || deep(0)), Err(Overrun::Stack));
        assert_eq!(run(LIMITS, || vec![1u8; 1 << 40].len()), Err(Overrun::Memory(8 << 20)));
        let grown = run(LIMITS, || {
            let mut text = String::from("ab");
            (0..60).for_each(|_| text = [text.as_str(), text.as_str()].concat());
            text.len()
        });
        assert_eq!(grown, Err(Overrun::Memory(8 << 20)));
        let time = Duration::from_millis(50);
        let endless = || loop {
            std::hint::black_box(vec![1u8]);
        };
        assert_eq!(run(Limits { time, ..LIMITS }, endless), Err::<(), _>(Overrun::Time(time)));
    }

    #[test]
    fn a_panic_is_a_message() {
        let none: Vec<u8> = vec![];
        assert_eq!(run(LIMITS, move || *none.first().expect("a charsmap")), Err(Overrun::Panic("a charsmap".into())));
        let empty: Vec<u8> = vec![];
        assert_eq!(catch(|| empty[3]), Err("index out of bounds: the len is 0 but the index is 3".into()));
        assert_eq!(catch(|| 1), Ok(1));
    }
}
