//! Host memory of the CPU device: 64-byte aligned blocks, recycled by size so that a training step does not fault
//! fresh pages in again and again.

use crate::error::{Error, Result};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex};

/// One cache line; blocks are made of these so that every dtype and vector width is aligned.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// A block of host memory that returns to the pool when dropped.
pub(crate) struct HostMemory {
    lines: Vec<Line>,
}

#[derive(Default)]
struct Pool {
    free: HashMap<usize, Vec<Vec<Line>>>,
    held: usize,
}

/// Free blocks beyond this many bytes go back to the operating system.
const HELD_LIMIT: usize = 1 << 30;
/// Blocks below this size are left to the system allocator, which is as fast for them.
const POOLED_FROM: usize = 16 << 10;

static POOL: LazyLock<Mutex<Pool>> = LazyLock::new(Mutex::default);
/// Bytes of live blocks, and the most that live and idle ones ever were.
static IN_USE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// Bytes in live blocks, and the most ever held.
pub(super) fn memory() -> (u64, u64) {
    (IN_USE.load(Ordering::Relaxed) as u64, PEAK.load(Ordering::Relaxed) as u64)
}

/// Rounds up to four classes per power of two: at most a quarter is wasted.
pub(crate) fn size_class(bytes: usize, granule: usize) -> usize {
    let bytes = bytes.max(granule).next_multiple_of(granule);
    let step = (bytes.next_power_of_two() / 8).max(granule);
    bytes.next_multiple_of(step)
}

/// Bytes of memory and swap space that this process may use; past any size where the system does not say.
static MACHINE: LazyLock<u64> = LazyLock::new(|| {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let lines = read("/proc/meminfo");
    let kib = |name: &str| -> Option<u64> {
        let value = lines.lines().find_map(|line| line.strip_prefix(name))?;
        value.trim_start_matches(':').split_whitespace().next()?.parse().ok()
    };
    let machine = kib("MemTotal").map(|memory| (memory + kib("SwapTotal").unwrap_or(0)) << 10);
    // a container's share
    let share = read("/sys/fs/cgroup/memory.max").trim().parse().ok();
    // no address space is larger than half of its numbers
    [machine, share, Some(isize::MAX as u64 / 2)].into_iter().flatten().min().unwrap_or(0)
});

/// Counts a block of this class as in use, and hands one out that was in use before.
fn recycled(class: usize) -> Option<Vec<Line>> {
    let in_use = IN_USE.fetch_add(class, Ordering::Relaxed) + class;
    let mut pool = POOL.lock().ok()?;
    let recycled = pool.free.get_mut(&class).and_then(Vec::pop);
    pool.held -= if recycled.is_some() { class } else { 0 };
    PEAK.fetch_max(in_use + pool.held, Ordering::Relaxed);
    recycled
}

impl HostMemory {
    /// A block of at least `bytes` with unspecified (but initialised) contents.
    pub(crate) fn new(bytes: usize) -> HostMemory {
        let class = size_class(bytes, size_of::<Line>());
        HostMemory { lines: recycled(class).unwrap_or_else(|| bytemuck::zeroed_vec(class / size_of::<Line>())) }
    }

    /// [`HostMemory::new`] for sizes that come from outside.
    ///
    /// Errors: `OutOfMemory` for more than this machine has, or than it gives.
    pub(crate) fn allocate(op: &'static str, bytes: usize) -> Result<HostMemory> {
        let in_use = memory().0;
        let refuse = |limit| Error::OutOfMemory { op, bytes: bytes as u64, in_use, limit };
        if (bytes as u64).saturating_add(in_use) > *MACHINE {
            return Err(refuse(format!("this machine has {}", *MACHINE)));
        }
        let class = size_class(bytes, size_of::<Line>());
        let lines = recycled(class).or_else(|| bytemuck::try_zeroed_vec(class / size_of::<Line>()).ok());
        lines.map(|lines| HostMemory { lines }).ok_or_else(|| {
            IN_USE.fetch_sub(class, Ordering::Relaxed);
            refuse("the system gives no more".into())
        })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(&self.lines)
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        bytemuck::cast_slice_mut(&mut self.lines)
    }
}

impl Drop for HostMemory {
    fn drop(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        let size = lines.len() * size_of::<Line>();
        IN_USE.fetch_sub(size, Ordering::Relaxed);
        if size < POOLED_FROM {
            return;
        }
        if let Ok(mut pool) = POOL.lock()
            && pool.held + size <= HELD_LIMIT
        {
            pool.held += size;
            pool.free.entry(size).or_default().push(lines);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_the_machine_has_is_an_error_and_leaves_the_books_as_they_were() {
        for bytes in [usize::MAX, usize::MAX / 2 + 1, 1 << 60] {
            let error = HostMemory::allocate("test", bytes).map(drop).unwrap_err();
            assert!(error.to_string().starts_with("test: out of memory: "), "{error}");
        }
        assert!(HostMemory::allocate("test", 100_000).is_ok());
    }

    #[test]
    fn size_classes_waste_at_most_a_quarter_and_keep_the_granule() {
        for bytes in [0, 1, 64, 65, 1000, 4097, 123_457, 100_000_000] {
            let class = size_class(bytes, 64);
            assert!(class >= bytes && class.is_multiple_of(64));
            assert!(class <= bytes + bytes / 4 + 64, "{bytes} -> {class}");
            assert_eq!(size_class(class, 64), class);
        }
    }
}
