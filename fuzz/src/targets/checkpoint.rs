//! Model directories: `config.json` and weights.

use gr2::model::{self, Qwen3, Qwen3Config};
use gr2_kernels::Device;
use serde_json::Value;

use super::tensors;
use crate::{Reader, SLOW, Scratch, Target, Verdict, join, parts};

/// A model of one layer and a few hundred numbers.
pub fn config() -> Qwen3Config {
    Qwen3Config { eos_token_ids: vec![2], ..Qwen3Config::small(8, 4, 1, (2, 1, 2), 4) }
}

const CONFIG_WORDS: &[&str] = &[
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "rms_norm_eps",
    "rope_theta",
    "rope_scaling",
    "rope_parameters",
    "rope_type",
    "type",
    "factor",
    "original_max_position_embeddings",
    "low_freq_factor",
    "high_freq_factor",
    "attention_factor",
    "beta_fast",
    "beta_slow",
    "yarn",
    "linear",
    "dynamic",
    "llama3",
    "longrope",
    "default",
    "short_factor",
    "long_factor",
    "tie_word_embeddings",
    "max_position_embeddings",
    "eos_token_id",
    "pad_token_id",
    "layer_types",
    "sliding_attention",
    "full_attention",
    "use_sliding_window",
    "sliding_window",
    "max_window_layers",
    "quantization_config",
    "attention_bias",
    "hidden_act",
    "silu",
    "model_type",
    "qwen3",
    "[2,3]",
    "\"0.5\"",
    "true",
];

fn config_seeds() -> Vec<Vec<u8>> {
    let mut small = config().to_json();
    let plain = small.to_string();
    small["rope_scaling"] =
        serde_json::json!({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32});
    small["rope_parameters"] = Value::Null;
    small["layer_types"] = serde_json::json!(["full_attention"]);
    small["eos_token_id"] = serde_json::json!([2, 3]);
    vec![plain.into_bytes(), small.to_string().into_bytes()]
}

/// `config.json`.
pub const CONFIG_JSON: Target = Target {
    name: "config_json",
    seeds: config_seeds,
    slow: SLOW,
    words: CONFIG_WORDS,
    reader: || {
        let folder = Scratch::new();
        Box::new(move |input| {
            let read = Qwen3Config::read(&folder.put("config.json", input));
            if let Ok(config) = &read {
                config.validate().expect("what was read is valid");
                let again = Qwen3Config::from_json(&config.to_json()).expect("what is written is read");
                assert_eq!(&again, config, "not what was written");
                config.parameters();
            }
            Verdict::of(read, |config| config.hidden_size)
        })
    },
};

/// The weights of a model as one file.
fn weights() -> Vec<u8> {
    let folder = Scratch::new();
    let model = Qwen3::random(config(), &Device::Cpu, 1).expect("a small model");
    model::save_weights(&model, folder.path(), usize::MAX).expect("writes");
    std::fs::read(folder.path().join("model.safetensors")).expect("was written")
}

const WEIGHT_WORDS: &[&str] = &[
    "model.embed_tokens.weight",
    "model.norm.weight",
    "lm_head.weight",
    "model.layers.0.self_attn.q_proj.weight",
    "model.layers.0.mlp.up_proj.weight",
    "model.layers.1.",
    "embed_tokens.weight",
    "dtype",
    "shape",
    "data_offsets",
    "F32",
    "F16",
    "BF16",
    "F64",
    "I8",
    "U8",
    "F8_E4M3",
    "F8_E5M2",
    "BOOL",
    "__metadata__",
    "format",
    "pt",
    ".weight_scale_inv",
    ".qweight",
    "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    "PK\x03\x04",
    "[8,4]",
    "[4]",
    "[0,128]",
];

fn loader(files: fn(&Scratch, &[u8])) -> Reader {
    let folder = Scratch::new();
    Box::new(move |input| {
        files(&folder, input);
        let read = model::load(folder.path(), &Device::Cpu);
        if let Ok(model) = &read {
            assert!(model.params().iter().all(|param| !param.value.shape().to_vec().is_empty()));
        }
        Verdict::of(read, |model| model.params().len())
    })
}

/// `config.json` and `model.safetensors`.
pub const CHECKPOINT: Target = Target {
    name: "checkpoint",
    seeds: || {
        let (config, file) = (config_seeds().remove(0), weights());
        vec![join(&[&config, &tensors::input(&file)]), join(&[&config, &tensors::raw(&file)])]
    },
    slow: SLOW,
    words: WEIGHT_WORDS,
    reader: || {
        loader(|folder, input| {
            let [config, tensors] = parts(input);
            folder.put("config.json", config);
            folder.put("model.safetensors", &tensors::file(tensors));
        })
    },
};

/// An index and the file it names.
pub const SHARDED: Target = Target {
    name: "checkpoint_index",
    seeds: || {
        let (config, file) = (config_seeds().remove(0), weights());
        let shard = "model-00001-of-00001.safetensors";
        let tensors = safetensors::SafeTensors::deserialize(&file).expect("was written");
        let places = tensors.names().into_iter().map(|name| (name.to_owned(), Value::from(shard)));
        let map: serde_json::Map<String, Value> = places.collect();
        let index = serde_json::json!({"metadata": {"total_size": file.len()}, "weight_map": map}).to_string();
        vec![join(&[index.as_bytes(), &config, &tensors::input(&file)])]
    },
    slow: SLOW,
    words: &[
        "weight_map",
        "metadata",
        "total_size",
        "model-00001-of-00001.safetensors",
        "../model.safetensors",
        "/dev/null",
        "",
        ".",
        "config.json",
        "model.embed_tokens.weight",
        "model-00002-of-00002.safetensors",
    ],
    reader: || {
        loader(|folder, input| {
            let [index, config, tensors] = parts(input);
            folder.put("config.json", config);
            folder.put("model.safetensors.index.json", index);
            folder.put("model-00001-of-00001.safetensors", &tensors::file(tensors));
        })
    },
};
