//! One process at a time works in a run directory.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The file that is locked; it names who holds the lock.
pub(super) const LOCK: &str = ".gr2.lock";

/// An exclusive lock of the operating system on `RUN/.gr2.lock`. It ends with its process however that ends, so that a killed
/// run leaves a file that the next one takes over; an orderly end removes it.
#[derive(Debug)]
pub(super) struct Lock {
    path: PathBuf,
    /// Holds the lock for as long as it is open.
    file: File,
}

/// Who holds a lock. No command line: it may hold a secret.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Holder {
    pid: u32,
    host: String,
    /// Seconds since 1970.
    since: u64,
}

impl Lock {
    /// Locks the run directory `root`.
    ///
    /// Errors: `RunDirectory` naming the holder; `Io`. A file system without locks is used without one, with a warning.
    pub(super) fn take(root: &Path) -> Result<Lock> {
        let path = root.join(LOCK);
        loop {
            let mut options = OpenOptions::new();
            let file = options.read(true).write(true).create(true).truncate(false).open(&path);
            let mut file = file.map_err(Error::io(&path))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(in_use(root, &mut file)),
                Err(TryLockError::Error(e)) if e.kind() == ErrorKind::Unsupported => {
                    tracing::warn!("{}: this file system has no locks: start no second run there", root.display());
                }
                Err(TryLockError::Error(e)) => return Err(Error::io(&path)(e)),
            }
            // the holder before may have removed the file between the two calls: then this lock guards nothing
            if is_at(&file, &path) {
                note(&mut file).map_err(Error::io(&path))?;
                return Ok(Lock { path, file });
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // still locked; where it cannot be removed the next run takes it over
        if is_at(&self.file, &self.path) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn note(file: &mut File) -> std::io::Result<()> {
    let holder = Holder { pid: std::process::id(), host: host(), since: now() };
    file.set_len(0)?;
    file.write_all(serde_json::to_string(&holder)?.as_bytes())
}

fn in_use(root: &Path, file: &mut File) -> Error {
    let mut text = String::new();
    // a file that cannot be read (Windows) or is being written still says that somebody is there
    let holder: Option<Holder> = file.read_to_string(&mut text).ok().and_then(|_| serde_json::from_str(&text).ok());
    let who = holder.map_or("another process".into(), |Holder { pid, host, since }| {
        let age = Duration::from_secs(now().saturating_sub(since));
        format!("process {pid} on host {host}, which has worked here for {age:?}")
    });
    Error::RunDirectory {
        path: root.into(),
        problem: format!("is in use by {who}"),
        hint: Some("wait until it has ended, or name another folder with --out".into()),
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

fn host() -> String {
    let named = |name: &str| std::env::var(name).ok();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|name| name.trim().to_string());
    kernel.or_else(|| named("HOSTNAME")).or_else(|| named("COMPUTERNAME")).unwrap_or_else(|| "unknown".into())
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_refused_by_name_and_a_stale_file_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let first = Lock::take(dir.path()).unwrap();
        let message = Lock::take(dir.path()).unwrap_err().to_string();
        let expected = format!("is in use by process {} on host {}", std::process::id(), host());
        assert!(message.contains(&expected) && message.contains("hint: wait"), "{message}");
        drop(first);
        assert!(!dir.path().join(LOCK).exists());
        // as a kill leaves it
        std::fs::write(dir.path().join(LOCK), "{\"pid\": 1, \"host\": \"gone\"").unwrap();
        drop(Lock::take(dir.path()).unwrap());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
