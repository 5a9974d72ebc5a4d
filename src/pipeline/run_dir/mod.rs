//! A run directory: one folder per stage, each with a manifest that says what it was made from.
//!
//! Nothing that this program did not write is renamed, replaced or deleted: a directory is ours by its marker, a stage's folder by
//! its manifest, a published file by its checksum. Nothing that it did write is deleted but by `gr2 clean`: results of other
//! settings are kept beside the current ones.

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
use std::collections::BTreeSet;
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
        files::sweep(root)?;
        for &stage in STAGES {
            let folder = root.join(stage.name());
            if folder.is_dir() {
                files::sweep(&folder)?;
                own_manifest(&folder, stage)?;
            }
        }
        for kept in kept::list(root)? {
            files::sweep(&kept.path)?;
        }
        Ok(RunDir { root: root.into(), intact: Default::default(), _lock: Some(Arc::new(lock)) })
    }

    /// The directory as it is, to be looked at: nothing is made and nothing is locked.
    pub(super) fn at(root: &Path) -> RunDir {
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
        let key = self.key(stage, config)?;
        let directory = self.stage(stage);
        let mut found = own_manifest(&directory, stage)?;
        if let Some(other) = found.take_if(|found| found.key != key) {
            let kept = kept::park(&self.root, stage, &other.key)?;
            say!("{name}: made from other inputs, which is kept in {}", kept.display());
        }
        if found.is_none() {
            found = kept::restore(&self.root, stage, &key)?;
            if let Some(intact) = &found {
                say!("{name}: made before with these settings, put back");
                self.note_intact(intact);
            }
        }
        if let Some(finished) = found.take_if(|found| found.finished) {
            let Some(damage) = self.damage(&finished)? else {
                say!("{name}: nothing changed, kept");
                return Ok(());
            };
            let kept = kept::park(&self.root, stage, &finished.key)?;
            say!("{name}: {damage}; made again (what was there is in {})", kept.display());
        }
        self.check_inputs(stage, config)?;
        if found.is_some() {
            say!("{name}: continuing");
        }
        let manifest = Manifest {
            stage,
            key,
            config: key::part(&config.masked(), stage)?,
            seed: config.seed,
            device: device.into(),
            finished: false,
            seconds: found.map_or(0.0, |unfinished| unfinished.seconds),
            files: Default::default(),
        };
        self.work(manifest, body)
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

    /// Writes `content` into the file `name` of the run directory, unless the one there was changed by someone else.
    ///
    /// Errors: `Io`, `RunDirectory`.
    pub fn publish(&self, name: &str, content: &[u8]) -> Result<()> {
        if !Marker::find(&self.root)?.publish(&self.root, name, content)? {
            say!("{}: is not as gr2 wrote it and stays as it is", self.root.join(name).display());
        }
        Ok(())
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
        let inputs = stage.inputs().iter().map(|&input| Ok(self.input(stage, input)?.key));
        let inputs = inputs.collect::<Result<Vec<String>>>()?;
        Ok(sha256(key::deciding_text(config, stage, &inputs)?))
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

    /// Errors: `Run` for an input whose files are not as its stage wrote them.
    fn check_inputs(&self, stage: Stage, config: &RunConfig) -> Result<()> {
        let refuse = |input: Stage, problem: String| Error::Run {
            stage: stage.name().into(),
            problem: format!("{}: {problem}", self.stage(input).display()),
            hint: Some(format!("rerun `gr2 {}`, which makes it again, or put back what it wrote", input.name())),
        };
        for &input in stage.inputs() {
            let manifest = self.input(stage, input)?;
            if let Some(damage) = self.damage(&manifest)? {
                return Err(refuse(input, damage));
            }
            // what follows reads that checkpoint in place, not a copy
            let outside = input == Stage::Base && stage == Stage::Midtrain && config.base.path.is_some();
            if outside && self.key(input, config)? != manifest.key {
                return Err(refuse(input, "is of another checkpoint than base.path is now".into()));
            }
        }
        Ok(())
    }

    /// What is wrong with the files of a finished result, if anything; looked at once.
    fn damage(&self, manifest: &Manifest) -> Result<Option<String>> {
        let id = (manifest.stage, manifest.key.clone());
        if self.intact.lock().is_ok_and(|intact| intact.contains(&id)) {
            return Ok(None);
        }
        let damage = manifest.damage(&self.stage(manifest.stage))?;
        if damage.is_none() {
            self.note_intact(manifest);
        }
        Ok(damage)
    }

    fn note_intact(&self, manifest: &Manifest) {
        if let Ok(mut intact) = self.intact.lock() {
            intact.insert((manifest.stage, manifest.key.clone()));
        }
    }
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
