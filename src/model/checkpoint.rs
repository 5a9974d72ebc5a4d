//! Checkpoints in Hugging Face layout: `config.json` and safetensors, one file or sharded.

use super::weight_files::{INDEX, SINGLE, Tensors, WeightFiles, damaged, unusable};
use super::{Qwen3, Qwen3Config};
use crate::console::say;
use crate::error::{Error, Result};
use crate::tensor::{Shape, Tensor};
use gr2_kernels::narrow::narrowed;
use gr2_kernels::{Device, Dtype, Error as KernelError};
use rayon::prelude::*;
use safetensors::tensor::{Dtype as Saved, TensorView};
use serde_json::json;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

const EMBEDDING: &str = "model.embed_tokens.weight";
const HEAD: &str = "lm_head.weight";

/// Loads a model directory: `config.json` with `model.safetensors` or, without it, its sharded index. Tensors are read
/// through a memory map; f32, f16 and bf16 become f32. Names may lack their `model.`, as where the bare model was saved.
///
/// A head of its own beside `tie_word_embeddings` is kept where it differs from the embedding: the model is then untied.
/// Errors: `Io`, `Config`, and `Weights` for files of another kind, a damaged file, a missing tensor, one whose shape is not
/// the config's, one of numbers that are not finite, and tensors that would change the model but are not part of it.
/// Source: transformers `modeling_utils.py`: which file goes first, and that two heads are not tied.
pub fn load(directory: &Path, device: &Device) -> Result<Qwen3> {
    load_as(directory, device, Dtype::F32)
}

/// As [`load`], with tables and projections stored as `weights`; see [`Qwen3::store`].
///
/// Errors: as of `load`; `Weights` for a weight that f16 cannot hold.
pub fn load_as(directory: &Path, device: &Device, weights: Dtype) -> Result<Qwen3> {
    let settings = directory.join("config.json");
    if [&settings, &directory.join(SINGLE), &directory.join(INDEX)].iter().all(|path| !path.exists())
        && let Some(error) = unusable(directory)?
    {
        return Err(error);
    }
    let mut config = Qwen3Config::read(&settings)?;
    let files = WeightFiles::open(directory)?;
    let tensors = files.tensors()?;
    if config.tie_word_embeddings && has_another_head(&tensors)? {
        say!(
            "{}: {HEAD} is not the embedding, though tie_word_embeddings is true: both are kept, the head is not tied",
            directory.display()
        );
        config.tie_word_embeddings = false;
    }
    // a tied pair may have been saved under the head's name alone
    let only_head = config.tie_word_embeddings && tensors.get(EMBEDDING)?.is_none();
    let layers = config.num_hidden_layers;
    let mut used = HashSet::new();
    let model = Qwen3::build(config, device, &mut |name, shape| {
        let name = if name == EMBEDDING && only_head && tensors.get(HEAD)?.is_some() { HEAD } else { name };
        let Some((path, view)) = tensors.get(name)? else { return Err(tensors.missing(directory, name, &shape)) };
        used.insert(name.to_string());
        read_tensor(path, name, &view, shape, device, weights)
    })?;
    tensors.check_unused(directory, &used, layers)?;
    Ok(model)
}

/// Whether there is a head beside the embedding whose numbers are not the embedding's.
fn has_another_head(tensors: &Tensors) -> Result<bool> {
    let (Some((_, embedding)), Some((_, head))) = (tensors.get(EMBEDDING)?, tensors.get(HEAD)?) else {
        return Ok(false);
    };
    Ok(match embedding.dtype() == head.dtype() && embedding.shape() == head.shape() {
        true => embedding.data() != head.data(),
        false => embedding.shape() != head.shape() || widened(&embedding).0 != widened(&head).0,
    })
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
    match view.dtype() {
        Saved::F32 | Saved::F16 | Saved::BF16 => {}
        other => {
            let quantised = if other == Saved::F64 { "" } else { ": quantised checkpoints do not load" };
            return Err(bad(format!("dtype {other:?}, expected F32, F16 or BF16{quantised}")));
        }
    }
    if view.shape() != &shape[..] {
        return Err(bad(format!("config says {shape}, file has {:?}", view.shape())));
    }
    let (values, finite) = widened(view);
    if !finite {
        let at = values.iter().position(|x| !x.is_finite()).unwrap_or_default();
        return Err(bad(format!(
            "weight {at} is {}: the checkpoint is of a run that diverged, or damaged",
            values[at]
        )));
    }
    let dtype = if shape[..].len() == 2 { weights } else { Dtype::F32 };
    let buffer = narrowed(device, &values, dtype).map_err(|error| match error {
        KernelError::Shape { problem, .. } => bad(problem),
        other => other.into(),
    })?;
    Tensor::new(buffer, shape)
}

