//! The rotary settings of a `config.json`, in every spelling: `rope_theta`, `rope_scaling` and `rope_parameters`, the last two
//! flat or by layer type, with `rope_type` or `type`.
//!
//! transformers 5 lets `rope_scaling` replace `rope_parameters`, 4 does not know the latter. Here everything that a file
//! states counts, and what contradicts itself is refused: no reader then computes another model than the next.

use crate::error::{Error, Result};
use serde_json::{Map, Value};

/// Types of layers that a table by layer type may speak of. Only full attention is computed; others are passed over, since
/// no layer is of them.
const FULL: &str = "full_attention";
const OTHERS: [&str; 3] = ["sliding_attention", "chunked_attention", "linear_attention"];

/// θ where the file is silent.
///
/// Source: transformers Qwen3Config.
const DEFAULT_THETA: f64 = 10_000.0;

/// θ of the default rotary embedding.
///
/// Errors: `Config` naming the key, for anything but the default embedding, for a key that would change it, for values
/// that disagree, and for a θ below 1.
pub(super) fn theta(json: &Value) -> Result<f64> {
    let mut found = Found::default();
    found.number("rope_theta", json.get("rope_theta"))?;
    factor("partial_rotary_factor", json.get("partial_rotary_factor"))?;
    for key in ["rope_parameters", "rope_scaling"] {
        match json.get(key) {
            None | Some(Value::Null) => {}
            Some(Value::Object(table)) => found.table(key, table)?,
            Some(other) => return Err(bad(key, format!("expected an object, got {other}"))),
        }
    }
    Ok(found.0.map_or(DEFAULT_THETA, |(_, theta)| theta))
}

/// The first θ that was stated, with the key that stated it.
#[derive(Default)]
struct Found(Option<(String, f64)>);

impl Found {
    fn table(&mut self, name: &str, table: &Map<String, Value>) -> Result<()> {
        // the type explains what stands beside it
        let (types, others): (Vec<_>, Vec<_>) =
            table.iter().partition(|(key, _)| matches!(key.as_str(), "rope_type" | "type"));
        for (key, value) in types.into_iter().chain(others) {
            let path = format!("{name}.{key}");
            match (key.as_str(), value) {
                (_, Value::Null) => {}
                (FULL, Value::Object(inner)) => self.table(&path, inner)?,
                (other, Value::Object(_)) if OTHERS.contains(&other) => {}
                ("rope_type" | "type", Value::String(kind)) if kind == "default" => {}
                ("rope_type" | "type", Value::String(kind)) => {
                    return Err(bad(&path, format!("{kind}: only the default rope is computed")));
                }
                ("rope_theta", value) => self.number(&path, Some(value))?,
                ("factor" | "attention_factor" | "partial_rotary_factor", value) => factor(&path, Some(value))?,
                // where every factor is 1 nothing is stretched, whatever the length was
                ("original_max_position_embeddings", Value::Number(_)) => {}
                (_, value) => {
                    return Err(bad(
                        &path,
                        format!("{value}: only the default rope is computed, which has no such setting"),
                    ));
                }
            }
        }
        Ok(())
    }

    fn number(&mut self, path: &str, value: Option<&Value>) -> Result<()> {
        let value = match value {
            None | Some(Value::Null) => return Ok(()),
            Some(value) => value,
        };
        let theta = value.as_f64().ok_or_else(|| bad(path, format!("expected a number, got {value}")))?;
        if !(theta >= 1.0 && theta.is_finite()) {
            return Err(bad(path, format!("{value}: expected a number of at least 1")));
        }
        match &self.0 {
            Some((first, other)) if *other != theta => {
                Err(bad(path, format!("{value}, but {first} is {other}; only one can be meant")))
            }
            Some(_) => Ok(()),
            None => {
                self.0 = Some((path.to_owned(), theta));
                Ok(())
            }
        }
    }
}

/// A factor that may be stated, but only as 1.
fn factor(path: &str, value: Option<&Value>) -> Result<()> {
    match value {
        None | Some(Value::Null) => Ok(()),
        Some(value) if value.as_f64() == Some(1.0) => Ok(()),
        Some(value) => Err(bad(path, format!("{value}: only the default rope is computed, which has a factor of 1"))),
    }
}

