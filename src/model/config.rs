//! The configuration of a Qwen3-architecture model, as `config.json` spells it.

use crate::error::{Error, Result};
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

    /// Reads a `config.json`; rotary settings in either spelling (`rope_theta` + `rope_scaling` of older files,
    /// `rope_parameters` of transformers 5).
    ///
    /// Errors: `Io`; `Config` naming the key that is missing, of the wrong type or asks for something this
    /// architecture does not have.
    pub fn read(path: &Path) -> Result<Qwen3Config> {
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        let json: Value = serde_json::from_str(&text).map_err(|e| Error::Config {
            field: path.display().to_string(),
            problem: format!("not JSON: {e}"),
            hint: None,
        })?;
        Qwen3Config::from_json(&json)
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
        // what the file may ask for and these layers do not compute
        if let Some(kind) = json.get("model_type").and_then(Value::as_str).filter(|k| *k != "qwen3") {
            return Err(bad("model_type", format!("{kind}: only qwen3 checkpoints load")));
        }
        if let Some(act) = json.get("hidden_act").and_then(Value::as_str).filter(|a| *a != "silu") {
            return Err(bad("hidden_act", format!("{act}: only silu is computed")));
        }
        if flag("attention_bias", false)? {
            return Err(bad("attention_bias", "true: projections here have no bias".to_string()));
        }
        let sliding = |v: &Value| v.as_array().is_some_and(|a| a.iter().any(|t| t != "full_attention"));
        if flag("use_sliding_window", false)? || json.get("layer_types").is_some_and(sliding) {
            return Err(bad("layer_types", "sliding-window attention is not computed".to_string()));
        }
        let rope = json.get("rope_parameters").filter(|v| v.is_object());
        let scaling = rope.or(json.get("rope_scaling").filter(|v| v.is_object()));
        let kind = scaling.and_then(|r| r.get("rope_type").or(r.get("type"))).and_then(Value::as_str);
        if let Some(kind) = kind.filter(|k| *k != "default") {
            return Err(bad("rope_parameters.rope_type", format!("{kind}: only the default rope is computed")));
        }
        // transformers' Qwen3Config: theta 10000 and head_dim 128 where the file is silent
        let theta = number(json, "rope_theta", 10_000.0)?;
        let rope_theta = rope.map_or(Ok(theta), |r| number(r, "rope_theta", theta))?;
        let eos_token_ids = match json.get("eos_token_id") {
            None | Some(Value::Null) => vec![],
            Some(v) => {
                let ids = v.as_array().cloned().unwrap_or_else(|| vec![v.clone()]);
                let ids: Option<Vec<u32>> = ids.iter().map(|v| v.as_u64().map(|n| n as u32)).collect();
                ids.ok_or_else(|| bad("eos_token_id", format!("expected a token id or a list of them, got {v}")))?
            }
        };
        let heads = need("num_attention_heads")?;
        let mut other = json.as_object().cloned().unwrap_or_default();
        other.retain(|key, _| !OWN_KEYS.contains(&key.as_str()));
        let config = Qwen3Config {
            vocab_size: need("vocab_size")?,
            hidden_size: need("hidden_size")?,
            intermediate_size: need("intermediate_size")?,
            num_hidden_layers: need("num_hidden_layers")?,
            num_attention_heads: heads,
            num_key_value_heads: size("num_key_value_heads")?.unwrap_or(heads),
            head_dim: size("head_dim")?.unwrap_or(128),
            rms_norm_eps: number(json, "rms_norm_eps", 1e-6)?,
            rope_theta,
            tie_word_embeddings: flag("tie_word_embeddings", false)?,
            max_position_embeddings: size("max_position_embeddings")?.unwrap_or(32_768),
            initializer_range: number(json, "initializer_range", 0.02)?,
            eos_token_ids,
            pad_token_id: json.get("pad_token_id").and_then(Value::as_u64).map(|id| id as u32),
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
        match sizes.iter().find(|(_, n)| *n == 0) {
            Some((field, _)) => bad(field, "0: must be positive".to_string()),
            None => Ok(()),
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
        let eos = match self.eos_token_ids[..] {
            [] => Value::Null,
            [one] => json!(one),
            _ => json!(self.eos_token_ids),
        };
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
            "eos_token_id": eos,
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
                "config: rope_parameters.rope_type: yarn: only the default rope is computed",
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
    fn parameter_counts_are_those_of_the_released_models() {
        let mut config = Qwen3Config::small(151_936, 1024, 28, (16, 8, 128), 3072);
        assert_eq!(config.parameters(), 596_049_920);
        config =
            Qwen3Config { tie_word_embeddings: false, ..Qwen3Config::small(151_936, 4096, 36, (32, 8, 128), 12_288) };
        assert_eq!(config.parameters(), 8_190_735_360);
    }
}
