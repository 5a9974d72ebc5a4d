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
    /// Files in a finished result that the stage did not write: reasons not to remove it.
    pub added: Vec<String>,
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

/// Moves a kept result with this key back to the stage's folder, which must not be there; a finished and intact one before an
/// unfinished one. Returns its manifest.
///
/// Errors: `Io`.
pub(super) fn restore(root: &Path, stage: Stage, key: &str) -> Result<Option<Manifest>> {
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
    let Some((from, manifest)) = found.into_iter().min_by_key(|(_, manifest)| !manifest.finished) else {
        return Ok(None);
    };
    let to = root.join(stage.name());
    std::fs::rename(&from, &to).map_err(Error::io(&from))?;
    files::sync_directory(root).map_err(Error::io(root))?;
    Ok(Some(manifest))
}

/// Every kept result of a run.
///
/// Errors: `Io`.
pub(super) fn list(root: &Path) -> Result<Vec<Kept>> {
    let mut kept = vec![];
    for &stage in STAGES {
        for path in folders(root, stage)? {
            let Ok(Some(Manifest { finished, seconds, files: written, .. })) = Manifest::read(&path) else { continue };
            let (mut bytes, mut added) = (0, vec![]);
            for (name, file) in files::walk(&path)? {
                bytes += std::fs::metadata(&file).map_err(Error::io(&file))?.len();
                if !written.is_empty() && name != super::manifest::MANIFEST && !written.contains_key(&name) {
                    added.push(name);
                }
            }
            kept.push(Kept { stage, path, bytes, finished, seconds, added });
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
