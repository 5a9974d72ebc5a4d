//! The files of a checkpoint's weights, and what a directory holds where it is none.

use crate::error::{Error, Result};
use crate::files;
use crate::tensor::Shape;
use memmap2::Mmap;
use safetensors::tensor::{SafeTensors, TensorView};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};

pub(super) const SINGLE: &str = "model.safetensors";
pub(super) const INDEX: &str = "model.safetensors.index.json";

pub(super) fn damaged(path: &Path, error: &dyn std::fmt::Display) -> Error {
    refused(path, "header", format!("damaged or truncated: {error}"))
}

fn refused(path: &Path, tensor: &str, problem: String) -> Error {
    Error::Weights { path: path.into(), tensor: tensor.into(), problem }
}

/// The memory-mapped files of a checkpoint.
pub(super) struct WeightFiles {
    maps: Vec<(PathBuf, Mmap)>,
    /// The file, of `maps`, that the index gives for a tensor; without an index the only file.
    index: Option<BTreeMap<String, usize>>,
}

impl WeightFiles {
    /// Opens `model.safetensors`, or without it the shards of its index. What is left of an earlier save beside a whole file
    /// is not looked at.
    ///
    /// Errors: `Io`; `Weights` naming what is there instead, or the shard that is not.
    pub(super) fn open(directory: &Path) -> Result<WeightFiles> {
        let (single, index) = (directory.join(SINGLE), directory.join(INDEX));
        if single.exists() {
            if index.exists() {
                tracing::debug!("{}: {INDEX} is not looked at beside {SINGLE}", directory.display());
            }
            return Ok(WeightFiles { maps: vec![map(single)?], index: None });
        }
        if !index.exists() {
            return Err(unusable(directory)?.unwrap_or_else(|| refused(directory, SINGLE, "is not there".into())));
        }
        let bytes = std::fs::read(&index).map_err(Error::io(&index))?;
        if let Some(kind) = files::not_fetched(&bytes) {
            return Err(refused(&index, "index", format!("is {kind}; {}", files::FETCH)));
        }
        let json: Value = serde_json::from_slice(&bytes).map_err(|e| damaged(&index, &e))?;
        let places = json.get("weight_map").and_then(Value::as_object);
        let places = places.filter(|places| !places.is_empty()).ok_or_else(|| damaged(&index, &"no weight_map"))?;
        let mut shard_of = BTreeMap::new();
        for (tensor, file) in places {
            let name = file.as_str().filter(|name| Path::new(name).file_name().is_some_and(|own| own == *name));
            let name =
                name.ok_or_else(|| damaged(&index, &format!("{tensor} is in {file}, which is no file's name")))?;
            shard_of.insert(tensor.clone(), name);
        }
        let shards: Vec<&str> = shard_of.values().copied().collect::<BTreeSet<_>>().into_iter().collect();
        let gone: Vec<&str> = shards.iter().copied().filter(|name| !directory.join(name).exists()).collect();
        if let Some(first) = gone.first() {
            let problem = format!(
                "names {} files, {} of them are not there, such as {first}; {}",
                shards.len(),
                gone.len(),
                files::FETCH
            );
            return Err(refused(&index, "weight_map", problem));
        }
        let at = |name: &str| shards.binary_search(&name).unwrap_or_default();
        let index = shard_of.iter().map(|(tensor, name)| (tensor.clone(), at(name))).collect();
        let maps = shards.iter().map(|name| map(directory.join(name))).collect::<Result<_>>()?;
        Ok(WeightFiles { maps, index: Some(index) })
    }

    /// The tensors in the files.
    ///
    /// Errors: `Weights` for a damaged file, and for an index that names a tensor its file does not have.
    pub(super) fn tensors(&self) -> Result<Tensors<'_>> {
        let mut parsed = vec![];
        for (path, map) in &self.maps {
            parsed.push((path.as_path(), SafeTensors::deserialize(map).map_err(|e| damaged(path, &e))?));
        }
        let mut places: HashMap<String, usize> = HashMap::new();
        match &self.index {
            None => places.extend(parsed[0].1.names().into_iter().map(|name| (name.to_string(), 0))),
            Some(index) => {
                for (name, &file) in index {
                    if parsed[file].1.tensor(name).is_err() {
                        return Err(refused(parsed[file].0, name, "the index says it is here, it is not".into()));
                    }
                    places.insert(name.clone(), file);
                }
            }
        }
        let bare = !places.contains_key("model.embed_tokens.weight") && places.contains_key("embed_tokens.weight");
        Ok(Tensors { parsed, places, bare })
    }
}

