//! SHA-256 of bytes and of files, in hexadecimal digits.

use crate::console::check_interrupt;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// Age from which a file's time of change tells it from a later content: clocks of file systems tick in milliseconds or seconds.
const SETTLED: Duration = Duration::from_secs(3);

/// Size and content of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checksum {
    /// Size.
    pub bytes: u64,
    /// SHA-256.
    pub sha256: String,
}

impl Checksum {
    /// Reads a file.
    ///
    /// Errors: `Io`, `Interrupted`.
    pub fn of(path: &Path) -> Result<Checksum> {
        let mut file = std::fs::File::open(path).map_err(Error::io(path))?;
        let (mut hash, mut bytes, mut piece) = (Sha256::new(), 0, vec![0; 1 << 20]);
        loop {
            check_interrupt()?;
            match file.read(&mut piece) {
                Ok(0) => return Ok(Checksum { bytes, sha256: hex(&hash.finalize()) }),
                Ok(n) => {
                    hash.update(&piece[..n]);
                    bytes += n as u64;
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::io(path)(e)),
            }
        }
    }

    /// As [`Checksum::of`], for large files that one command asks about several times: it is remembered for as long as size and time
    /// of change stay the same.
    ///
    /// Errors: `Io`, `Interrupted`.
    pub fn remembered(path: &Path) -> Result<Checksum> {
        type Known = HashMap<PathBuf, (SystemTime, Checksum)>;
        static KNOWN: Mutex<Option<Known>> = Mutex::new(None);
        let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        let metadata = std::fs::metadata(path).map_err(Error::io(path))?;
        let changed = metadata.modified().ok().filter(|time| time.elapsed().is_ok_and(|age| age > SETTLED));
        let Some(changed) = changed else { return Checksum::of(path) };
        if let Some((then, found)) = known().get_or_insert_default().get(path)
            && (*then, found.bytes) == (changed, metadata.len())
        {
            return Ok(found.clone());
        }
        let found = Checksum::of(path)?;
        known().get_or_insert_default().insert(path.into(), (changed, found.clone()));
        Ok(found)
    }
}

/// SHA-256 of bytes.
pub fn sha256(bytes: impl AsRef<[u8]>) -> String {
    hex(&Sha256::digest(bytes))
}

/// Bytes in hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_bytes_agree_with_the_standard() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::fs::write(&path, "abc").unwrap();
        // FIPS 180-4, appendix B.1
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Checksum::of(&path).unwrap(), Checksum { bytes: 3, sha256: expected.into() });
        assert_eq!(sha256("abc"), expected);
    }
}
