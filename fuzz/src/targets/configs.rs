//! Settings: run configurations with what is laid over them, manifests, measured choices.

use gr2::gpu_cache::parse_choices;
use gr2::pipeline::{RunConfig, RunDir, Stage};
use std::path::Path;

use crate::{SLOW, Scratch, Target, Verdict, join, parts};

/// A TOML file, and a line for each `--set`.
pub const RUN_CONFIG: Target = Target {
    name: "run_config",
    seeds: || {
        let smoke = include_bytes!("../../../configs/smoke.toml");
        let own = br#"name = "x"
[data]
source = "lcrec"
dir = "/data"
k_core = 5
[sid]
embedding = { file = "e.npy" }
[slates]
source = { file = { train = "a", test = "b" } }
[traces]
teacher = "http"
[traces.http]
base_url = "http://localhost:8000/v1"
model = "m"
extra = { chat_template_kwargs = { enable_thinking = false } }
"#;
        let settings = b"dapo.steps=7\nname=office run\nslates.size=10\nmidtrain.mix.list=0.5\neval.slates=12";
        let spelt_out = serde_json::to_value(RunConfig::default()).expect("serialises");
        let all = settings_of(&spelt_out, "").join("\n");
        vec![join(&[smoke, settings]), join(&[own, b""]), join(&[b"", all.as_bytes()])]
    },
    slow: SLOW,
    words: &[
        "data",
        "sid",
        "base",
        "midtrain",
        "slates",
        "prompt",
        "traces",
        "sft",
        "dapo",
        "eval",
        "train",
        "lr",
        "[[",
        "]]",
        "=",
        ".",
        "\"\"\"",
        "1979-05-27T07:32:00Z",
        "inf",
        "nan",
        "-inf",
        "0x7fffffffffffffff",
        "1e400",
        "\"file\"",
        "dapo.lr=nan",
        "dapo.steps=-1",
        "sid.levels=27",
        "a.b.c=1",
        "=",
        "x",
        "data.source=\"shop\"",
        "warmup_steps",
        "batch_tokens",
        "epochs",
        "size",
        "max_new_tokens",
        "group_size",
    ],
    reader: || {
        Box::new(|input| {
            let [text, settings] = parts(input);
            let [text, settings] = [text, settings].map(String::from_utf8_lossy);
            let settings: Vec<String> = settings.lines().map(str::to_owned).collect();
            let read = RunConfig::parse(&text, "run.toml", &settings);
            if let Ok(config) = &read {
                config.validate().expect("what was read is valid");
                let json = serde_json::to_string(config).expect("a configuration has a JSON form");
                assert!(json.starts_with('{'));
            }
            Verdict::of(read, |config| config.name.len())
        })
    },
};

/// Every number, flag and text of a configuration as `a.b=value`.
fn settings_of(value: &serde_json::Value, name: &str) -> Vec<String> {
    match value {
        serde_json::Value::Object(fields) => {
            let inside = |(key, value): (&String, &serde_json::Value)| match name {
                "" => settings_of(value, key),
                _ => settings_of(value, &format!("{name}.{key}")),
            };
            fields.iter().flat_map(inside).collect()
        }
        serde_json::Value::Null => vec![],
        other => vec![format!("{name}={other}")],
    }
}

/// A run directory with the result of one stage, which is looked at, made again where it must be, and published into.
fn open_and_make(root: &Path, config: &RunConfig) -> gr2::Result<usize> {
    let run = RunDir::open(root)?;
    let body = |folder: &Path| gr2::files::write_atomic(folder.join("counts.json"), RESULT);
    run.make(Stage::Data, config, "cpu", body)?;
    run.publish("config.toml", b"name = 'x'")?;
    Ok(run.seconds()?.len() + 10 * run.kept()?.len())
}

const RESULT: &[u8] = b"{\"name\": \"shop\"}";

/// `manifest.json` of a stage, and the run's marker.
pub const RUN_DIRECTORY: Target = Target {
    name: "run_directory",
    seeds: || {
        let folder = Scratch::new();
        open_and_make(folder.path(), &RunConfig::default()).expect("an empty folder");
        let read = |name: &str| std::fs::read(folder.path().join(name)).expect("was written");
        vec![join(&[&read("data/manifest.json"), &read("run.json")])]
    },
    slow: SLOW,
    words: &[
        "stage",
        "key",
        "config",
        "seed",
        "device",
        "finished",
        "seconds",
        "data",
        "eval",
        "sid",
        "files",
        "bytes",
        "sha256",
        "counts.json",
        "../run.json",
        "/dev/null",
        "manifest.json",
        "program",
        "format",
        "written",
        "config.toml",
    ],
    reader: || {
        let folder = Scratch::new();
        let root = folder.path().join("run");
        let config = RunConfig::default();
        Box::new(move |input| {
            let [manifest, marker] = parts(input);
            let _ = std::fs::remove_dir_all(root.join("kept"));
            folder.put("run/data/manifest.json", manifest);
            folder.put("run/data/counts.json", RESULT);
            folder.put_if_any("run/run.json", marker);
            Verdict::of(open_and_make(&root, &config), |results| results)
        })
    },
};

/// What `gr2 tune` measured.
pub const GPU_CHOICES: Target = Target {
    name: "gpu_choices",
    seeds: || {
        let saved = br#"{
  "key": {"adapter": "A (Vulkan)", "driver": "1.2", "kernels": "00ff", "matrix_units": false},
  "products": [
    {"layout": "nt", "m": 1, "n": 64, "k": 32, "stored": "f32", "way": "tiled", "ms": 0.5, "rule": "tiled", "rule_ms": null},
    {"layout": "nn", "m": 128, "n": 64, "k": 32, "stored": "bf16", "way": "few rows", "ms": null, "rule": "tiled", "rule_ms": 1.5}
  ]
}"#;
        vec![saved.to_vec()]
    },
    slow: SLOW,
    words: &["key", "products", "layout", "stored", "way", "rule", "nn", "nt", "tn", "f32", "f16", "bf16", "ms"],
    reader: || Box::new(|input| Verdict::of(parse_choices(input), |choices| choices.len())),
};