fn bad(field: &str, problem: String) -> Error {
    Error::Config { field: field.into(), problem, hint: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_spelling_of_the_default_is_computed() {
        for (json, expected) in [
            (json!({}), 1e4),
            (json!({"rope_theta": 5e5, "rope_scaling": null}), 5e5),
            (json!({"rope_theta": 1000000}), 1e6),
            (json!({"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}), 1e6),
            (
                json!({"rope_parameters": {"rope_theta": 1e6, "type": "default"}, "rope_theta": 1e6, "rope_scaling": {}}),
                1e6,
            ),
            (json!({"rope_scaling": {"type": "default", "rope_theta": 1e6}}), 1e6),
            (
                json!({"rope_scaling": {"rope_type": "default", "factor": 1.0}, "rope_parameters": {"rope_theta": 2e6}}),
                2e6,
            ),
            (json!({"rope_parameters": {"full_attention": {"rope_theta": 1e6}}}), 1e6),
            (
                json!({"rope_parameters": {"full_attention": {"rope_theta": 1e6, "rope_type": "default"},
                                        "sliding_attention": {"rope_theta": 1e4, "rope_type": "yarn"}}}),
                1e6,
            ),
            (json!({"partial_rotary_factor": 1, "rope_parameters": null}), 1e4),
        ] {
            assert_eq!(theta(&json).unwrap(), expected, "{json}");
        }
    }

    #[test]
    fn what_is_not_computed_or_contradicts_itself_is_refused_by_key() {
        for (json, field, problem) in [
            (
                json!({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}, "rope_parameters": {"rope_type": "default"}}),
                "rope_scaling.rope_type",
                "yarn: only the default rope is computed",
            ),
            (json!({"rope_scaling": {"factor": 2.0, "type": "linear"}}), "rope_scaling.type", "linear"),
            (json!({"rope_scaling": {"rope_type": "default", "type": "dynamic"}}), "rope_scaling.type", "dynamic"),
            (json!({"rope_parameters": {"rope_type": "llama3"}}), "rope_parameters.rope_type", "llama3"),
            (
                json!({"rope_parameters": {"full_attention": {"rope_type": "longrope"}}}),
                "full_attention.rope_type",
                "longrope",
            ),
            (json!({"rope_scaling": {"factor": 4.0}}), "rope_scaling.factor", "4.0: only the default rope"),
            (json!({"rope_scaling": {"mrope_section": [16, 24, 24]}}), "rope_scaling.mrope_section", "[16,24,24]"),
            (json!({"rope_parameters": {"rope_type": 3}}), "rope_parameters.rope_type", "3: only"),
            (json!({"rope_parameters": {"new": {"rope_theta": 1}}}), "rope_parameters.new", "no such setting"),
            (json!({"rope_parameters": {"partial_rotary_factor": 0.5}}), "partial_rotary_factor", "0.5: only"),
            (json!({"partial_rotary_factor": 0.5}), "partial_rotary_factor", "0.5: only"),
            (json!({"rope_scaling": "yarn"}), "rope_scaling", "expected an object, got \"yarn\""),
            (
                json!({"rope_theta": 1e4, "rope_parameters": {"rope_theta": 1e6}}),
                "rope_parameters.rope_theta",
                "but rope_theta is 10000",
            ),
            (json!({"rope_theta": "1e6"}), "rope_theta", "expected a number, got \"1e6\""),
            (json!({"rope_theta": 0}), "rope_theta", "0: expected a number of at least 1"),
            (json!({"rope_parameters": {"rope_theta": -1e6}}), "rope_parameters.rope_theta", "-1000000.0: expected"),
        ] {
            let message = theta(&json).unwrap_err().to_string();
            assert!(
                message.starts_with("config: ") && message.contains(&format!("{field}: {problem}"))
                    || message.contains(field) && message.contains(problem),
                "{json}: {message}"
            );
        }
    }
}
