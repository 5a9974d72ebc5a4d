//! Checkpoints of a run: a Hugging Face directory with `train_state.safetensors` beside the weights, replaced as a
//! whole so that a kill leaves the old or the new one.

use crate::error::{Error, Result};
use crate::files;
use crate::model::{self, Qwen3};
use crate::optim::{LossScale, Optimizer};
use crate::tensor::Tensor;
use crate::text::Tokenizer;
use memmap2::Mmap;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

const STATE: &str = "train_state.safetensors";

/// The entry of its header that is no tensor.
const PROGRESS: &str = "progress";

/// Bytes of one weight file.
const SHARD_BYTES: usize = 5 << 30;

/// Where a run stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Cursor {
    /// Passes over the examples that are complete.
    pub epoch: u64,
    /// Examples of this pass that are done.
    pub position: usize,
    /// Updates made or skipped.
    pub step: u64,
    /// What a stage adds of its own.
    #[serde(default)]
    pub extra: Value,
}

/// What the training state holds beside tensors.
#[derive(Serialize, Deserialize)]
struct Progress {
    cursor: Cursor,
    /// Updates the optimiser has made.
    updates: u64,
    /// Its loss scale.
    #[serde(default)]
    loss_scale: Option<LossScale>,
}

/// Everything a run needs to go on.
pub struct Snapshot<'a> {
    /// The model.
    pub model: &'a Qwen3,
    /// Its tokenizer, saved beside it.
    pub tokenizer: &'a Tokenizer,
    /// The optimiser, absent from a finished stage's model.
    pub optimizer: Option<&'a Optimizer>,
    /// Where the run stands.
    pub cursor: &'a Cursor,
}

/// Writes a checkpoint at `directory`, replacing the one there.
///
/// Errors: `Io`, `Kernel`; the old checkpoint is then untouched.
pub fn save(snapshot: &Snapshot, directory: &Path) -> Result<()> {
    files::replace_directory(directory, |fresh| {
        model::save_weights(snapshot.model, fresh, SHARD_BYTES)?;
        snapshot.tokenizer.save(fresh)?;
        match snapshot.optimizer {
            Some(optimizer) => save_state(snapshot, optimizer, &fresh.join(STATE)),
            None => Ok(()),
        }
    })
}

fn save_state(snapshot: &Snapshot, optimizer: &Optimizer, path: &Path) -> Result<()> {
    let mut values = vec![];
    for (param, (m, v)) in snapshot.model.params().iter().zip(optimizer.moments()) {
        for (letter, moment) in [("m", m), ("v", v)] {
            values.push((format!("{letter}.{}", param.name), moment.to_vec::<f32>()?, moment.shape().to_vec()));
        }
    }
    let views: Vec<(&str, TensorView)> = values
        .iter()
        .map(|(name, data, shape)| {
            let view = TensorView::new(Dtype::F32, shape.clone(), bytemuck::cast_slice(data));
            Ok((name.as_str(), view.map_err(|e| damaged(path, e))?))
        })
        .collect::<Result<_>>()?;
    let progress = Progress {
        cursor: snapshot.cursor.clone(),
        updates: optimizer.updates(),
        loss_scale: Some(optimizer.loss_scale()),
    };
    let progress = serde_json::to_string(&progress).map_err(|e| damaged(path, e))?;
    // one key, as the order of several would differ from run to run
    let metadata = HashMap::from([(PROGRESS.into(), progress)]);
    safetensors::serialize_to_file(views, Some(metadata), path).map_err(|e| damaged(path, e))
}

/// Puts the checkpoint at `directory` back into `model` and `optimizer`; `None` if there is none.
///
/// Errors: `Weights` if the checkpoint is damaged or of another model.
pub fn restore(directory: &Path, model: &mut Qwen3, optimizer: &mut Optimizer) -> Result<Option<Cursor>> {
    files::recover_directory(directory)?;
    let path = directory.join(STATE);
    if !path.exists() {
        return Ok(None);
    }
    let saved = model::load(directory, model.device())?;
    if saved.config() != model.config() {
        let problem = "the checkpoint's config differs from this run's".to_string();
        return Err(Error::Weights { path: directory.into(), tensor: "config.json".into(), problem });
    }
    let file = File::open(&path).map_err(Error::io(&path))?;
    // SAFETY: checkpoints are replaced by rename, never changed in place, and the map is only read.
    let map = unsafe { Mmap::map(&file) }.map_err(Error::io(&path))?;
    let tensors = SafeTensors::deserialize(&map).map_err(|e| damaged(&path, e))?;
    let (_, header) = SafeTensors::read_metadata(&map).map_err(|e| damaged(&path, e))?;
    let noted = header.metadata().as_ref().and_then(|m| m.get(PROGRESS));
    let noted = noted.ok_or_else(|| damaged(&path, format!("no {PROGRESS}")))?;
    let progress: Progress = serde_json::from_str(noted).map_err(|e| damaged(&path, e))?;

    let mut moments = vec![];
    for param in model.params() {
        let read = |letter: &str| -> Result<Tensor> {
            let view = tensors.tensor(&format!("{letter}.{}", param.name)).map_err(|e| damaged(&path, e))?;
            let values: Vec<f32> = bytemuck::pod_collect_to_vec(view.data());
            Tensor::from_slice(model.device(), &values, param.value.shape().clone())
        };
        moments.push((read("m")?, read("v")?));
    }
    optimizer.restore(moments, progress.updates, progress.loss_scale);
    for (param, saved) in model.params_mut().into_iter().zip(saved.params()) {
        param.value = saved.value.clone();
    }
    Ok(Some(progress.cursor))
}

fn damaged(path: &Path, error: impl std::fmt::Display) -> Error {
    let problem = format!("damaged: {error}; delete this checkpoint to begin the stage anew");
    Error::Weights { path: path.into(), tensor: "training state".into(), problem }
}
