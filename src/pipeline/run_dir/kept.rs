//! Results of other settings: kept beside the current ones in `RUN/kept/<stage>/<key>`, until `gr2 clean` removes them.

use super::super::{STAGES, Stage};
use super::manifest::Manifest;
use crate::error::{Error, Result};
use crate::files;
use std::path::{Path, PathBuf};

/// Folder of the results that are not current.
const KEPT: &str = "kept";
/// Digits of a key that name a folder.
const DIGITS: usize = 16;

/// A result that is not the current one.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// Its stage.
    pub stage: Stage,
    /// Its folder.
    pub path: PathBuf,
    /// Size of all files in bytes.
    pub bytes: u64,
    /// Whether the stage came to its end.
    pub finished: bool,
    /// Wall seconds that it took.
    pub seconds: f64,
    /// What in it the stage did not write: reasons not to remove it.
    pub added: Vec<String>,
    manifest: Manifest,
}

impl Kept {
    /// The first file of a finished result that is not as the stage wrote it, with what is wrong: a reason not to remove it. Reads
    /// all files.
    ///
    /// Errors: `Io`, `Interrupted`.
    pub fn damage(&self) -> Result<Option<String>> {
        self.manifest.damage(&self.path)
    }
}

/// Moves the folder of a stage, which has a manifest, to where results are kept.
///
/// Errors: `Io`.
pub(super) fn park(root: &Path, stage: Stage, key: &str) -> Result<PathBuf> {
    let parent = root.join(KEPT).join(stage.name());
    std::fs::create_dir_all(&parent).map_err(Error::io(&parent))?;
    let name = short(key);
    // the same key twice: one of them was found damaged
    let names = std::iter::once(name.clone()).chain((2..).map(|n| format!("{name}-{n}")));
    let free = names.map(|name| parent.join(name)).find(|path| !path.exists());
    let to = free.expect("invariant: the numbers do not end");
    let from = root.join(stage.name());
    std::fs::rename(&from, &to).map_err(Error::io(&from))?;
    files::sync_directory(&parent).and_then(|()| files::sync_directory(root)).map_err(Error::io(root))?;
    Ok(to)
}

/// A kept result with this key, with its manifest; a finished and intact one before an unfinished one.
///
/// Errors: `Io`, `Interrupted`.
pub(super) fn find(root: &Path, stage: Stage, key: &str) -> Result<Option<(PathBuf, Manifest)>> {
    let mut found: Vec<(PathBuf, Manifest)> = vec![];
    for path in folders(root, stage)? {
        // folders that are not ours are passed over
        if let Ok(Some(manifest)) = Manifest::read(&path)
            && (manifest.stage, manifest.key.as_str()) == (stage, key)
            && manifest.damage(&path)?.is_none()
        {
            found.push((path, manifest));
        }
    }
    // in the order of their names otherwise
    Ok(found.into_iter().min_by_key(|(_, manifest)| !manifest.finished))
}

/// Moves a kept result back to the stage's folder, which must not be there.
///
/// Errors: `Io`.
pub(super) fn restore(root: &Path, stage: Stage, from: &Path) -> Result<()> {
    let to = root.join(stage.name());
    std::fs::rename(from, &to).map_err(Error::io(from))?;
    files::sync_directory(root).map_err(Error::io(root))
}

/// Every kept result of a run.
///
/// Errors: `Io`.
pub(super) fn list(root: &Path) -> Result<Vec<Kept>> {
    let mut kept = vec![];
    for &stage in STAGES {
        for path in folders(root, stage)? {
            let Ok(Some(manifest)) = Manifest::read(&path) else { continue };
            let size = |(_, file): (String, PathBuf)| Ok(std::fs::metadata(&file).map_err(Error::io(&file))?.len());
            let bytes = files::walk(&path)?.into_iter().map(size).sum::<Result<u64>>()?;
            let (finished, seconds, added) = (manifest.finished, manifest.seconds, manifest.added(&path)?);
            kept.push(Kept { stage, path, bytes, finished, seconds, added, manifest });
        }
    }
    Ok(kept)
}

/// Where results of a stage may be kept; earlier versions had one at `<stage>.previous`.
fn folders(root: &Path, stage: Stage) -> Result<Vec<PathBuf>> {
    let parent = root.join(KEPT).join(stage.name());
    let mut found = vec![root.join(format!("{}.previous", stage.name()))];
    found.retain(|path| path.is_dir());
    if parent.is_dir() {
        for entry in std::fs::read_dir(&parent).map_err(Error::io(&parent))? {
            found.push(entry.map_err(Error::io(&parent))?.path());
        }
    }
    found.sort();
    Ok(found)
}

fn short(key: &str) -> String {
    key.chars().take(DIGITS).collect()
}
