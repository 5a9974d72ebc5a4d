//! What a process that reads inputs takes, and the page on which it notes what it works on: the page outlives it, so that an
//! input that ended the process is known.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use memmap2::MmapMut;

/// Bytes of the largest input.
pub const LARGEST_INPUT: usize = 1 << 16;

/// Time that a process, or this one, has had a processor for; `None` where the system does not say.
pub fn processor_time(process: Option<u32>) -> Option<Duration> {
    let name = process.map_or("self".to_owned(), |process| process.to_string());
    let text = std::fs::read_to_string(format!("/proc/{name}/stat")).ok()?;
    // after the name of the program, which is in brackets: state, ten numbers, ticks of its own, ticks of the system for it
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Duration::from_millis(10 * (ticks(11)? + ticks(12)?)))
}

/// A number of `/proc/self/status`, such as `Threads` or `VmHWM` (in KiB); 0 where the system does not say.
pub fn status(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Numbers on a page, in this order, each 8 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Note {
    /// Number of the input that is read, from 0.
    Index,
    /// Its length.
    Length,
    /// Inputs read.
    Done,
    /// Those that were accepted.
    Accepted,
    /// Panics.
    Panics,
    /// Length of the longest input.
    Longest,
    /// Nanoseconds of the slowest input.
    Slowest,
    /// Bytes of memory at the highest.
    Memory,
    /// Kinds of results seen.
    Kinds,
}

const NOTES: usize = 16 * 8;

/// A file that two processes have in memory.
pub struct Page {
    map: MmapMut,
}

impl Page {
    /// Makes the file, all zeros, or opens the one that is there.
    pub fn open(path: &Path) -> std::io::Result<Page> {
        let file: File = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        file.set_len((NOTES + LARGEST_INPUT) as u64)?;
        // SAFETY: the file is this program's own, and never shortened while it runs.
        Ok(Page { map: unsafe { MmapMut::map_mut(&file) }? })
    }

    /// A number.
    pub fn get(&self, note: Note) -> u64 {
        let at = note as usize * 8;
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.map[at..at + 8]);
        u64::from_le_bytes(bytes)
    }

    /// Notes a number.
    pub fn set(&mut self, note: Note, value: u64) {
        let at = note as usize * 8;
        self.map[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }

    /// Adds to a number.
    pub fn add(&mut self, note: Note, more: u64) {
        self.set(note, self.get(note) + more);
    }

    /// Notes the larger one.
    pub fn raise(&mut self, note: Note, value: u64) {
        self.set(note, self.get(note).max(value));
    }

    /// Notes the input that is read next.
    pub fn begin(&mut self, index: u64, input: &[u8]) {
        self.set(Note::Index, index);
        self.set(Note::Length, input.len() as u64);
        self.map[NOTES..NOTES + input.len()].copy_from_slice(input);
    }

    /// The input that was noted last.
    pub fn input(&self) -> Vec<u8> {
        let length = (self.get(Note::Length) as usize).min(LARGEST_INPUT);
        self.map[NOTES..NOTES + length].to_vec()
    }
}
