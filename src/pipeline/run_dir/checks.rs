//! What must hold before a stage is made: settings, inputs and files are what they are said to be.

use super::super::{RunConfig, Stage, key};
use super::RunDir;
use super::manifest::{MANIFEST, Manifest};
use crate::error::{Error, Result};

/// Settings that a message names at most.
const SHOWN: usize = 4;

impl RunDir {
    /// Errors: `Run` where an earlier stage was made with other settings than `config` has, or from another result than is there now:
    /// what this stage makes would not be what it says.
    pub(super) fn check_earlier(&self, stage: Stage, config: &RunConfig) -> Result<()> {
        let masked = config.masked();
        for earlier in stage.earlier() {
            let Some(made) = self.finished(earlier)? else { continue };
            let (root, name) = (self.root.display(), earlier.name());
            let refuse = |problem: String, hint: String| {
                let problem = format!("`{name}` in {root} was made {problem}");
                let hint = Some(format!("`gr2 run` makes all that follows from a change; {hint}"));
                Err(Error::Run { stage: stage.name().into(), problem, hint })
            };
            for (&input, key) in &made.inputs {
                if self.finished(input)?.is_some_and(|found| found.key != *key) {
                    let problem = format!("from another result of `{}` than is there now", input.name());
                    return refuse(problem, format!("`gr2 {name}` makes this stage"));
                }
            }
            // earlier versions did not note what decides; one stage may be made with several seeds from the same inputs
            if !made.deciding.is_null() && made.deciding != key::deciding_part(&masked, earlier)? {
                let mut found = key::differences(earlier, &made.config, &key::part(&masked, earlier)?);
                let more = found.len().saturating_sub(SHOWN);
                found.truncate(SHOWN);
                let more = if more > 0 { format!(", and {more} more") } else { String::new() };
                return refuse(
                    format!("with other settings: {}{more}", found.join(", ")),
                    format!(
                        "`gr2 {name}` makes this stage; {root}/{name}/{MANIFEST} has the settings it was made with"
                    ),
                );
            }
        }
        Ok(())
    }

    /// Errors: `Run` where a stage is to read from the folder that it makes.
    pub(super) fn check_outside(&self, stage: Stage, config: &RunConfig) -> Result<()> {
        let Ok(own) = self.stage(stage).canonicalize() else { return Ok(()) };
        for path in key::outside_files(config, stage)? {
            if path.canonicalize().is_ok_and(|path| path.starts_with(&own)) {
                return Err(Error::Run {
                    stage: stage.name().into(),
                    problem: format!("{} lies in the folder that this stage makes", path.display()),
                    hint: Some("name a copy of it outside, or another run directory with --out".into()),
                });
            }
        }
        Ok(())
    }

    /// Errors: `Run` for an input whose files are not as its stage wrote them.
    pub(super) fn check_inputs(&self, stage: Stage, config: &RunConfig) -> Result<()> {
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
    pub(super) fn damage(&self, manifest: &Manifest) -> Result<Option<String>> {
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

    pub(super) fn note_intact(&self, manifest: &Manifest) {
        if let Ok(mut intact) = self.intact.lock() {
            intact.insert((manifest.stage, manifest.key.clone()));
        }
    }
}
