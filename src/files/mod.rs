//! Writing files so that a kill at any moment leaves the old or the new content, never half of one.
//!
//! | file | holds |
//! |---|---|
//! | `atomic` | [`write_atomic`]: a file, replaced as a whole |
//! | `directory` | [`replace_directory`]: a directory, replaced as a whole; [`sweep`] removes what a kill left, [`walk`] lists |
//! | `jsonl` | [`append_jsonl`], [`read_jsonl`]: JSON lines, of which a kill may tear the last |
//! | `lock` | [`FileLock`]: one process at a time |
//! | `fetched` | [`not_fetched`]: what a download left in place of a file |

mod atomic;
mod directory;
mod fetched;
mod jsonl;
mod lock;

use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;

pub use atomic::{check_target, write_atomic, write_atomic_with, write_if_changed};
pub use directory::{recover_directory, replace_directory, sweep, sweep_older, walk};
pub use fetched::{FETCH, not_fetched};
pub(crate) use jsonl::json_line;
pub use jsonl::{append_jsonl, read_jsonl, retain_jsonl, write_jsonl};
pub use lock::FileLock;

/// First characters of the names of files and directories that are being written; six letters and digits follow.
pub const TEMPORARY: &str = ".writing-";
/// First characters of the name of a directory while another one takes its place.
pub const REPLACED: &str = ".replaced-";

/// Whether a file or directory of this name is one that is being written.
pub fn is_temporary(name: &str) -> bool {
    name.strip_prefix(TEMPORARY).is_some_and(|tag| tag.len() == 6 && tag.bytes().all(|b| b.is_ascii_alphanumeric()))
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes a rename inside `directory` durable; a no-op where directories cannot be opened as files (Windows) or fsynced.
pub(crate) fn sync_directory(directory: &Path) -> std::io::Result<()> {
    if cfg!(windows) {
        return Ok(());
    }
    match File::open(directory)?.sync_all() {
        Err(e) if matches!(e.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => Ok(()),
        other => other,
    }
}
