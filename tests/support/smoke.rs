//! The smoke configuration, and what run directories hold.

use gr2::pipeline::{RunConfig, RunDir, Stage, run_stage};
use gr2_kernels::Device;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The configuration file.
pub fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/smoke.toml")
}

/// The configuration with settings laid over it.
pub fn config(settings: &[&str]) -> RunConfig {
    let settings: Vec<String> = settings.iter().map(|s| s.to_string()).collect();
    RunConfig::read(&path(), &settings).unwrap_or_else(|e| panic!("configs/smoke.toml: {e}"))
}

/// A configuration of its own.
pub fn parse(text: &str, settings: &[&str]) -> RunConfig {
    let settings: Vec<String> = settings.iter().map(|s| s.to_string()).collect();
    RunConfig::parse(text, "test.toml", &settings).unwrap_or_else(|e| panic!("{e}"))
}

/// Runs stages in `root`.
pub fn run(stages: &[Stage], config: &RunConfig, root: &Path, device: &Device) {
    let run = RunDir::open(root).expect("run directory");
    for &stage in stages {
        run_stage(stage, config, &run, device).unwrap_or_else(|e| panic!("{} on {device}: {e}", stage.name()));
    }
}

/// The contents of every file below `root`, by relative path.
pub fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(root).expect("below the root").display().to_string();
                found.insert(name, std::fs::read(&path).expect("a file"));
            }
        }
    }
    found
}

/// Copies every file below `from` to `to`.
pub fn copy(from: &Path, to: &Path) {
    for (name, bytes) in files(from) {
        let path = to.join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("directory");
        std::fs::write(path, bytes).expect("copies");
    }
}

/// A JSON file.
pub fn json(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// One number of every line of a file of JSON lines.
pub fn column(path: &Path, key: &str) -> Vec<f64> {
    let lines: Vec<Value> = gr2::files::read_jsonl(path).unwrap_or_else(|e| panic!("{e}"));
    let number =
        |line: &Value| line[key].as_f64().unwrap_or_else(|| panic!("{}: {key}: {}", path.display(), line[key]));
    lines.iter().map(number).collect()
}
