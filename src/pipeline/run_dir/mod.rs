//! A run directory: one folder per stage, each with a manifest that says what it was made from.
//!
//! Nothing that this program did not write is renamed, replaced or deleted: a directory is ours by its marker, a stage's folder by
//! its manifest, a published file by its checksum. Nothing that it did write is deleted but by `gr2 clean`: results of other
//! settings are kept beside the current ones.

mod checks;
mod kept;
mod lock;
mod manifest;
mod marker;

pub use kept::Kept;

use super::{RunConfig, STAGES, Stage, key};
use crate::checksum::sha256;
use crate::console::say;
use crate::error::{Error, Result};
use crate::files;
use lock::Lock;
use manifest::Manifest;
use marker::Marker;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// The directory of a run, locked against other processes for as long as this value or a clone of it lives.
#[derive(Debug, Clone)]
pub struct RunDir {
    root: PathBuf,
    /// Results whose checksums were right: folders of stages with their keys.
    intact: Arc<Mutex<BTreeSet<(Stage, String)>>>,
    _lock: Option<Arc<Lock>>,
}

impl RunDir {
    /// Opens or makes the directory, and removes what a killed run left half written.
    ///
    /// Errors: `RunDirectory` if it is not empty and not ours, if a stage's folder is not ours, or if another process works in it;
    /// `Io`.
    pub fn open(root: &Path) -> Result<RunDir> {
        if root.exists() && !root.is_dir() {
            let hint = Some("name a folder with --out".into());
            return Err(Error::RunDirectory { path: root.into(), problem: "is a file".into(), hint });
        }
        std::fs::create_dir_all(root).map_err(Error::io(root))?;
        Marker::find(root)?;
        let lock = Lock::take(root)?;
        Marker::find(root)?.keep(root)?;
        // what is being replaced has its manifest, so that a user's folder of that name is none
        let replaced = |stage: &&Stage| {
            let aside = root.join(format!("{}{}", files::REPLACED, stage.name()));
            Manifest::read(&aside).is_ok_and(|found| found.is_some_and(|m| m.stage == **stage))
        };
        let replaced: Vec<&str> = STAGES.iter().filter(replaced).map(|stage| stage.name()).collect();
        for &stage in STAGES {
            let folder = root.join(stage.name());
            refuse_link(&folder)?;
            if folder.is_dir() && own_manifest(&folder, stage)?.is_some() {
                files::sweep(&folder, stage.writes())?;
            }
        }
        files::sweep(root, &replaced)?;
        for kept in kept::list(root)? {
            files::sweep(&kept.path, kept.stage.writes())?;
        }
        Ok(RunDir { root: root.into(), intact: Default::default(), _lock: Some(Arc::new(lock)) })
    }

    /// The directory as it is, to be looked at: nothing is made and nothing is locked.
    pub fn at(root: &Path) -> RunDir {
        RunDir { root: root.into(), intact: Default::default(), _lock: None }
    }

    /// Whether the result of a stage is there and made from this configuration.
    ///
    /// Errors: as [`RunDir::make`], other than for a missing input.
    pub(super) fn is_made(&self, stage: Stage, config: &RunConfig) -> Result<bool> {
        for &input in stage.inputs() {
            if self.finished(input)?.is_none() {
                return Ok(false);
            }
        }
        let Some(found) = self.finished(stage)? else { return Ok(false) };
        Ok(self.key(stage, config)? == found.key)
    }

    /// The run's own directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Folder of a stage.
    pub fn stage(&self, stage: Stage) -> PathBuf {
        self.root.join(stage.name())
    }

    /// Results that are kept beside the current ones.
    ///
    /// Errors: `Io`.
    pub fn kept(&self) -> Result<Vec<Kept>> {
        kept::list(&self.root)
    }