fn map(path: PathBuf) -> Result<(PathBuf, Mmap)> {
    let file = File::open(&path).map_err(Error::io(&path))?;
    let metadata = file.metadata().map_err(Error::io(&path))?;
    if !metadata.is_file() {
        return Err(refused(&path, "header", "is no file".into()));
    }
    if metadata.len() == 0 {
        return Err(damaged(&path, &"it is empty"));
    }
    // SAFETY: the map is only read, and checkpoints are replaced by rename, never changed in place; a file that someone
    // truncates under us is outside what any reader can defend against.
    let map = unsafe { Mmap::map(&file) }.map_err(Error::io(&path))?;
    match kind_of(&map) {
        Some(kind) => Err(refused(&path, "header", kind)),
        None => Ok((path, map)),
    }
}

/// What a file of weights is where it is no safetensors.
fn kind_of(bytes: &[u8]) -> Option<String> {
    if let Some(kind) = files::not_fetched(&bytes[..bytes.len().min(256)]) {
        return Some(format!("is {kind}; {}", files::FETCH));
    }
    match bytes.get(..4)? {
        b"GGUF" => Some("is a GGUF file; take the checkpoint that it was made from".into()),
        [b'P', b'K', 3, 4] | [0x80, 2, ..] => Some(format!("is a file of torch.save; {CONVERT}")),
        _ => None,
    }
}

const CONVERT: &str = "convert it: AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(DIR)";

