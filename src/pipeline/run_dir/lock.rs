//! One process at a time works in a run directory.

use crate::error::{Error, Result};
use crate::files::FileLock;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The file that is locked; it names who holds the lock.
pub(super) const LOCK: &str = ".gr2.lock";

/// How what [`Holder`] writes begins.
const BEGINNING: &[u8] = b"{\"";

/// The lock of a run directory, `RUN/.gr2.lock`.
#[derive(Debug)]
#[expect(dead_code, reason = "held")]
pub(super) struct Lock {
    file: FileLock,
    /// Locked as well where a directory can be: the file may be deleted.
    directory: Option<File>,
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
    /// Errors: `RunDirectory` naming the holder, or if the file is somebody's own; `Io`. A file system without locks is used without one, with a warning.
    pub(super) fn take(root: &Path) -> Result<Lock> {
        let path = root.join(LOCK);
        let directory = File::open(root).ok();
        let held = directory.as_ref().map(File::try_lock);
        if matches!(held, Some(Err(TryLockError::WouldBlock))) {
            return Err(in_use(root, &path));
        }
        let found = std::fs::read(&path).unwrap_or_default();
        if !found.is_empty() && !found.starts_with(BEGINNING) {
            let hint = Some("move it elsewhere, or name another folder with --out".into());
            return Err(Error::RunDirectory { path, problem: "is no lock of gr2".into(), hint });
        }
        let Some(mut lock) = FileLock::take(&path)? else { return Err(in_use(root, &path)) };
        if !lock.guards() {
            tracing::warn!("{}: this file system has no locks: start no second run there", root.display());
        }
        let holder = Holder { pid: std::process::id(), host: host(), since: now() };
        lock.note(&json!(holder).to_string())?;
        Ok(Lock { file: lock, directory })
    }
}

fn in_use(root: &Path, lock: &Path) -> Error {
    // a file that cannot be read (Windows) or is being written still says that somebody is there
    let holder: Option<Holder> = std::fs::read(lock).ok().and_then(|text| serde_json::from_slice(&text).ok());
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
        std::fs::write(dir.path().join(LOCK), "mine").unwrap();
        let message = Lock::take(dir.path()).unwrap_err().to_string();
        assert!(message.contains("is no lock of gr2"), "{message}");
        assert_eq!(std::fs::read_to_string(dir.path().join(LOCK)).unwrap(), "mine");
    }

    #[cfg(unix)]
    #[test]
    fn a_deleted_file_lets_nobody_in_and_a_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let held = Lock::take(dir.path()).unwrap();
        std::fs::remove_file(dir.path().join(LOCK)).unwrap();
        assert!(Lock::take(dir.path()).unwrap_err().to_string().contains("is in use by"));
        drop(held);
        let mine = dir.path().join("mine");
        std::fs::write(&mine, "{\"pid\": 1}").unwrap();
        std::os::unix::fs::symlink(&mine, dir.path().join(LOCK)).unwrap();
        assert!(Lock::take(dir.path()).unwrap_err().to_string().contains("is a link"));
        assert_eq!(std::fs::read_to_string(&mine).unwrap(), "{\"pid\": 1}");
    }
}
