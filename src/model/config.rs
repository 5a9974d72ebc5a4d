//! The configuration of a Qwen3-architecture model, as `config.json` spells it.

use super::config_keys::{one_or_many, quantised, slides, token_ids};
use super::rope_config;
use crate::error::{Error, Result};
use crate::files;
use serde_json::{Map, Value, json};
use std::path::Path;

/// Sizes and constants of a model. Fields are named as in `config.json` of transformers.
#[derive(Debug, Clone, PartialEq)]
pub struct Qwen3Config {
    /// V, rows of the embedding.
    pub vocab_size: usize,
    /// C.
    pub hidden_size: usize,
    /// F.
    pub intermediate_size: usize,
    /// L.
    pub num_hidden_layers: usize,
    /// H.
    pub num_attention_heads: usize,
    /// K.
    pub num_key_value_heads: usize,
    /// D: explicit, not `hidden_size / num_attention_heads`.
    pub head_dim: usize,
    /// ε of every RMS norm.
    pub rms_norm_eps: f64,
    /// θ of the rotary embedding.
    pub rope_theta: f64,
    /// True if the output head is the embedding.
    pub tie_word_embeddings: bool,
    /// Longest context the model was made for.
    pub max_position_embeddings: usize,
    /// Standard deviation of fresh weights.
    pub initializer_range: f64,
    /// Tokens that end a generation.
    pub eos_token_ids: Vec<u32>,
    /// Padding token: transformers does not train its row of the embedding (`padding_idx`).
    pub pad_token_id: Option<u32>,
    /// Keys of the file that this program does not use; written back as they were.
    pub other: Map<String, Value>,
}

/// Keys that [`Qwen3Config::to_json`] writes from the fields.
const OWN_KEYS: &[&str] = &[
    "architectures",
    "model_type",
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
    "tie_word_embeddings",
    "max_position_embeddings",
    "initializer_range",
    "eos_token_id",
    "pad_token_id",
    "hidden_act",
    "attention_bias",
    "dtype",
    "torch_dtype",
];

impl Qwen3Config {
    /// A small model with the usual constants; the sizes a config file of this project gives.
    pub fn small(vocab_size: usize, hidden: usize, layers: usize, heads: (usize, usize, usize), ffn: usize) -> Self {
        let (num_attention_heads, num_key_value_heads, head_dim) = heads;
        Qwen3Config {
            vocab_size,
            hidden_size: hidden,
            intermediate_size: ffn,
            num_hidden_layers: layers,
            num_attention_heads,
            num_key_value_heads,
            head_dim,
            rms_norm_eps: 1e-6,
            rope_theta: 1e6,
            tie_word_embeddings: true,
            max_position_embeddings: 4096,
            initializer_range: 0.02,
            eos_token_ids: vec![],
            pad_token_id: None,
            other: Map::new(),
        }
    }

    /// Reads a `config.json`; rotary settings in every spelling (`rope_theta` and `rope_scaling` of older files,
    /// `rope_parameters` of transformers 5).
    ///
    /// Errors: `Io`; `Config` naming the file and the key that is missing, of the wrong type or asks for something this
    /// architecture does not have.
    pub fn read(path: &Path) -> Result<Qwen3Config> {
        let bytes = std::fs::read(path).map_err(Error::io(path))?;
        let wrong =
            |problem: String, hint: Option<String>| Error::Config { field: path.display().to_string(), problem, hint };
        if let Some(kind) = files::not_fetched(&bytes) {
            return Err(wrong(format!("is {kind}"), Some(files::FETCH.into())));
        }
        let json: Value = serde_json::from_slice(&bytes).map_err(|e| wrong(format!("not JSON: {e}"), None))?;
        Qwen3Config::from_json(&json).map_err(|error| match error {
            Error::Config { field, problem, hint } => {
                Error::Config { field: format!("{}: {field}", path.display()), problem, hint }
            }
            other => other,
        })
    }

