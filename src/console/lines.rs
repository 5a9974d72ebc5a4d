//! Lines on both streams, which may be closed, full, or read by nobody any more.
//!
//! Nothing in this crate prints otherwise (`clippy::print_stdout` and `print_stderr` are denied): the macros of the standard library
//! panic where a stream is broken.

use crate::error::{Error, Result};
use std::fmt::Arguments;
use std::io::Write;

/// What standard output is called in errors.
pub const STDOUT: &str = "standard output";

/// Other names of it.
const STDOUT_FILES: [&str; 3] = ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"];

/// A line for the person at the terminal, on standard error: `say!("{} items", n)`, as `eprintln!`. What becomes of it changes
/// nothing: work goes on where the reader of its log is gone.
macro_rules! say {
    ($($line:tt)*) => { $crate::console::write_line(format_args!($($line)*)) };
}

/// A line of a command's result, on standard output: `out!("{id}")?`, as `println!`.
///
/// Errors: `Io`; see [`reader_is_gone`] for a pipe that nobody reads any more.
macro_rules! out {
    ($($line:tt)*) => { $crate::console::write_result(format_args!($($line)*)) };
}

pub(crate) use {out, say};

/// What [`say!`] does.
#[doc(hidden)]
pub fn write_line(line: Arguments) {
    // whole lines, so that those of several processes do not mix
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// What [`out!`] does.
#[doc(hidden)]
pub fn write_result(line: Arguments) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    // flushed here, since nobody hears of what fails at the end of the process
    stdout.write_all(format!("{line}\n").as_bytes()).and_then(|()| stdout.flush()).map_err(Error::io(STDOUT))
}

/// True if standard output is a pipe whose reader has seen enough, as in `gr2 tokenize … | head -1`: no failure.
pub fn reader_is_gone(error: &Error) -> bool {
    matches!(error, Error::Io { path, source } if source.kind() == std::io::ErrorKind::BrokenPipe
        && (path.as_os_str() == STDOUT || STDOUT_FILES.iter().any(|name| path.as_os_str() == *name)))
}

/// Standard error for a log: writing never fails.
#[derive(Debug, Clone, Copy, Default)]
pub struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let _ = std::io::stderr().write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;

    #[test]
    fn only_a_broken_pipe_of_standard_output_is_no_failure() {
        let error = |path: &str, kind: ErrorKind| Error::io(path)(kind.into());
        assert!(reader_is_gone(&error(STDOUT, ErrorKind::BrokenPipe)));
        assert!(reader_is_gone(&error("/dev/stdout", ErrorKind::BrokenPipe)));
        assert!(!reader_is_gone(&error(STDOUT, ErrorKind::StorageFull)));
        assert!(!reader_is_gone(&error("some/fifo", ErrorKind::BrokenPipe)));
    }
}