/// The numbers of a tensor, and whether all of them are finite, in one pass.
fn widened(view: &TensorView) -> (Vec<f32>, bool) {
    /// Numbers that a thread takes at a time.
    const PIECE: usize = 1 << 16;
    let (bytes, dtype) = (view.data(), view.dtype());
    let width = if dtype == Saved::F32 { 4 } else { 2 };
    let mut values = vec![0.0f32; bytes.len() / width];
    // the bytes may lie at any address, so numbers are put together from bytes
    let widen = |(to, from): (&mut [f32], &[u8])| {
        let pairs = from.chunks_exact(2).map(|b| [b[0], b[1]]);
        match dtype {
            Saved::F16 => to.iter_mut().zip(pairs).for_each(|(x, b)| *x = half::f16::from_le_bytes(b).to_f32()),
            Saved::BF16 => to.iter_mut().zip(pairs).for_each(|(x, b)| *x = half::bf16::from_le_bytes(b).to_f32()),
            _ => {
                let fours = from.chunks_exact(4).map(|b| [b[0], b[1], b[2], b[3]]);
                to.iter_mut().zip(fours).for_each(|(x, b)| *x = f32::from_le_bytes(b));
            }
        }
        // a sum over bits instead of a search: it is vectorised
        to.iter().fold(true, |all, x| all & x.is_finite())
    };
    let pieces = values.par_chunks_mut(PIECE).zip(bytes.par_chunks(PIECE * width));
    let finite = pieces.map(widen).reduce(|| true, |a, b| a & b);
    (values, finite)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{self, Directory};

    #[test]
    fn a_head_of_its_own_is_kept_and_an_equal_one_stays_tied() {
        let directory = Directory::new();
        let embedding = directory.tensor(EMBEDDING);
        directory.edit(|tensors| drop(tensors.insert(HEAD.into(), embedding.clone())));
        let model = load(directory.path(), &Device::Cpu).unwrap();
        assert!(model.config().tie_word_embeddings);
        let mut head = embedding;
        head.1[5] += 1.0;
        directory.edit(|tensors| drop(tensors.insert(HEAD.into(), head.clone())));
        let model = load(directory.path(), &Device::Cpu).unwrap();
        assert!(!model.config().tie_word_embeddings);
        assert_eq!(model.head().value.to_vec::<f32>().unwrap(), head.1);
        let saved = Directory::new();
        save_weights(&model, saved.path(), usize::MAX).unwrap();
        let again = load(saved.path(), &Device::Cpu).unwrap();
        assert_eq!(again.head().value.to_vec::<f32>().unwrap(), head.1);
        assert_eq!(again.config(), model.config());
    }

    #[test]
    fn a_tied_pair_may_have_the_name_of_the_head_and_an_untied_one_needs_both() {
        let directory = Directory::new();
        let embedding = directory.tensor(EMBEDDING);
        directory.edit(|tensors| {
            let pair = tensors.remove(EMBEDDING).unwrap();
            tensors.insert(HEAD.into(), pair);
        });
        let model = load(directory.path(), &Device::Cpu).unwrap();
        assert_eq!(model.head().value.to_vec::<f32>().unwrap(), embedding.1);
        let directory = Directory::new();
        let settings = directory.path().join("config.json");
        let text = std::fs::read_to_string(&settings).unwrap();
        std::fs::write(&settings, text.replace("\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false"))
            .unwrap();
        let message = load(directory.path(), &Device::Cpu).err().unwrap().to_string();
        assert!(message.contains("lm_head.weight: tie_word_embeddings is false, and no file has a head"), "{message}");
    }

    #[test]
    fn names_without_model_load() {
        let directory = Directory::new();
        let plain = load(directory.path(), &Device::Cpu).unwrap();
        directory.edit(|tensors| {
            *tensors = std::mem::take(tensors).into_iter().map(|(name, t)| (name.replace("model.", ""), t)).collect();
        });
        let bare = load(directory.path(), &Device::Cpu).unwrap();
        for (a, b) in plain.params().iter().zip(bare.params()) {
            assert_eq!((&a.name, a.value.to_vec::<f32>().unwrap()), (&b.name, b.value.to_vec::<f32>().unwrap()));
        }
    }

    #[test]
    fn what_is_no_number_or_no_part_of_the_model_is_refused_by_name() {
        let message = |edit: &dyn Fn(&mut check::Tensors)| {
            let directory = Directory::new();
            directory.edit(edit);
            load(directory.path(), &Device::Cpu).err().map(|e| e.to_string()).unwrap_or_default()
        };
        let gate = "model.layers.0.mlp.gate_proj.weight";
        for (value, says) in [(f32::NAN, "weight 2 is NaN"), (f32::NEG_INFINITY, "weight 2 is -inf")] {
            let found = message(&|tensors| tensors.get_mut(gate).unwrap().1[2] = value);
            assert!(found.contains(&format!("{gate}: {says}")), "{found}");
        }
        let query = "model.layers.0.self_attn.q_proj";
        let found = message(&|tensors| drop(tensors.insert(format!("{query}.bias"), (vec![2], vec![0.0; 2]))));
        assert!(found.contains(&format!("{query}.bias: is not part")), "{found}");
        let found = message(&|tensors| drop(tensors.remove(&format!("{query}.weight"))));
        assert!(found.contains(&format!("{query}.weight: config says [16, 16], no file has it")), "{found}");
        let found = message(&|tensors| {
            let taken = tensors.remove(&format!("{query}.weight")).unwrap();
            tensors.insert(format!("{query}.qweight"), taken);
        });
        assert!(found.contains(&format!("{query}.qweight")) && found.contains("quantised"), "{found}");
        let found = message(&|tensors| drop(tensors.insert(format!("{query}.lora_A.weight"), (vec![2], vec![0.0; 2]))));
        assert!(found.contains("lora_A"), "{found}");
        // buffers of old versions, and layers behind the last that the config asks for, change nothing
        let found = message(&|tensors| {
            tensors.insert("model.layers.0.self_attn.rotary_emb.inv_freq".into(), (vec![2], vec![0.0; 2]));
            tensors.insert("model.layers.7.self_attn.q_proj.weight".into(), (vec![2], vec![0.0; 2]));
        });
        assert_eq!(found, "");
    }
}