    /// Reads the parsed file.
    ///
    /// Errors: `Config`.
    pub fn from_json(json: &Value) -> Result<Qwen3Config> {
        let bad = |field: &str, problem: String| Error::Config { field: field.into(), problem, hint: None };
        let size = |key: &str| match json.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(v) => match v.as_u64() {
                Some(n) if n > 0 && n < 1 << 32 => Ok(Some(n as usize)),
                _ => Err(bad(key, format!("expected a positive integer, got {v}"))),
            },
        };
        let need = |key: &str| size(key)?.ok_or_else(|| bad(key, "missing in config.json".to_string()));
        let number = |json: &Value, key: &str, default: f64| match json.get(key) {
            None | Some(Value::Null) => Ok(default),
            Some(v) => v.as_f64().ok_or_else(|| bad(key, format!("expected a number, got {v}"))),
        };
        let flag = |key: &str, default: bool| match json.get(key) {
            None | Some(Value::Null) => Ok(default),
            Some(v) => v.as_bool().ok_or_else(|| bad(key, format!("expected true or false, got {v}"))),
        };
        if !json.is_object() {
            return Err(bad("config.json", "expected a JSON object".to_string()));
        }
        if let Some(method) = quantised(json) {
            return Err(Error::Config {
                field: "quantization_config".into(),
                problem: format!("{method}: quantised checkpoints do not load"),
                hint: Some("take the checkpoint in bf16 that it was made from".into()),
            });
        }
        // what the file may ask for and these layers do not compute
        for (key, only, problem) in
            [("model_type", "qwen3", "only qwen3 checkpoints load"), ("hidden_act", "silu", "only silu is computed")]
        {
            match json.get(key) {
                None | Some(Value::Null) => {}
                Some(Value::String(found)) if found == only => {}
                Some(Value::String(found)) => return Err(bad(key, format!("{found}: {problem}"))),
                Some(other) => return Err(bad(key, format!("{other}: {problem}"))),
            }
        }
        if flag("attention_bias", false)? {
            return Err(bad("attention_bias", "true: projections here have no bias".to_string()));
        }
        let layers = need("num_hidden_layers")?;
        if let Some((key, problem)) = slides(json, layers, flag("use_sliding_window", false)?)? {
            return Err(bad(key, problem));
        }
        let rope_theta = rope_config::theta(json)?;
        let eos_token_ids = token_ids(json.get("eos_token_id")).map_err(|problem| bad("eos_token_id", problem))?;
        let pad = token_ids(json.get("pad_token_id")).map_err(|problem| bad("pad_token_id", problem))?;
        let heads = need("num_attention_heads")?;
        let mut other = json.as_object().cloned().unwrap_or_default();
        other.retain(|key, _| !OWN_KEYS.contains(&key.as_str()));
        let config = Qwen3Config {
            vocab_size: need("vocab_size")?,
            hidden_size: need("hidden_size")?,
            intermediate_size: need("intermediate_size")?,
            num_hidden_layers: layers,
            num_attention_heads: heads,
            num_key_value_heads: size("num_key_value_heads")?.unwrap_or(heads),
            head_dim: size("head_dim")?.unwrap_or(128),
            rms_norm_eps: number(json, "rms_norm_eps", 1e-6)?,
            rope_theta,
            tie_word_embeddings: flag("tie_word_embeddings", false)?,
            max_position_embeddings: size("max_position_embeddings")?.unwrap_or(32_768),
            initializer_range: number(json, "initializer_range", 0.02)?,
            eos_token_ids,
            pad_token_id: pad.first().copied(),
            other,
        };
        config.validate()?;
        Ok(config)
    }

    /// Errors: `Config` naming the first size that no model can have.
    pub fn validate(&self) -> Result<()> {
        let bad = |field: &str, problem: String| Err(Error::Config { field: field.into(), problem, hint: None });
        let (h, k, d) = (self.num_attention_heads, self.num_key_value_heads, self.head_dim);
        if k == 0 || h % k != 0 {
            return bad("num_key_value_heads", format!("{h} query heads cannot share {k} key/value heads"));
        }
        if d == 0 || d % 2 != 0 {
            return bad("head_dim", format!("{d}: rotary embedding needs an even width"));
        }
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", h),
        ];
        if let Some((field, _)) = sizes.iter().find(|(_, n)| *n == 0) {
            return bad(field, "0: must be positive".to_string());
        }
        if !(0.0..=1.0).contains(&self.rms_norm_eps) {
            return bad("rms_norm_eps", format!("{}: expected a number from 0 to 1", self.rms_norm_eps));
        }
        if !(self.rope_theta >= 1.0 && self.rope_theta.is_finite()) {
            return bad("rope_theta", format!("{}: expected a number of at least 1", self.rope_theta));
        }
        if !(0.0..=1e6).contains(&self.initializer_range) {
            return bad("initializer_range", format!("{}: expected a number of at least 0", self.initializer_range));
        }
        if let Some(pad) = self.pad_token_id.filter(|pad| *pad as usize >= self.vocab_size) {
            return bad("pad_token_id", format!("{pad}: the vocabulary has {} ids", self.vocab_size));
        }
        // so that no product of sizes can overflow
        const MOST: f64 = (1u64 << 40) as f64;
        let of = |sizes: &[usize]| sizes.iter().map(|n| *n as f64).product::<f64>();
        let widths = of(&[h, d]) + of(&[k, d]) + self.intermediate_size as f64;
        let total =
            of(&[self.hidden_size]) * (widths * 4.0 * self.num_hidden_layers as f64 + 2.0 * self.vocab_size as f64);
        match total > MOST {
            true => bad("hidden_size", format!("sizes of about {total:.1e} weights: at most {MOST:.1e} are counted")),
            false => Ok(()),
        }
    }

    /// Number of trainable values.
    pub fn parameters(&self) -> usize {
        let (c, d) = (self.hidden_size, self.head_dim);
        let heads = self.num_attention_heads + 2 * self.num_key_value_heads;
        let block = c * d * heads + self.num_attention_heads * d * c + 3 * c * self.intermediate_size + 2 * c + 2 * d;
        let tables = if self.tie_word_embeddings { 1 } else { 2 };
        tables * self.vocab_size * c + self.num_hidden_layers * block + c
    }

    /// The file transformers reads, old and new: rotary settings and dtype are written in both spellings.
    pub fn to_json(&self) -> Value {
        let own = json!({
            "architectures": ["Qwen3ForCausalLM"],
            "model_type": "qwen3",
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "head_dim": self.head_dim,
            "rms_norm_eps": self.rms_norm_eps,
            "rope_theta": self.rope_theta,
            "rope_scaling": null,
            "rope_parameters": { "rope_type": "default", "rope_theta": self.rope_theta },
            "tie_word_embeddings": self.tie_word_embeddings,
            "max_position_embeddings": self.max_position_embeddings,
            "initializer_range": self.initializer_range,
            "eos_token_id": one_or_many(&self.eos_token_ids),
            "pad_token_id": self.pad_token_id,
            "hidden_act": "silu",
            "attention_bias": false,
            "dtype": "float32",
            "torch_dtype": "float32",
        });
        let mut map = own.as_object().cloned().unwrap_or_default();
        map.extend(self.other.clone());
        Value::Object(map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Value {
        json!({"model_type": "qwen3", "vocab_size": 512, "hidden_size": 48, "intermediate_size": 112,
               "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 24,
               "tie_word_embeddings": true, "eos_token_id": 2, "use_cache": true})
    }

    #[test]
    fn both_spellings_of_rope_are_read_and_both_are_written() {
        let mut old = file();
        old["rope_theta"] = json!(5e5);
        old["rope_scaling"] = Value::Null;
        let mut new = file();
        new["rope_parameters"] = json!({"rope_type": "default", "rope_theta": 5e5});
        let (old, new) = (Qwen3Config::from_json(&old).unwrap(), Qwen3Config::from_json(&new).unwrap());
        assert_eq!(old.rope_theta, 5e5);
        assert_eq!(old, new);
        let written = old.to_json();
        assert_eq!(written["rope_theta"], json!(5e5));
        assert_eq!(written["rope_parameters"]["rope_theta"], json!(5e5));
        assert_eq!(written["use_cache"], json!(true));
        assert_eq!(Qwen3Config::from_json(&written).unwrap(), old);
    }

    #[test]
    fn what_the_layers_do_not_compute_is_refused_by_name() {
        for (key, value, expected) in [
            ("hidden_act", json!("gelu"), "config: hidden_act: gelu: only silu is computed"),
            ("model_type", json!("llama"), "config: model_type: llama: only qwen3 checkpoints load"),
            ("head_dim", json!(25), "config: head_dim: 25: rotary embedding needs an even width"),
            (
                "num_key_value_heads",
                json!(3),
                "config: num_key_value_heads: 4 query heads cannot share 3 key/value heads",
            ),
            ("vocab_size", json!("many"), "config: vocab_size: expected a positive integer, got \"many\""),
            (
                "rope_scaling",
                json!({"type": "yarn"}),
                "config: rope_scaling.type: yarn: only the default rope is computed",
            ),
            ("rms_norm_eps", json!(-1), "config: rms_norm_eps: -1: expected a number from 0 to 1"),
            ("rms_norm_eps", json!(1e6), "config: rms_norm_eps: 1000000: expected a number from 0 to 1"),
            ("rms_norm_eps", json!("1e-6"), "config: rms_norm_eps: expected a number, got \"1e-6\""),
            ("initializer_range", json!(-0.5), "config: initializer_range: -0.5: expected a number of at least 0"),
            ("pad_token_id", json!(512), "config: pad_token_id: 512: the vocabulary has 512 ids"),
            (
                "eos_token_id",
                json!([2, "x"]),
                "config: eos_token_id: expected a token id or a list of them, got [2,\"x\"]",
            ),
            (
                "eos_token_id",
                json!(1u64 << 40),
                "config: eos_token_id: expected a token id or a list of them, got 1099511627776",
            ),
            ("model_type", json!(7), "config: model_type: 7: only qwen3 checkpoints load"),
            (
                "head_dim",
                json!(4_294_967_294u32),
                "config: hidden_size: sizes of about 9.9e12 weights: at most 1.1e12 are counted",
            ),
            (
                "layer_types",
                json!(["full_attention", "sliding_attention"]),
                "config: layer_types: \"sliding_attention\": only full_attention is computed",
            ),
            (
                "quantization_config",
                json!({"quant_method": "fp8"}),
                "config: quantization_config: fp8: quantised checkpoints do not load\n  hint: take the checkpoint in bf16 that it \
              was made from",
            ),
        ] {
            let mut json = file();
            json[key] = value;
            assert_eq!(Qwen3Config::from_json(&json).unwrap_err().to_string(), expected);
        }
        let mut json = file();
        json.as_object_mut().unwrap().remove("hidden_size");
        let message = Qwen3Config::from_json(&json).unwrap_err().to_string();
        assert_eq!(message, "config: hidden_size: missing in config.json");
    }

    #[test]
    fn several_ends_are_read_and_written() {
        let mut json = file();
        for (stated, ids, written) in [
            (json!([5, 2]), vec![5, 2], json!([5, 2])),
            (json!([5]), vec![5], json!(5)),
            (json!(-1), vec![], Value::Null),
            (Value::Null, vec![], Value::Null),
        ] {
            json["eos_token_id"] = stated;
            let config = Qwen3Config::from_json(&json).unwrap();
            assert_eq!((&config.eos_token_ids, &config.to_json()["eos_token_id"]), (&ids, &written));
        }
    }

    #[test]
    fn parameter_counts_are_those_of_the_released_models() {
        let mut config = Qwen3Config::small(151_936, 1024, 28, (16, 8, 128), 3072);
        assert_eq!(config.parameters(), 596_049_920);
        config =
            Qwen3Config { tie_word_embeddings: false, ..Qwen3Config::small(151_936, 4096, 36, (32, 8, 128), 12_288) };
        assert_eq!(config.parameters(), 8_190_735_360);
    }
}
