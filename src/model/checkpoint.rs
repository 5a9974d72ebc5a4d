//! Checkpoints in Hugging Face layout: `config.json` and safetensors, one file or sharded.

use super::{Qwen3, Qwen3Config};
use crate::error::{Error, Result};
use crate::tensor::{Shape, Tensor};
use gr2_kernels::narrow::narrowed;
use gr2_kernels::{Device, Dtype, Error as KernelError};
use memmap2::Mmap;
use safetensors::tensor::{Dtype as Saved, SafeTensors, TensorView};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Loads a model directory: `config.json` with `model.safetensors` or its sharded index. Tensors are read through a
/// memory map; f32, f16 and bf16 become f32.
///
/// Errors: `Io`, `Config`, and `Weights` for a damaged file, a missing tensor or one whose shape is not the config's.
pub fn load(directory: &Path, device: &Device) -> Result<Qwen3> {
    load_as(directory, device, Dtype::F32)
}

/// As [`load`], with tables and projections stored as `weights`; see [`Qwen3::store`].
///
/// Errors: as of `load`; `Weights` for a weight that f16 cannot hold.
pub fn load_as(directory: &Path, device: &Device, weights: Dtype) -> Result<Qwen3> {
    let config = Qwen3Config::read(&directory.join("config.json"))?;
    let files = WeightFiles::open(directory)?;
    let parsed: Vec<(PathBuf, SafeTensors)> = files
        .maps
        .iter()
        .map(|(path, map)| Ok((path.clone(), SafeTensors::deserialize(map).map_err(|e| damaged(path, &e))?)))
        .collect::<Result<_>>()?;
    let mut places = HashMap::new();
    for (file, (_, tensors)) in parsed.iter().enumerate() {
        places.extend(tensors.names().into_iter().map(|name| (name.to_string(), file)));
    }
    let mut used = HashSet::new();
    let model = Qwen3::build(config, device, &mut |name, shape| {
        let Some(&file) = places.get(name) else {
            let problem = format!("config says {shape}, no file has it");
            return Err(Error::Weights { path: directory.into(), tensor: name.into(), problem });
        };
        used.insert(name.to_string());
        let (path, tensors) = &parsed[file];
        let view = tensors.tensor(name).map_err(|e| damaged(path, &e))?;
        read_tensor(path, name, &view, shape, device, weights)
    })?;
    // a tied checkpoint may store its head a second time; anything else unused is worth a word
    let unused = places.keys().filter(|name| !used.contains(*name) && *name != "lm_head.weight").count();
    if unused > 0 {
        tracing::warn!("{}: {unused} tensors are not part of the model and were not loaded", directory.display());
    }
    Ok(model)
}

fn damaged(path: &Path, error: &dyn std::fmt::Display) -> Error {
    let problem = format!("damaged or truncated: {error}");
    Error::Weights { path: path.into(), tensor: "header".into(), problem }
}

fn read_tensor(
    path: &Path,
    name: &str,
    view: &TensorView,
    shape: Shape,
    device: &Device,
    weights: Dtype,
) -> Result<Tensor> {
    let bad = |problem: String| Error::Weights { path: path.into(), tensor: name.into(), problem };
    if view.shape() != &shape[..] {
        return Err(bad(format!("config says {shape}, file has {:?}", view.shape())));
    }
    // the bytes may lie at any address, so numbers are put together from bytes
    let pairs = || view.data().chunks_exact(2).map(|b| [b[0], b[1]]);
    let values: Vec<f32> = match view.dtype() {
        Saved::F32 => view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
        Saved::F16 => pairs().map(|b| half::f16::from_le_bytes(b).to_f32()).collect(),
        Saved::BF16 => pairs().map(|b| half::bf16::from_le_bytes(b).to_f32()).collect(),
        other => return Err(bad(format!("dtype {other:?}, expected F32, F16 or BF16"))),
    };
    let dtype = if shape[..].len() == 2 { weights } else { Dtype::F32 };
    let buffer = narrowed(device, &values, dtype).map_err(|error| match error {
        KernelError::Shape { problem, .. } => bad(problem),
        other => other.into(),
    })?;
    Tensor::new(buffer, shape)
}

