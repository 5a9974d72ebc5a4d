//! Exclusive locks of the operating system.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// An exclusive lock on a file that is made for it. It ends with its process however that ends, so that a killed process leaves a
/// file that the next one takes over; an orderly end removes it.
#[derive(Debug)]
pub struct FileLock {
    path: PathBuf,
    /// Holds the lock for as long as it is open.
    file: File,
    guards: bool,
}

impl FileLock {
    /// Locks `path`; `None` if it is locked already, be it by this process.
    ///
    /// Errors: `Io`, also for a link. A file system without locks is no error: see [`FileLock::guards`].
    pub fn take(path: &Path) -> Result<Option<FileLock>> {
        if path.is_symlink() {
            return Err(Error::io(path)(std::io::Error::other("is a link, where a lock is to be made")));
        }
        loop {
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
            let file = file.map_err(Error::io(path))?;
            let guards = match file.try_lock() {
                Ok(()) => true,
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(e)) if e.kind() == ErrorKind::Unsupported => false,
                Err(TryLockError::Error(e)) => return Err(Error::io(path)(e)),
            };
            // the holder before may have removed the file between the two calls: then this lock guards nothing
            if is_at(&file, path) {
                return Ok(Some(FileLock { path: path.into(), file, guards }));
            }
        }
    }

    /// False on a file system that has no locks.
    pub fn guards(&self) -> bool {
        self.guards
    }

    /// Writes into the file, for whoever finds it locked.
    ///
    /// Errors: `Io`.
    pub fn note(&mut self, text: &str) -> Result<()> {
        self.file.set_len(0).and_then(|()| self.file.write_all(text.as_bytes())).map_err(Error::io(&self.path))
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // still locked; where it cannot be removed the next holder takes it over
        if is_at(&self.file, &self.path) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Whether `path` leads to the open `file`.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |m: &std::fs::Metadata| (m.dev(), m.ino());
    matches!((file.metadata(), std::fs::metadata(path)), (Ok(a), Ok(b)) if id(&a) == id(&b))
}

/// An open file cannot be removed there.
#[cfg(not(unix))]
fn is_at(_: &File, _: &Path) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_at_a_time_and_nothing_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let counter = dir.path().join("counter");
        std::fs::write(&counter, "0").unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let lock = loop {
                            match FileLock::take(&path).unwrap() {
                                Some(lock) => break lock,
                                None => std::thread::yield_now(),
                            }
                        };
                        let count: u32 = std::fs::read_to_string(&counter).unwrap().parse().unwrap();
                        std::fs::write(&counter, (count + 1).to_string()).unwrap();
                        drop(lock);
                    }
                });
            }
        });
        assert_eq!(std::fs::read_to_string(&counter).unwrap(), "200");
        assert!(!path.exists());
    }
}
