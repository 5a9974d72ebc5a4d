//! `manifest.json` of a stage's folder: what the result was made from, and the checksums of its files.

use super::super::Stage;
use crate::checksum::Checksum;
use crate::error::{Error, Result};
use crate::files;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// The manifest's file name.
pub(super) const MANIFEST: &str = "manifest.json";

/// What a stage was made from. Equal keys mean equal results on the same device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) stage: Stage,
    /// Hash of everything that decides the result ([`super::super::key`]).
    pub(super) key: String,
    /// The stage's part of the configuration.
    pub(super) config: Value,
    /// What of it can change the result. Null in results of earlier versions.
    #[serde(default)]
    pub(super) deciding: Value,
    /// Keys of the results it was made from. Empty in results of earlier versions.
    #[serde(default)]
    pub(super) inputs: BTreeMap<Stage, String>,
    pub(super) seed: u64,
    /// Device the stage ran on.
    pub(super) device: String,
    /// False while the stage is being made.
    pub(super) finished: bool,
    /// Wall seconds, over all resumptions.
    pub(super) seconds: f64,
    /// Every file of a finished result, by its path below the folder. Empty in results of earlier versions.
    #[serde(default)]
    pub(super) files: BTreeMap<String, Checksum>,
}

impl Manifest {
    /// The manifest in a stage's folder; `None` if there is none.
    ///
    /// Errors: `Io`; `RunDirectory` for a file that is no manifest of ours, which is then nobody's to touch.
    pub(super) fn read(folder: &Path) -> Result<Option<Manifest>> {
        let path = folder.join(MANIFEST);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io(&path)(e)),
        };
        serde_json::from_str(&text).map(Some).map_err(|e| Error::RunDirectory {
            path: path.clone(),
            problem: format!("is no manifest of gr2: {e}"),
            hint: Some("move its folder elsewhere, or delete it; the stage is then made again".into()),
        })
    }

    /// Writes the manifest into its stage's folder.
    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).expect("invariant: a manifest serialises");
        files::write_atomic(folder.join(MANIFEST), text)
    }

    /// Marks the result as finished, with the checksums of all files in `folder` that the stage writes.
    ///
    /// Errors: `Io`, `Interrupted`.
    pub(super) fn finish(&mut self, folder: &Path) -> Result<()> {
        let own = |name: &str| self.stage.writes().contains(&name.split('/').next().unwrap_or(name));
        let written = files::walk(folder)?.into_iter().filter(|(name, _)| own(name));
        self.files = written.map(|(name, path)| Ok((name, Checksum::of(&path)?))).collect::<Result<_>>()?;
        self.finished = true;
        Ok(())
    }

    /// What in `folder` the stage did not write.
    ///
    /// Errors: `Io`.
    pub(super) fn added(&self, folder: &Path) -> Result<Vec<String>> {
        let mut added = vec![];
        // of any kind: links and empty directories as well
        for entry in std::fs::read_dir(folder).map_err(Error::io(folder))? {
            let name = entry.map_err(Error::io(folder))?.file_name().to_string_lossy().into_owned();
            if name != MANIFEST && !self.stage.writes().contains(&name.as_str()) && !files::is_temporary(&name) {
                added.push(name);
            }
        }
        let inner = if self.files.is_empty() { vec![] } else { files::walk(folder)? };
        let inner = inner.into_iter().map(|(name, _)| name).filter(|name| name.contains('/'));
        let of_added = |name: &str, added: &[String]| added.iter().any(|own| name.split('/').next() == Some(own));
        added
            .extend(inner.filter(|name| !self.files.contains_key(name) && !of_added(name, &added)).collect::<Vec<_>>());
        added.sort();
        Ok(added)
    }

    /// The first file in `folder` that is not as the stage left it, with what is wrong; files that were added do not count.
    ///
    /// Errors: `Io`, `Interrupted`.
    pub(super) fn damage(&self, folder: &Path) -> Result<Option<String>> {
        for (name, noted) in &self.files {
            let path = folder.join(name);
            let found = match std::fs::metadata(&path) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Some(format!("{name} is gone"))),
                Err(e) => return Err(Error::io(&path)(e)),
                Ok(found) if found.len() != noted.bytes => {
                    return Ok(Some(format!("{name} has {} bytes, the stage wrote {}", found.len(), noted.bytes)));
                }
                Ok(_) => Checksum::of(&path)?,
            };
            if found != *noted {
                // a manifest may hold anything
                let short = |hash: &str| hash.chars().take(12).collect::<String>();
                let (found, noted) = (short(&found.sha256), short(&noted.sha256));
                return Ok(Some(format!("{name} was altered: SHA-256 {found}…, the stage wrote {noted}…")));
            }
        }
        Ok(None)
    }
}