/// The memory-mapped files of a checkpoint.
struct WeightFiles {
    maps: Vec<(PathBuf, Mmap)>,
}

impl WeightFiles {
    fn open(directory: &Path) -> Result<WeightFiles> {
        let index = directory.join(INDEX);
        let names: Vec<String> = if index.exists() {
            let text = std::fs::read_to_string(&index).map_err(Error::io(&index))?;
            let json: Value = serde_json::from_str(&text).map_err(|e| damaged(&index, &e))?;
            let map = json.get("weight_map").and_then(Value::as_object);
            let map = map.ok_or_else(|| damaged(&index, &"no weight_map"))?;
            let names: Option<std::collections::BTreeSet<&str>> = map.values().map(Value::as_str).collect();
            let names = names.ok_or_else(|| damaged(&index, &"weight_map names something that is no file"))?;
            names.into_iter().map(String::from).collect()
        } else {
            vec![SINGLE.to_string()]
        };
        let maps = names.into_iter().map(|name| {
            let path = directory.join(name);
            let file = File::open(&path).map_err(Error::io(&path))?;
            // SAFETY: the map is only read, and checkpoints are replaced by rename, never changed in place; a file
            // that someone truncates under us is outside what any reader can defend against.
            let map = unsafe { Mmap::map(&file) }.map_err(Error::io(&path))?;
            Ok((path, map))
        });
        Ok(WeightFiles { maps: maps.collect::<Result<_>>()? })
    }
}

/// Writes `config.json` and the weights in f32 into `directory`, in files of at most `shard_bytes` (one file if they
/// fit). The caller owns the directory and renames it when everything is in it.
///
/// Errors: `Io`, `Kernel`.
pub fn save_weights(model: &Qwen3, directory: &Path, shard_bytes: usize) -> Result<()> {
    let config = directory.join("config.json");
    let text = serde_json::to_string_pretty(&model.config().to_json()).expect("invariant: a JSON value serialises");
    std::fs::write(&config, text).map_err(Error::io(&config))?;

    let params = model.params();
    let mut shards: Vec<Vec<usize>> = vec![vec![]];
    let (mut filled, mut total) = (0, 0);
    for (i, param) in params.iter().enumerate() {
        let bytes = param.value.shape().len() * size_of::<f32>();
        if filled > 0 && filled + bytes > shard_bytes {
            shards.push(vec![]);
            filled = 0;
        }
        shards.last_mut().expect("invariant: never empty").push(i);
        (filled, total) = (filled + bytes, total + bytes);
    }
    let name = |shard: usize| match shards.len() {
        1 => SINGLE.to_string(),
        n => format!("model-{:05}-of-{n:05}.safetensors", shard + 1),
    };
    let mut weight_map = BTreeMap::new();
    for (shard, members) in shards.iter().enumerate() {
        let mut tensors = vec![];
        for &i in members {
            let values = params[i].value.to_vec::<f32>()?;
            tensors.push((params[i].name.clone(), Stored { values, shape: params[i].value.shape().to_vec() }));
            weight_map.insert(params[i].name.clone(), name(shard));
        }
        let path = directory.join(name(shard));
        let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
        safetensors::serialize_to_file(tensors, Some(metadata), &path).map_err(|e| damaged(&path, &e))?;
    }
    if shards.len() > 1 {
        let path = directory.join(INDEX);
        let index = json!({ "metadata": { "total_size": total }, "weight_map": weight_map });
        std::fs::write(&path, format!("{index:#}")).map_err(Error::io(&path))?;
    }
    Ok(())
}

/// A tensor on its way into a file.
struct Stored {
    values: Vec<f32>,
    shape: Vec<usize>,
}

impl safetensors::View for Stored {
    fn dtype(&self) -> Saved {
        Saved::F32
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(bytemuck::cast_slice(&self.values))
    }
    fn data_len(&self) -> usize {
        size_of_val(self.values.as_slice())
    }
}
