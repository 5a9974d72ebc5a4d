//! A run directory: one folder per stage, each with a manifest that says what it was made from.

use super::RunConfig;
use crate::error::{Error, Result};
use crate::files;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// A stage, in the order they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Imports items and histories.
    Data,
    /// Gives items semantic ids.
    Sid,
    /// Trains or takes a base model.
    Base,
    /// Teaches it semantic ids and the catalogue.
    Midtrain,
    /// Draws up the slates to re-rank.
    Slates,
    /// Collects reasoning traces.
    Traces,
    /// Fine-tunes on the traces.
    Sft,
    /// Reinforces with verifiable rewards.
    Dapo,
    /// Measures and reports.
    Eval,
}

impl Stage {
    /// Its name on the command line and in the run directory.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Data => "data",
            Stage::Sid => "sid",
            Stage::Base => "base",
            Stage::Midtrain => "midtrain",
            Stage::Slates => "slates",
            Stage::Traces => "traces",
            Stage::Sft => "sft",
            Stage::Dapo => "dapo",
            Stage::Eval => "eval",
        }
    }

    /// The stages whose results it reads.
    pub fn inputs(self) -> &'static [Stage] {
        match self {
            Stage::Data => &[],
            Stage::Sid | Stage::Base => &[Stage::Data],
            Stage::Midtrain => &[Stage::Data, Stage::Sid, Stage::Base],
            Stage::Slates => &[Stage::Data, Stage::Sid, Stage::Midtrain],
            Stage::Traces => &[Stage::Data, Stage::Sid, Stage::Midtrain, Stage::Slates],
            Stage::Sft => &[Stage::Midtrain, Stage::Traces],
            Stage::Dapo => &[Stage::Sft, Stage::Slates],
            Stage::Eval => {
                &[Stage::Data, Stage::Sid, Stage::Midtrain, Stage::Slates, Stage::Traces, Stage::Sft, Stage::Dapo]
            }
        }
    }
}

/// What a stage was made from. Equal keys mean equal results on the same device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Manifest {
    stage: Stage,
    /// Hash of the stage's configuration, the seed, the program's version and the keys of its inputs.
    key: String,
    /// The stage's part of the configuration.
    config: Value,
    seed: u64,
    /// Device the stage ran on.
    device: String,
    /// False while the stage is being made.
    finished: bool,
    /// Wall seconds, over all resumptions.
    seconds: f64,
}

/// The directory of a run.
#[derive(Debug, Clone)]
pub struct RunDir {
    root: PathBuf,
}

impl RunDir {
    /// Opens or makes the directory.
    pub fn open(root: &Path) -> Result<RunDir> {
        std::fs::create_dir_all(root).map_err(Error::io(root))?;
        Ok(RunDir { root: root.into() })
    }

    /// The run's own directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Folder of a stage.
    pub fn stage(&self, stage: Stage) -> PathBuf {
        self.root.join(stage.name())
    }

    /// Runs `body` in the stage's folder unless its result is there already. A folder made from other inputs is moved
    /// aside to `<stage>.previous`.
    ///
    /// Errors: `Run` if an input is missing; whatever `body` returns.
    pub fn make(
        &self,
        stage: Stage,
        config: &RunConfig,
        device: &str,
        body: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<()> {
        let (key, own) = self.key(stage, config)?;
        let directory = self.stage(stage);
        let mut seconds = 0.0;
        match self.manifest(stage)? {
            Some(found) if found.key == key && found.finished => {
                eprintln!("{}: nothing changed, kept", stage.name());
                return Ok(());
            }
            Some(found) if found.key == key => {
                seconds = found.seconds;
                eprintln!("{}: continuing", stage.name());
            }
            found => {
                if found.is_some() {
                    eprintln!("{}: made from other inputs, redone (the old one is in {0}.previous)", stage.name());
                }
                self.move_aside(stage)?;
            }
        }
        std::fs::create_dir_all(&directory).map_err(Error::io(&directory))?;
        let mut manifest =
            Manifest { stage, key, config: own, seed: config.seed, device: device.into(), finished: false, seconds };
        let started = std::time::Instant::now();
        self.write(&manifest)?;
        let result = body(&directory);
        manifest.seconds += started.elapsed().as_secs_f64();
        manifest.finished = result.is_ok();
        self.write(&manifest)?;
        result
    }

    /// Wall seconds of every finished stage.
    pub fn seconds(&self) -> Result<Vec<(Stage, f64)>> {
        let mut found = vec![];
        for &stage in super::STAGES {
            if let Some(manifest) = self.manifest(stage)?.filter(|m| m.finished) {
                found.push((stage, manifest.seconds));
            }
        }
        Ok(found)
    }

    fn write(&self, manifest: &Manifest) -> Result<()> {
        let path = self.stage(manifest.stage).join("manifest.json");
        files::write_atomic(path, serde_json::to_string_pretty(manifest).expect("invariant: a manifest serialises"))
    }

    fn manifest(&self, stage: Stage) -> Result<Option<Manifest>> {
        let path = self.stage(stage).join("manifest.json");
        if !path.exists() {
            return Ok(None);
        }
        let text = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
        let parsed = serde_json::from_str(&text).map_err(|e| Error::Run {
            stage: stage.name().into(),
            problem: format!("{}: {e}", path.display()),
            hint: Some("delete the stage's folder to make it anew".into()),
        })?;
        Ok(Some(parsed))
    }

    /// Hash of everything the stage depends on, with its part of the configuration.
    fn key(&self, stage: Stage, config: &RunConfig) -> Result<(String, Value)> {
        let own = config.part(stage)?;
        let mut hash = Sha256::new();
        hash.update(format!("{}\n{}\n{}\n{own}\n", stage.name(), env!("CARGO_PKG_VERSION"), config.seed));
        for path in config.files(stage)? {
            hash_file(&path, &mut hash)?;
        }
        for &input in stage.inputs() {
            let found = self.manifest(input)?.filter(|m| m.finished).ok_or_else(|| Error::Run {
                stage: stage.name().into(),
                problem: format!("needs the result of `{}`, which is not in {}", input.name(), self.root.display()),
                hint: Some(format!("run `gr2 {} CONFIG --out {}` first", input.name(), self.root.display())),
            })?;
            hash.update(found.key);
        }
        Ok((hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect(), own))
    }

    fn move_aside(&self, stage: Stage) -> Result<()> {
        let directory = self.stage(stage);
        if !directory.exists() {
            return Ok(());
        }
        let previous = self.root.join(format!("{}.previous", stage.name()));
        if previous.exists() {
            std::fs::remove_dir_all(&previous).map_err(Error::io(&previous))?;
        }
        std::fs::rename(&directory, &previous).map_err(Error::io(&directory))
    }
}

/// Adds a file's contents to the hash.
fn hash_file(path: &Path, hash: &mut Sha256) -> Result<()> {
    use std::io::Read;
    let mut file = std::fs::File::open(path).map_err(Error::io(path))?;
    let mut piece = vec![0; 1 << 20];
    loop {
        match file.read(&mut piece).map_err(Error::io(path))? {
            0 => return Ok(()),
            n => hash.update(&piece[..n]),
        }
    }
}