    /// Runs `body` in the stage's folder unless its result is there already. A folder made from other inputs is kept beside, and
    /// put back when its settings are wanted again.
    ///
    /// Errors: `Run` if an input is missing or was altered; `RunDirectory` if the stage's folder is not ours; whatever `body`
    /// returns.
    pub fn make(
        &self,
        stage: Stage,
        config: &RunConfig,
        device: &str,
        body: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<()> {
        let name = stage.name();
        self.check_earlier(stage, config)?;
        self.check_outside(stage, config)?;
        let key = self.key(stage, config)?;
        let directory = self.stage(stage);
        let current = own_manifest(&directory, stage)?;
        let damage = match &current {
            Some(found) if found.finished && found.key == key => match self.damage(found)? {
                None => {
                    say!("{name}: nothing changed, kept");
                    return Ok(());
                }
                damage => damage,
            },
            _ => None,
        };
        let aside = current.as_ref().filter(|found| found.key != key || damage.is_some());
        let before = match aside.is_some() || current.is_none() {
            true => kept::find(&self.root, stage, &key)?,
            false => None,
        };
        // what is there stays until it is sure that something can take its place
        if !before.as_ref().is_some_and(|(_, manifest)| manifest.finished) {
            self.check_inputs(stage, config)?;
        }
        let aside = match aside {
            Some(found) => Some(self.set_aside(found, damage)?),
            None => None,
        };
        let found = match before {
            Some((path, manifest)) => {
                kept::restore(&self.root, stage, &path)?;
                say!("{name}: made before with these settings, put back");
                if manifest.finished {
                    self.note_intact(&manifest);
                    return Ok(());
                }
                Some(manifest)
            }
            None => current.filter(|_| aside.is_none()),
        };
        if found.is_some() {
            say!("{name}: continuing");
        }
        let manifest = Manifest {
            stage,
            key,
            config: key::part(&config.masked(), stage)?,
            deciding: key::deciding_part(&config.masked(), stage)?,
            inputs: self.input_keys(stage)?,
            seed: config.seed,
            device: device.into(),
            finished: false,
            seconds: found.map_or(0.0, |unfinished| unfinished.seconds),
            files: Default::default(),
        };
        let result = self.work(manifest, body);
        if result.is_err()
            && let Err(e) = self.undo(stage, aside)
        {
            tracing::warn!("{name}: {e}");
        }
        result
    }

    /// Keeps the folder of a stage beside the current results, and says why.
    fn set_aside(&self, found: &Manifest, damage: Option<String>) -> Result<PathBuf> {
        let stage = found.stage;
        let added = found.added(&self.stage(stage))?;
        let kept = kept::park(&self.root, stage, &found.key)?;
        let (name, place) = (stage.name(), kept.display());
        match damage {
            Some(damage) => say!("{name}: {damage}; made again (what was there is in {place})"),
            None => say!("{name}: made from other inputs or settings, which is kept in {place}"),
        }
        if !added.is_empty() {
            say!("{name}: {} went there too: gr2 did not write it, and it was in the folder", added.join(", "));
        }
        Ok(kept)
    }

    /// Where a stage failed before it wrote anything, puts back what was set aside for it.
    fn undo(&self, stage: Stage, aside: Option<PathBuf>) -> Result<()> {
        let folder = self.stage(stage);
        if folder.exists() {
            for entry in std::fs::read_dir(&folder).map_err(Error::io(&folder))? {
                if entry.map_err(Error::io(&folder))?.file_name() != manifest::MANIFEST {
                    return Ok(());
                }
            }
            std::fs::remove_dir_all(&folder).map_err(Error::io(&folder))?;
        }
        if let Some(aside) = aside {
            kept::restore(&self.root, stage, &aside)?;
            say!("{}: what was set aside is back", stage.name());
        }
        Ok(())
    }

    /// Runs `body` and notes in the manifest how long it took and how it ended.
    fn work(&self, mut manifest: Manifest, body: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let directory = self.stage(manifest.stage);
        match directory.exists() {
            true => manifest.write(&directory)?,
            // with its manifest from the first moment on
            false => files::replace_directory(&directory, |fresh| manifest.write(fresh))?,
        }
        let started = Instant::now();
        let result = body(&directory);
        manifest.seconds += started.elapsed().as_secs_f64();
        let result = result.and_then(|()| manifest.finish(&directory));
        manifest.write(&directory)?;
        if result.is_ok() {
            self.note_intact(&manifest);
        }
        result
    }

    /// Writes `content` into the file `name` of the run directory, unless the one there was changed by someone else. Returns whether
    /// it is there.
    ///
    /// Errors: `Io`, `RunDirectory`.
    pub fn publish(&self, name: &str, content: &[u8]) -> Result<bool> {
        let published = Marker::find(&self.root)?.publish(&self.root, name, content)?;
        if !published {
            say!("{}: is not as gr2 wrote it and stays as it is", self.root.join(name).display());
        }
        Ok(published)
    }

    /// Wall seconds of every finished stage.
    ///
    /// Errors: `Io`, `RunDirectory`.
    pub fn seconds(&self) -> Result<Vec<(Stage, f64)>> {
        let mut found = vec![];
        for &stage in STAGES {
            if let Some(manifest) = self.finished(stage)? {
                found.push((stage, manifest.seconds));
            }
        }
        Ok(found)
    }

    /// Hash of everything that decides the result of a stage.
    fn key(&self, stage: Stage, config: &RunConfig) -> Result<String> {
        let keys = self.input_keys(stage)?;
        let inputs: Vec<&str> = stage.inputs().iter().map(|input| keys[input].as_str()).collect();
        Ok(sha256(key::deciding_text(config, stage, &inputs)?))
    }

    fn input_keys(&self, stage: Stage) -> Result<BTreeMap<Stage, String>> {
        stage.inputs().iter().map(|&input| Ok((input, self.input(stage, input)?.key))).collect()
    }

    /// The finished result of a stage, if it is there.
    fn finished(&self, stage: Stage) -> Result<Option<Manifest>> {
        Ok(own_manifest(&self.stage(stage), stage)?.filter(|found| found.finished))
    }

    /// The finished result of `input` that `stage` needs.
    fn input(&self, stage: Stage, input: Stage) -> Result<Manifest> {
        self.finished(input)?.ok_or_else(|| Error::Run {
            stage: stage.name().into(),
            problem: format!("needs the result of `{}`, which is not in {}", input.name(), self.root.display()),
            hint: Some(format!("run `gr2 {} CONFIG --out {}` first", input.name(), self.root.display())),
        })
    }
}

/// Errors: `RunDirectory` for a stage's folder that is a link into another run, where another process may be at work.
fn refuse_link(folder: &Path) -> Result<()> {
    let Some(target) = folder.is_symlink().then(|| folder.canonicalize().ok()).flatten() else { return Ok(()) };
    if !target.parent().is_some_and(|parent| parent.join(marker::MARKER).exists()) {
        return Ok(());
    }
    let problem = format!("is a link into another run, to {}", target.display());
    let hint = Some("copy that folder here in place of the link".into());
    Err(Error::RunDirectory { path: folder.into(), problem, hint })
}

/// The manifest of a stage's folder; `None` if there is no folder, or an empty one.
///
/// Errors: `RunDirectory` if the folder is not ours.
fn own_manifest(folder: &Path, stage: Stage) -> Result<Option<Manifest>> {
    let refuse = |problem: String| {
        let hint = "move it elsewhere or, if nothing in it is needed, delete it; or name another folder with --out";
        Err(Error::RunDirectory { path: folder.into(), problem, hint: Some(hint.into()) })
    };
    match Manifest::read(folder)? {
        Some(manifest) if manifest.stage == stage => Ok(Some(manifest)),
        Some(other) => refuse(format!("holds the result of `{}`", other.stage.name())),
        None if is_empty(folder)? => Ok(None),
        None => refuse(format!("is no result of gr2: it has no {}", manifest::MANIFEST)),
    }
}

/// Whether there is no such folder, or nothing in it.
fn is_empty(folder: &Path) -> Result<bool> {
    match std::fs::read_dir(folder) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(true),
        Err(e) => Err(Error::io(folder)(e)),
    }
}
