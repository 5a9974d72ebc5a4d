//! Files for readers that take paths, and inputs that stand for several files.

use std::path::{Path, PathBuf};

/// Between the parts of an input that stands for several files.
pub const SEPARATOR: &[u8] = b"\n----\n";

/// Environment variable that names the folder to make folders in.
pub const SCRATCH: &str = "GR2_FUZZ_SCRATCH";

/// One input of several parts.
pub fn join(parts: &[&[u8]]) -> Vec<u8> {
    parts.join(SEPARATOR)
}

/// The first `N` parts of an input; those that are not there are empty, and the last is all that is left.
pub fn parts<const N: usize>(input: &[u8]) -> [&[u8]; N] {
    let mut found = [&input[..0]; N];
    let mut rest = Some(input);
    for (at, part) in found.iter_mut().enumerate() {
        let Some(text) = rest else { break };
        let end = text.windows(SEPARATOR.len()).position(|window| window == SEPARATOR).filter(|_| at + 1 < N);
        *part = end.map_or(text, |end| &text[..end]);
        rest = end.map(|end| &text[end + SEPARATOR.len()..]);
    }
    found
}

/// A folder of files that are written anew for every input; in memory where the system has a place for that.
pub struct Scratch {
    folder: tempfile::TempDir,
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl Scratch {
    /// Makes the folder.
    pub fn new() -> Scratch {
        let mut builder = tempfile::Builder::new();
        builder.prefix("gr2-fuzz-");
        // the process that watches removes its folder, however this one ends
        let place = std::env::var_os(SCRATCH).map_or("/dev/shm".into(), PathBuf::from);
        let folder = builder.tempdir_in(place).or_else(|_| builder.tempdir());
        Scratch { folder: folder.expect("a temporary folder") }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file, whose folder is made if absent, and returns its path.
    pub fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path().join(name);
        if std::fs::write(&path, bytes).is_err() {
            std::fs::create_dir_all(path.parent().expect("below the folder")).expect("makes a folder");
            std::fs::write(&path, bytes).expect("writes a file");
        }
        path
    }

    /// As [`Scratch::put`] where there is content; no file where there is none.
    pub fn put_if_any(&self, name: &str, bytes: &[u8]) -> PathBuf {
        if !bytes.is_empty() {
            return self.put(name, bytes);
        }
        let path = self.path().join(name);
        let _ = std::fs::remove_file(&path);
        path
    }
}
