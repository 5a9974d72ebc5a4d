//! Generated inputs for every reader of `gr2`: no input may make one panic, abort, take memory without bound or take
//! more than a second.
//!
//! | file | holds |
//! |---|---|
//! | `targets` | [`TARGETS`]: each reader with seed inputs, words of its format and what must hold of what it accepts |
//! | `mutate` | [`Mutator`]: inputs made of seeds, by bytes and by structure |
//! | `scratch` | [`Scratch`]: files for readers that take paths |
//! | `watch` | what a process takes, and the page on which it notes what it works on |
//! | `worker`, `run` | one process reads inputs; another watches it and takes note of how it ended |
//!
//! `cargo run --release -p gr2-fuzz` is the stable twin of the libFuzzer targets in `libfuzzer/`: both call
//! [`Target::reader`].
#![deny(missing_docs)]

pub mod mutate;
pub mod run;
mod scratch;
pub mod targets;
pub mod watch;
pub mod worker;

pub use mutate::Mutator;
pub use scratch::{SCRATCH, SEPARATOR, Scratch, join, parts};
pub use targets::TARGETS;

use std::time::Duration;

/// What a reader may take for an input that says nothing else.
pub const SLOW: Duration = Duration::from_secs(1);

/// A reader under test.
pub struct Target {
    /// Name on the command line.
    pub name: &'static str,
    /// Inputs that a mutation starts from; most are accepted.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Words of the format, which mutations put in.
    pub words: &'static [&'static str],
    /// An input that takes longer, and as much of a processor's time, is a finding.
    pub slow: Duration,
    /// Makes the reader, with its folder and whatever else it keeps between inputs.
    pub reader: fn() -> Reader,
}

/// Reads one input. Panics if what it accepted breaks a promise of the reader.
pub type Reader = Box<dyn FnMut(&[u8]) -> Verdict>;

/// What a reader made of an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It was read; the number tells results apart (how many records there are, say).
    Accepted(u64),
    /// It was refused, and why.
    Refused(String),
}

impl Verdict {
    /// Of a result, whose value is given a number.
    pub fn of<T, E: std::fmt::Display>(result: Result<T, E>, number: impl FnOnce(T) -> usize) -> Verdict {
        match result {
            Ok(value) => Verdict::Accepted(number(value) as u64),
            Err(error) => Verdict::Refused(error.to_string()),
        }
    }

    /// Something that is equal for results of the same kind: the number, or the message without numbers and quotations.
    pub fn kind(&self) -> String {
        let Verdict::Refused(message) = self else { return format!("{self:?}") };
        let mut kind = String::new();
        let mut quoted = false;
        for c in message.chars().filter(|c| !c.is_ascii_digit()) {
            quoted ^= matches!(c, '`' | '"');
            if !quoted {
                kind.push(c);
            }
            if kind.len() > 120 {
                break;
            }
        }
        kind
    }
}

/// The target of a name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// Inputs of `corpus/NAME`, in the order of their names: those that once were faults.
pub fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let Ok(entries) = std::fs::read_dir(folder) else { return vec![] };
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths.iter().filter_map(|path| std::fs::read(path).ok()).collect()
}
