//! The key of a stage: a hash of what can change its result, and of nothing else.
//!
//! It covers the deciding part of the stage's configuration, the seed, the program's version, the contents of the files outside
//! the run directory that the stage reads, and the keys of its inputs. It does not cover how long, how often, how many at a time,
//! at what price, where or on which device: such settings may change without making anything again.

use super::stages::{Embedding, SlateSource, TeacherChoice};
use super::{RunConfig, Stage};
use crate::checksum::{Checksum, sha256};
use crate::error::{Error, Result};
use serde_json::{Map, Value, json};
use std::path::PathBuf;

/// Settings of a training loop that its result does not depend on.
const LOOP: [&str; 3] = ["checkpoint_seconds", "max_skipped", "gradient_checkpointing"];

/// Everything that decides the result of `stage`, as text to be hashed; `inputs` are the keys of its inputs.
///
/// Errors: `Io`, `Data` and `Config` for the files it reads; `Interrupted`.
pub(super) fn deciding_text(config: &RunConfig, stage: Stage, inputs: &[&str]) -> Result<String> {
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
pub(super) fn deciding_part(config: &RunConfig, stage: Stage) -> Result<Value> {
    let mut part = part(config, stage)?;
    match stage {
        Stage::Data => without(&mut part, &["dir", "prefix", "reviews", "metadata"]),
        // ids made elsewhere are taken as they are
        Stage::Sid if config.sid.index.is_some() => part = json!("index"),
        Stage::Sid => {
            // the run's seed stands in for it
            without(&mut part["svd"], &["seed"]);
            match &config.sid.embedding {
                Embedding::Tfidf => {}
                Embedding::Model(_) => part["embedding"] = json!("model"),
                Embedding::File(_) => part["embedding"] = json!("file"),
            }
        }
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

/// Settings that differ between two of a stage's parts, each with its two values.
pub(super) fn differences(stage: Stage, made: &Value, now: &Value) -> Vec<String> {
    fn collect(name: &str, made: &Value, now: &Value, found: &mut Vec<String>) {
        match (made, now) {
            (Value::Object(made), Value::Object(now)) => {
                for key in made.keys().chain(now.keys().filter(|key| !made.contains_key(*key))) {
                    let of = |table: &Map<String, Value>| table.get(key).cloned().unwrap_or_default();
                    collect(&format!("{name}.{key}"), &of(made), &of(now), found);
                }
            }
            _ if made == now => {}
            _ => found.push(format!("{name} was {made} and is now {now}")),
        }
    }
    let mut found = vec![];
    let tables: &[&str] = match stage {
        Stage::Base => &["base", "prompt", "slates.size"],
        Stage::Traces => &["traces", "prompt"],
        Stage::Eval => &["eval", "name"],
        one => {
            return {
                collect(one.name(), made, now, &mut found);
                found
            };
        }
    };
    for (at, table) in tables.iter().enumerate() {
        collect(table, &made[at], &now[at], &mut found);
    }
    found
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
pub(super) fn outside_files(config: &RunConfig, stage: Stage) -> Result<Vec<PathBuf>> {
    let roots: Vec<(&str, &PathBuf)> = match stage {
        Stage::Data => return config.data.inputs(),
        Stage::Sid if config.sid.index.is_some() => config.sid.index.iter().map(|path| ("sid.index", path)).collect(),
        Stage::Sid => match &config.sid.embedding {
            Embedding::Tfidf => vec![],
            Embedding::Model(path) | Embedding::File(path) => vec![("sid.embedding", path)],
        },
        Stage::Base => config.base.path.iter().map(|path| ("base.path", path)).collect(),
        Stage::Slates => match &config.slates.source {
            SlateSource::File { train, test } => vec![("slates.source", train), ("slates.source", test)],
            SlateSource::Model | SlateSource::Markov => vec![],
        },
        Stage::Traces if config.traces.teacher == TeacherChoice::Local => {
            vec![("traces.local.path", &config.traces.local.path)]
        }
        _ => vec![],
    };
    let mut files = vec![];
    for (setting, root) in roots {
        if !root.exists() {
            return Err(Error::not_there(setting, root));
        }
        if root.is_dir() {
            let entries = std::fs::read_dir(root).map_err(Error::io(root))?;
            let paths = entries.map(|entry| entry.map(|e| e.path())).collect::<std::io::Result<Vec<_>>>();
            let mut paths = paths.map_err(Error::io(root))?;
            let hidden = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
            paths.retain(|path| path.is_file() && !hidden(path));
            paths.sort();
            files.extend(paths);
        } else {
            files.push(root.into());
        }
    }
    Ok(files)
}