/// What a directory without weights to load holds, as an error; `None` if it holds nothing known.
///
/// Errors: `Io` if it cannot be read.
pub(super) fn unusable(directory: &Path) -> Result<Option<Error>> {
    let mut names = vec![];
    for entry in std::fs::read_dir(directory).map_err(Error::io(directory))? {
        names.push(entry.map_err(Error::io(directory))?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    /// A kind of file by its name, and what is to be said of it.
    type Kind = (fn(&str) -> bool, &'static str);
    // the first that fits says what it is
    let kinds: [Kind; 9] = [
        (|n| n == SINGLE || n == INDEX, "is a link to a file that is not there: fetch it"),
        (
            |n| n == "adapter_config.json" || n.starts_with("adapter_model."),
            "is an adapter (LoRA): merge it into its model and save that: merge_and_unload()",
        ),
        (
            |n| n.starts_with("model-") && n.ends_with(".safetensors"),
            "is a shard, but there is no model.safetensors.index.json: fetch the index as well",
        ),
        (|n| n.starts_with("pytorch_model") && n.contains(".bin"), CONVERT),
        (|n| n.ends_with(".gguf"), "is a GGUF file: take the checkpoint that it was made from"),
        (
            |n| n.ends_with(".safetensors"),
            "is not model.safetensors, which is looked for: rename it if it is the whole model",
        ),
        (|n| n.ends_with(".pth") || n.ends_with(".pt") || n.ends_with(".bin"), CONVERT),
        (|n| n.ends_with(".h5") || n.ends_with(".msgpack") || n.ends_with(".ot"), CONVERT),
        (|n| n.ends_with(".onnx") || n.ends_with(".npz"), "is an export: take the checkpoint that it was made from"),
    ];
    let found = kinds.iter().find_map(|(is, problem)| names.iter().find(|name| is(name)).map(|name| (name, problem)));
    Ok(found.map(|(name, problem)| refused(directory, name, problem.to_string())))
}

/// Tensors by the names of the architecture.
pub(super) struct Tensors<'a> {
    parsed: Vec<(&'a Path, SafeTensors<'a>)>,
    places: HashMap<String, usize>,
    /// Names lack their `model.`.
    bare: bool,
}

impl Tensors<'_> {
    /// A tensor and the file it is in.
    pub(super) fn get(&self, name: &str) -> Result<Option<(&Path, TensorView<'_>)>> {
        let stored = if self.bare { name.strip_prefix("model.").unwrap_or(name) } else { name };
        let Some(&file) = self.places.get(stored) else { return Ok(None) };
        let (path, tensors) = &self.parsed[file];
        Ok(Some((path, tensors.tensor(stored).map_err(|e| damaged(path, &e))?)))
    }

    /// The error about a tensor that is not there.
    pub(super) fn missing(&self, directory: &Path, name: &str, shape: &Shape) -> Error {
        let module = name.strip_suffix(".weight").unwrap_or(name);
        let mut stored: Vec<&str> = self.places.keys().map(String::as_str).collect();
        stored.sort_unstable();
        let beside = stored.iter().find(|key| key.strip_prefix(module).is_some_and(|rest| rest.starts_with('.')));
        let last = name.split('.').rev().take(2).collect::<Vec<_>>();
        let like = stored.iter().find(|key| key.split('.').rev().take(2).eq(last.iter().copied()));
        let problem = match (beside, like) {
            _ if name == "lm_head.weight" => format!(
                "tie_word_embeddings is false, and no file has a head {shape}; if it is a model for embeddings, whose hidden \
                 states need none, set tie_word_embeddings to true"
            ),
            (Some(beside), _) => {
                format!("no file has it, but {beside}: quantised checkpoints do not load, take the one in bf16")
            }
            (None, Some(like)) => format!("config says {shape}, no file has it; there is {like}"),
            (None, None) => format!("config says {shape}, no file has it"),
        };
        refused(directory, name, problem)
    }

    /// Refuses what is not part of the model but was part of the one that was saved.
    pub(super) fn check_unused(&self, directory: &Path, used: &HashSet<String>, layers: usize) -> Result<()> {
        let mut behind = 0;
        for stored in self.places.keys() {
            let name = if self.bare && stored != "lm_head.weight" { format!("model.{stored}") } else { stored.clone() };
            if used.contains(&name) || name == "lm_head.weight" {
                continue;
            }
            let layer =
                name.strip_prefix("model.layers.").and_then(|rest| rest.split('.').next()?.parse::<usize>().ok());
            let ours = layer.is_some_and(|layer| layer < layers) && !name.ends_with(".inv_freq");
            if ours || name.contains("lora_") {
                let problem = "is not part of a Qwen3 model; left out, another model would be computed".to_string();
                return Err(refused(directory, stored, problem));
            }
            behind += 1;
        }
        if behind > 0 {
            tracing::warn!("{}: {behind} tensors are not part of the model and were not loaded", directory.display());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::load;
    use super::*;
    use crate::check::Directory;
    use gr2_kernels::Device;

    fn message(directory: &Directory) -> String {
        load(directory.path(), &Device::Cpu).err().map(|e| e.to_string()).unwrap_or_default()
    }

    fn index(directory: &Directory, names: &[String], shard: &str) {
        let map: serde_json::Map<String, Value> = names.iter().map(|name| (name.clone(), shard.into())).collect();
        std::fs::write(directory.path().join(INDEX), serde_json::json!({ "weight_map": map }).to_string()).unwrap();
    }

    #[test]
    fn a_whole_file_goes_before_an_index() {
        let directory = Directory::new();
        let names = directory.names();
        index(&directory, &names, "model-00001-of-00001.safetensors");
        assert_eq!(message(&directory), "");
        std::fs::rename(directory.path().join(SINGLE), directory.path().join("model-00001-of-00001.safetensors"))
            .unwrap();
        assert_eq!(message(&directory), "");
        index(&directory, &names, "model-00002-of-00002.safetensors");
        let gone = message(&directory);
        assert!(
            gone.contains("names 1 files, 1 of them are not there, such as model-00002-of-00002.safetensors"),
            "{gone}"
        );
        index(&directory, &names, "../model.safetensors");
        assert!(message(&directory).contains("which is no file's name"), "{}", message(&directory));
        std::fs::write(directory.path().join(INDEX), r#"{"weight_map": {"x": "model-00001-of-00001.safetensors"}}"#)
            .unwrap();
        assert!(message(&directory).contains("x: the index says it is here, it is not"), "{}", message(&directory));
        for text in
            ["{}", "[]", r#"{"weight_map": {}}"#, r#"{"weight_map": {"x": 3}}"#, "version https://git-lfs.github.com"]
        {
            std::fs::write(directory.path().join(INDEX), text).unwrap();
            assert!(message(&directory).contains(INDEX), "{}", message(&directory));
        }
    }

    #[test]
    fn files_of_another_kind_are_named() {
        let directory = Directory::new();
        let path = directory.path().join(SINGLE);
        let whole = std::fs::read(&path).unwrap();
        for (bytes, says) in [
            (&b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"[..], "is a Git LFS pointer"),
            (b"", "it is empty"),
            (b"<!DOCTYPE html><html>", "is an HTML page"),
            (b"GGUF\x03\0\0\0", "is a GGUF file"),
            (b"PK\x03\x04\0\0\0\0", "is a file of torch.save"),
            (b"\xff\xff\xff\xff\xff\xff\xff\x7f{}", "damaged or truncated"),
            (&whole[..whole.len() - 40], "damaged or truncated"),
            (&whole[..5], "damaged or truncated"),
        ] {
            std::fs::write(&path, bytes).unwrap();
            assert!(message(&directory).contains(says), "{says}: {}", message(&directory));
        }
        std::fs::remove_file(&path).unwrap();
        assert!(message(&directory).contains("model.safetensors: is not there"), "{}", message(&directory));
        for (name, says) in [
            ("x.npz", "x.npz: is an export"),
            ("tf_model.h5", "tf_model.h5: convert it"),
            ("consolidated.00.pth", "consolidated.00.pth: convert it"),
            ("weights.safetensors", "weights.safetensors: is not model.safetensors"),
            ("q4.gguf", "q4.gguf: is a GGUF file"),
            ("pytorch_model.bin", "pytorch_model.bin: convert it"),
            ("model-00001-of-00002.safetensors", "model-00001-of-00002.safetensors: is a shard"),
            ("adapter_model.safetensors", "adapter_model.safetensors: is an adapter"),
        ] {
            std::fs::write(directory.path().join(name), "x").unwrap();
            assert!(message(&directory).contains(says), "{says}: {}", message(&directory));
        }
        std::fs::remove_file(directory.path().join("config.json")).unwrap();
        assert!(message(&directory).contains("is an adapter"), "{}", message(&directory));
    }
}
