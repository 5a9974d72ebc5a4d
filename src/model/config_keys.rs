//! Keys of a `config.json` that take more than a look: token ids, quantisation, windows.

use crate::error::{Error, Result};
use serde_json::{Value, json};

/// Token ids as configuration files write them: nothing, one, or a list.
pub(crate) fn one_or_many(ids: &[u32]) -> Value {
    match ids {
        [] => Value::Null,
        [one] => json!(one),
        _ => json!(ids),
    }
}

/// Token ids that a configuration file states: none, one, or a list. Negative ones stand for "none" in old files.
///
/// Errors: what was found instead.
pub(crate) fn token_ids(stated: Option<&Value>) -> std::result::Result<Vec<u32>, String> {
    let stated = match stated {
        None | Some(Value::Null) => return Ok(vec![]),
        Some(stated) => stated,
    };
    let wrong = || format!("expected a token id or a list of them, got {stated}");
    let ids = stated.as_array().map_or(std::slice::from_ref(stated), Vec::as_slice);
    let mut found = vec![];
    for id in ids.iter().filter(|id| !id.is_null()) {
        match id.as_i64().ok_or_else(wrong)? {
            i64::MIN..0 => {}
            id => found.push(u32::try_from(id).map_err(|_| wrong())?),
        }
    }
    Ok(found)
}

/// How the weights are quantised, if they are.
pub(super) fn quantised(json: &Value) -> Option<String> {
    // `quantization` is of MLX, `compression_config` of older compressed-tensors
    ["quantization_config", "compression_config", "quantization"].iter().find_map(|key| {
        let settings = json.get(*key).filter(|v| !v.is_null() && v.as_object().is_none_or(|o| !o.is_empty()))?;
        let method = settings.get("quant_method").and_then(Value::as_str);
        Some(method.map_or_else(|| format!("{key} without a quant_method"), str::to_owned))
    })
}

/// The key that makes a layer attend to a window only, if there is one.
///
/// Source: transformers Qwen3Config: `layer_types`, or else the layers from `max_window_layers` on where windows are used.
pub(super) fn slides(json: &Value, layers: usize, used: bool) -> Result<Option<(&'static str, String)>> {
    let bad = |field: &str, problem: String| Error::Config { field: field.into(), problem, hint: None };
    let number = |key: &str, default: u64| match json.get(key) {
        None | Some(Value::Null) => Ok(default),
        Some(v) => v.as_u64().ok_or_else(|| bad(key, format!("expected a number of at least 0, got {v}"))),
    };
    match json.get("layer_types") {
        None | Some(Value::Null) => {
            let (window, from) = (number("sliding_window", 4096)?, number("max_window_layers", 28)?);
            let null = json.get("sliding_window").is_some_and(Value::is_null);
            let some = used && !null && from < layers as u64;
            Ok(some.then(|| {
                (
                    "use_sliding_window",
                    format!("true: layers from {from} on see {window} tokens only, which is not computed"),
                )
            }))
        }
        Some(Value::Array(types)) => {
            let other = types.iter().take(layers).find(|kind| *kind != "full_attention");
            Ok(other.map(|kind| ("layer_types", format!("{kind}: only full_attention is computed"))))
        }
        Some(other) => Err(bad("layer_types", format!("expected a list, got {other}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_refused_where_a_layer_slides() {
        let slides = |change: Value| {
            let mut json = json!({"vocab_size": 512, "hidden_size": 48, "intermediate_size": 112, "num_hidden_layers": 2,
                                  "num_attention_heads": 4, "head_dim": 24});
            json.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            super::super::Qwen3Config::from_json(&json).is_err()
        };
        let full = json!(["full_attention", "full_attention"]);
        for harmless in [
            json!({"use_sliding_window": false, "sliding_window": 4096, "max_window_layers": 0}),
            json!({"use_sliding_window": true, "sliding_window": 4096, "max_window_layers": 2}),
            json!({"use_sliding_window": true, "sliding_window": null, "max_window_layers": 0}),
            json!({"use_sliding_window": true, "sliding_window": 4096}),
            json!({"layer_types": ["full_attention", "full_attention", "sliding_attention"]}),
            json!({"use_sliding_window": true, "sliding_window": 4096, "max_window_layers": 0, "layer_types": full}),
        ] {
            assert!(!slides(harmless.clone()), "{harmless}");
        }
        for sliding in [
            json!({"use_sliding_window": true, "sliding_window": 4096, "max_window_layers": 1}),
            json!({"use_sliding_window": true, "max_window_layers": 0}),
            json!({"layer_types": ["sliding_attention", "full_attention"]}),
            json!({"layer_types": "full_attention"}),
            json!({"use_sliding_window": "yes"}),
        ] {
            assert!(slides(sliding.clone()), "{sliding}");
        }
    }
}
