//! The key of a stage: a hash of what can change its result, and of nothing else.
//!
//! It covers the deciding part of the stage's configuration, the seed, the program's version, the contents of the files outside
//! the run directory that the stage reads, and the keys of its inputs. It does not cover how long, how often, how many at a time,
//! at what price, where or on which device: such settings may change without making anything again.

use super::stages::{Embedding, SlateSource, TeacherChoice};
use super::{RunConfig, Stage};
use crate::checksum::{Checksum, sha256};
use crate::error::{Error, Result};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Settings of a training loop that its result does not depend on.
const LOOP: [&str; 3] = ["checkpoint_seconds", "max_skipped", "gradient_checkpointing"];

/// Everything that decides the result of `stage`, as text to be hashed; `inputs` are the keys of its inputs.
///
/// Errors: `Io`, `Data` and `Config` for the files it reads; `Interrupted`.
pub(super) fn deciding_text(config: &RunConfig, stage: Stage, inputs: &[String]) -> Result<String> {
    let files = outside_contents(config, stage)?;
    let own = deciding_part(config, stage)?;
    Ok(json!([stage.name(), env!("CARGO_PKG_VERSION"), config.seed, own, files, inputs]).to_string())
}

/// Hash of the files outside the run directory that a stage reads.
///
/// Errors: as [`deciding_text`].
pub(super) fn outside_hash(config: &RunConfig, stage: Stage) -> Result<String> {
    Ok(sha256(json!(outside_contents(config, stage)?).to_string()))
}

/// Name, size and hash of each of these files.
fn outside_contents(config: &RunConfig, stage: Stage) -> Result<Vec<Value>> {
    let contents = |path: PathBuf| {
        let Checksum { bytes, sha256 } = Checksum::remembered(&path)?;
        // the folder may move
        Ok(json!([path.file_name().map(|name| name.to_string_lossy()), bytes, sha256]))
    };
    outside_files(config, stage)?.into_iter().map(contents).collect()
}

/// The part of the configuration that a stage reads.
pub(super) fn part(config: &RunConfig, stage: Stage) -> Result<Value> {
    let part = match stage {
        Stage::Data => serde_json::to_value(&config.data),
        Stage::Sid => serde_json::to_value(&config.sid),
        // its tokenizer learns from prompts about slates
        Stage::Base => serde_json::to_value((&config.base, &config.prompt, config.slates.size)),
        Stage::Midtrain => serde_json::to_value(&config.midtrain),
        Stage::Slates => serde_json::to_value(&config.slates),
        Stage::Traces => serde_json::to_value((&config.traces, &config.prompt)),
        Stage::Sft => serde_json::to_value(&config.sft),
        Stage::Dapo => serde_json::to_value(&config.dapo),
        Stage::Eval => serde_json::to_value((&config.eval, &config.name)),
    };
    part.map_err(|e| Error::Config { field: stage.name().into(), problem: e.to_string(), hint: None })
}

/// [`part`] without the settings that cannot change the result, and without the paths of files whose contents are hashed.
fn deciding_part(config: &RunConfig, stage: Stage) -> Result<Value> {
    let mut part = part(config, stage)?;
    match stage {
        Stage::Data => without(&mut part, &["dir", "prefix", "reviews", "metadata"]),
        // ids made elsewhere are taken as they are
        Stage::Sid if config.sid.index.is_some() => part = json!("index"),
        Stage::Sid => match &config.sid.embedding {
            Embedding::Tfidf => {}
            Embedding::Model(_) => part["embedding"] = json!("model"),
            Embedding::File(_) => part["embedding"] = json!("file"),
        },
        Stage::Base if config.base.path.is_some() => part = json!("path"),
        Stage::Base => without(&mut part[0]["train"], &LOOP),
        Stage::Midtrain | Stage::Sft => without(&mut part["train"], &LOOP),
        Stage::Slates => {
            if matches!(config.slates.source, SlateSource::File { .. }) {
                part["source"] = json!("file");
            }
        }
        Stage::Traces => part = json!([config.traces.deciding(), config.prompt]),
        Stage::Dapo => without(&mut part, &LOOP),
        Stage::Eval => {}
    }
    Ok(part)
}

fn without(table: &mut Value, keys: &[&str]) {
    if let Some(table) = table.as_object_mut() {
        table.retain(|key, _| !keys.contains(&key.as_str()));
    }
}

/// Files outside the run directory that a stage reads, in the order of their roles; a checkpoint directory stands for all its
/// files, in the order of their names.
///
/// Errors: `Io`, `Data`, `Config`.
fn outside_files(config: &RunConfig, stage: Stage) -> Result<Vec<PathBuf>> {
    let roots: Vec<&Path> = match stage {
        Stage::Data => return config.data.inputs(),
        Stage::Sid if config.sid.index.is_some() => config.sid.index.iter().map(PathBuf::as_path).collect(),
        Stage::Sid => match &config.sid.embedding {
            Embedding::Tfidf => vec![],
            Embedding::Model(path) | Embedding::File(path) => vec![path],
        },
        Stage::Base => config.base.path.iter().map(PathBuf::as_path).collect(),
        Stage::Slates => match &config.slates.source {
            SlateSource::File { train, test } => vec![train, test],
            SlateSource::Model | SlateSource::Markov => vec![],
        },
        Stage::Traces if config.traces.teacher == TeacherChoice::Local => vec![&config.traces.local.path],
        _ => vec![],
    };
    let mut files = vec![];
    for root in roots {
        if root.is_dir() {
            let entries = std::fs::read_dir(root).map_err(Error::io(root))?;
            let paths = entries.map(|entry| entry.map(|e| e.path())).collect::<std::io::Result<Vec<_>>>();
            let mut paths = paths.map_err(Error::io(root))?;
            paths.retain(|path| path.is_file());
            paths.sort();
            files.extend(paths);
        } else {
            files.push(root.into());
        }
    }
    Ok(files)
}
