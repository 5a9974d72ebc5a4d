//! `run.json`: what makes a folder a run directory of ours, and which files in it we may replace.

use super::super::STAGES;
use super::lock::LOCK;
use super::manifest::Manifest;
use crate::checksum::sha256;
use crate::error::{Error, Result};
use crate::files;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// The marker's file name.
pub(super) const MARKER: &str = "run.json";
/// Files that a run publishes in its own directory.
pub(super) const PUBLISHED: [&str; 3] = ["config.toml", "report.json", "report.html"];

/// The marker of a run directory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Marker {
    /// Always `gr2`.
    program: String,
    /// Format of the directory, from 1.
    format: u32,
    /// SHA-256 of what was written last under each name, and of what was about to be when the process ended. A file with
    /// another content is its user's.
    written: BTreeMap<String, Vec<String>>,
}

impl Marker {
    fn new() -> Marker {
        Marker { program: "gr2".into(), format: 1, written: BTreeMap::new() }
    }

    /// The marker of `root`, a directory: the one it has; a fresh one, not written yet, for an empty directory and for a run of a
    /// version that had no markers.
    ///
    /// Errors: `RunDirectory` if the directory is not ours, or of a later format; `Io`.
    pub(super) fn find(root: &Path) -> Result<Marker> {
        let path = root.join(MARKER);
        let refuse = |problem: String, hint: &str| {
            Err(Error::RunDirectory { path: root.into(), problem, hint: Some(hint.into()) })
        };
        let hint = "name a new or empty folder with --out, or the folder of an earlier run";
        match std::fs::read(&path) {
            Ok(text) => match serde_json::from_slice::<Marker>(&text) {
                Ok(marker) if marker.program == "gr2" && marker.format == 1 => Ok(marker),
                Ok(marker) if marker.program == "gr2" => {
                    let problem = format!("is a run of format {}, this program knows format 1", marker.format);
                    refuse(problem, "use the version of gr2 that made it, or another folder")
                }
                _ if Marker::of_unmarked_run(root)?.is_some() => {
                    refuse(format!("holds stages of gr2 and a damaged {MARKER}"), "delete run.json; it is made again")
                }
                _ => refuse(format!("has a {MARKER} that gr2 did not write"), hint),
            },
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(&path)(e)),
            Err(_) if let Some(marker) = Marker::of_unmarked_run(root)? => Ok(marker),
            Err(_) => match foreign_entry(root)? {
                None => Ok(Marker::new()),
                Some(name) => refuse(format!("is not empty and no run of gr2: it holds {name}"), hint),
            },
        }
    }

    /// Writes the marker where it is not there already.
    pub(super) fn keep(&self, root: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).expect("invariant: a marker serialises");
        files::write_if_changed(root.join(MARKER), text)
    }

    /// Writes `content` into the file `name` of the run directory. Returns false, with nothing written, if the file there is
    /// not what was written last.
    ///
    /// Errors: `Io`.
    pub(super) fn publish(&mut self, root: &Path, name: &str, content: &[u8]) -> Result<bool> {
        let path = root.join(name);
        let new = sha256(content);
        let last = self.written.get(name).cloned().unwrap_or_default();
        let found = match std::fs::read(&path) {
            Ok(found) => Some(sha256(&found)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => return Err(Error::io(&path)(e)),
        };
        match found {
            Some(found) if found == new => return Ok(true),
            Some(found) if !last.contains(&found) => return Ok(false),
            _ => {}
        }
        // noted before it is written: after a kill in between either content is ours
        self.written.insert(name.into(), found.into_iter().chain([new]).collect());
        self.keep(root)?;
        files::write_atomic(path, content)?;
        Ok(true)
    }

    /// A marker for a run that was made before there were markers: some folder has a stage's manifest, none that is named as a
    /// stage lacks one.
    fn of_unmarked_run(root: &Path) -> Result<Option<Marker>> {
        let mut found = false;
        for stage in STAGES {
            let folder = root.join(stage.name());
            match Manifest::read(&folder) {
                Ok(Some(manifest)) if manifest.stage == *stage => found = true,
                Ok(None) if !folder.exists() => {}
                Ok(_) | Err(Error::RunDirectory { .. }) => return Ok(None),
                Err(e) => return Err(e),
            }
        }
        let mut marker = Marker::new();
        for name in PUBLISHED {
            if let Ok(content) = std::fs::read(root.join(name))
                && was_published(root, name, &content)
            {
                marker.written.insert(name.into(), vec![sha256(&content)]);
            }
        }
        Ok(found.then_some(marker))
    }
}

/// Whether an unmarked run wrote this file: a configuration without comments that has every table, a report that names us.
fn was_published(root: &Path, name: &str, content: &[u8]) -> bool {
    let text = String::from_utf8_lossy(content);
    match name {
        "config.toml" => {
            let table: std::result::Result<toml::Table, _> = text.parse();
            let whole = |t: toml::Table| STAGES.iter().all(|s| t.contains_key(s.name())) && t.contains_key("prompt");
            !text.lines().any(|line| line.trim_start().starts_with('#')) && table.is_ok_and(whole)
        }
        "report.json" => serde_json::from_str(&text).is_ok_and(|report: Value| report["versions"]["gr2"].is_string()),
        _ => {
            std::fs::read(root.join("report.json")).is_ok_and(|json| was_published(root, "report.json", &json))
                && text.contains("<svg")
        }
    }
}

/// The name of something in `root` that no start of ours left there.
fn foreign_entry(root: &Path) -> Result<Option<String>> {
    for entry in std::fs::read_dir(root).map_err(Error::io(root))? {
        let entry = entry.map_err(Error::io(root))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // a start that was killed leaves a file
        let left = files::is_temporary(&name) && entry.file_type().is_ok_and(|kind| kind.is_file());
        if name != LOCK && !left {
            return Ok(Some(name));
        }
    }
    Ok(None)
}
