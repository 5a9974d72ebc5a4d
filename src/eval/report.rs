//! What a run found, collected from its stages: `report.json` and `report.html`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::html::{SampleView, StageLog, render_html};
use crate::error::{Error, Result};
use crate::files::write_atomic;

/// Under what conditions the numbers of a report were measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Name of the run, as in `demo` or `office`.
    pub name: String,
    /// Filtering, split and candidates in one line; metrics of another protocol are not comparable.
    pub protocol: String,
    /// The seed.
    pub seed: u64,
    /// Device and adapter.
    pub device: String,
    /// Versions beside this program's own, which is added.
    pub versions: BTreeMap<String, String>,
    /// The whole validated configuration.
    pub config: Value,
}

/// The report of a run: one object of sections, in the order in which they were added.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    root: Map<String, Value>,
}

impl Report {
    /// A report of `run` without results: `name`, `protocol`, `seed`, `device`, `versions` and `config`.
    pub fn new(run: &Run) -> Self {
        let mut versions = run.versions.clone();
        versions.insert(env!("CARGO_PKG_NAME").into(), env!("CARGO_PKG_VERSION").into());
        let mut root = Map::new();
        root.insert("name".into(), run.name.clone().into());
        root.insert("protocol".into(), run.protocol.clone().into());
        root.insert("seed".into(), run.seed.into());
        root.insert("device".into(), run.device.clone().into());
        root.insert("versions".into(), json!(versions));
        root.insert("config".into(), run.config.clone());
        Self { root }
    }

    /// Adds the results of a stage under `name`; a section that is there already gets the new keys.
    ///
    /// Sections others read: `sid` (`unique_sids`, `unique_items`), `midtrain` (the catalogue metrics) and `rerank`
    /// ([`RerankEvaluation::section`](super::RerankEvaluation::section)).
    /// Errors: `Run` if `results` is no JSON object, or if `name` is one of the keys that [`Report::new`] sets.
    pub fn section(&mut self, name: &str, results: &impl Serialize) -> Result<()> {
        let refuse = |problem: String| Error::Run { stage: "eval".into(), problem, hint: None };
        if ["name", "protocol", "seed", "device", "versions", "config"].contains(&name) {
            return Err(refuse(format!("report section `{name}`: the name is taken by the conditions of the run")));
        }
        let results = serde_json::to_value(results).map_err(|e| refuse(format!("report section `{name}`: {e}")))?;
        let Value::Object(results) = results else {
            return Err(refuse(format!("report section `{name}`: expected an object of results, got {results}")));
        };
        if let Value::Object(section) = self.root.entry(name).or_insert_with(|| json!({})) {
            section.extend(results);
        }
        Ok(())
    }

    /// The section `name`, if there is one.
    pub fn get(&self, name: &str) -> Option<&Map<String, Value>> {
        self.root.get(name)?.as_object()
    }

    /// All keys and sections.
    pub fn root(&self) -> &Map<String, Value> {
        &self.root
    }

    /// Writes `report.json` and `report.html` into `directory`, each atomically.
    ///
    /// Errors: `Io` with the path.
    pub fn write(&self, directory: &Path, logs: &[StageLog], samples: &[SampleView]) -> Result<()> {
        let json = format!("{:#}\n", Value::Object(self.root.clone()));
        write_atomic(directory.join("report.json"), json)?;
        write_atomic(directory.join("report.html"), render_html(&self.root, logs, samples))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> Run {
        Run {
            name: "demo".into(),
            protocol: "5-core, leave-one-out".into(),
            seed: 1,
            device: "cpu".into(),
            versions: BTreeMap::new(),
            config: json!({"data": {"kind": "shop"}}),
        }
    }

    #[test]
    fn sections_are_nested_merged_and_written() {
        let mut report = Report::new(&run());
        report.section("sid", &json!({"unique_sids": 1.0})).unwrap();
        report.section("sid", &json!({"unique_items": 0.99})).unwrap();
        let dir = tempfile::tempdir().unwrap();
        report.write(dir.path(), &[], &[]).unwrap();
        let written = std::fs::read_to_string(dir.path().join("report.json")).unwrap();
        let value: Value = serde_json::from_str(&written).unwrap();
        assert_eq!(value["sid"], json!({"unique_sids": 1.0, "unique_items": 0.99}));
        assert_eq!((&value["seed"], &value["versions"]["gr2"]), (&json!(1), &json!(env!("CARGO_PKG_VERSION"))));
        let keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["name", "protocol", "seed", "device", "versions", "config", "sid"]);
        assert!(std::fs::read_to_string(dir.path().join("report.html")).unwrap().contains("5-core, leave-one-out"));
    }

    #[test]
    fn what_is_no_section_is_refused() {
        let mut report = Report::new(&run());
        assert!(
            report.section("sid", &json!(3)).unwrap_err().to_string().contains("expected an object of results, got 3")
        );
        assert!(report.section("config", &json!({})).is_err());
        assert!(report.get("sid").is_none());
    }
}
