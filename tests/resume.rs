//! Killed and resumed equals uninterrupted, bit for bit: the `gr2` program is killed in the middle of four stages, and
//! once asked to stop, and ends with the files of a run that was left alone.
#![cfg(unix)]

mod support;

use serde_json::Value;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use support::smoke;

/// A checkpoint after every update, and stages long enough to be stopped in the middle.
const SETTINGS: [&str; 8] = [
    "base.train.checkpoint_seconds=0",
    "base.train.epochs=30",
    "midtrain.train.checkpoint_seconds=0",
    "sft.train.checkpoint_seconds=0",
    "sft.train.epochs=8",
    "dapo.checkpoint_seconds=0",
    "dapo.steps=5",
    "eval.slates=8",
];

fn start(out: &Path) -> Child {
    let settings = SETTINGS.iter().flat_map(|setting| ["--set", setting]);
    Command::new(env!("CARGO_BIN_EXE_gr2"))
        .arg("run")
        .arg(smoke::path())
        .args(["--device", "cpu", "--out"])
        .arg(out)
        .args(settings)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts gr2")
}

/// Waits for the end. Returns the exit code and the standard error.
fn finish(mut child: Child) -> (Option<i32>, String) {
    let mut text = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut text).expect("text");
    (child.wait().expect("waits").code(), text)
}

/// Runs until the log of `stage` has so many lines.
fn run_until(out: &Path, stage: &str, lines: usize) -> Child {
    let log = out.join(stage).join("metrics.jsonl");
    let mut child = start(out);
    let started = Instant::now();
    loop {
        let found = std::fs::read(&log).map_or(0, |text| text.iter().filter(|&&byte| byte == b'\n').count());
        if found >= lines {
            return child;
        }
        if let Some(status) = child.try_wait().expect("asks") {
            panic!("{stage}: {status} before line {lines}: {}", finish(child).1);
        }
        assert!(started.elapsed() < Duration::from_secs(300), "{stage}: no line {lines} of its log");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn finished(out: &Path, stage: &str) -> bool {
    smoke::json(&out.join(stage).join("manifest.json"))["finished"] == true
}

/// What is measured with a clock, and so differs.
fn without_times(mut value: Value) -> Value {
    const CLOCKED: [&str; 5] = ["seconds", "tokens_per_s", "rollout_seconds", "update_seconds", "rollout_tokens_per_s"];
    if let Some(object) = value.as_object_mut() {
        object.retain(|key, _| !CLOCKED.contains(&key.as_str()));
        // a manifest has checksums of logs and reports
        if let Some(files) = object.get_mut("files").and_then(Value::as_object_mut) {
            files.retain(|name, _| name != "metrics.jsonl" && !name.starts_with("report."));
        }
    }
    value
}

/// Numbers may differ in the last bits: sums of an unfinished log line travel through decimal digits.
fn assert_same(what: &str, a: &Value, b: &Value) {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            assert!(a.keys().eq(b.keys()), "{what}: other keys");
            a.iter().for_each(|(key, value)| assert_same(&format!("{what}.{key}"), value, &b[key]));
        }
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64().expect("f64"), b.as_f64().expect("f64"));
            assert!((a - b).abs() <= 1e-12 * a.abs(), "{what}: {a} and {b}");
        }
        _ => assert_eq!(a, b, "{what}"),
    }
}

#[test]
fn a_run_that_was_killed_ends_as_one_that_was_not() {
    let root = tempfile::tempdir().expect("temporary directory");
    let [whole, resumed] = ["whole", "resumed"].map(|name| root.path().join(name));
    let (code, text) = finish(start(&whole));
    assert_eq!(code, Some(0), "{text}");

    for (stage, lines) in [("base", 1), ("midtrain", 2), ("sft", 3), ("dapo", 1), ("dapo", 3)] {
        let mut child = run_until(&resumed, stage, lines);
        child.kill().expect("kills");
        child.wait().expect("waits");
        assert!(!finished(&resumed, stage), "{stage} was finished before it was killed: the test shows nothing");
        // between the line and the kill there may be a few updates more, never the rest of the stage
        let steps = |root: &Path| smoke::column(&root.join(stage).join("metrics.jsonl"), "step").len();
        assert!(steps(&resumed) < steps(&whole), "{stage}");
    }
    // a polite request is answered by a checkpoint, exit code 130 and what to do
    let child = run_until(&resumed, "dapo", 4);
    let asked = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().expect("kill");
    assert!(asked.success());
    let (code, text) = finish(child);
    assert_eq!(code, Some(130), "{text}");
    assert!(text.contains("error: dapo: interrupted; rerun the same command to continue"), "{text}");

    let (code, text) = finish(start(&resumed));
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("sft: nothing changed, kept") && text.contains("dapo: continuing"), "{text}");

    let (expected, found) = (smoke::files(&whole), smoke::files(&resumed));
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "something unfinished is left");
    let mut compared = 0;
    for (name, bytes) in &expected {
        let records = |bytes: &[u8]| -> Vec<Value> {
            let values = serde_json::Deserializer::from_slice(bytes).into_iter();
            values.map(|value| without_times(value.unwrap_or_else(|e| panic!("{name}: {e}")))).collect()
        };
        if ["metrics.jsonl", "manifest.json", "report.json"].iter().any(|clocked| name.ends_with(clocked)) {
            let (a, b) = (records(bytes), records(&found[name]));
            assert_eq!(a.len(), b.len(), "{name}: lines");
            a.iter().zip(&b).enumerate().for_each(|(line, (a, b))| assert_same(&format!("{name}:{line}"), a, b));
        } else if !name.ends_with("report.html") && name != "run.json" {
            assert!(*bytes == found[name], "{name} differs");
            compared += usize::from(name.ends_with(".safetensors"));
        }
    }
    // weights and moments of base, midtrain, sft and dapo, and dapo's best and last model
    assert_eq!(compared, 10, "{:?}", expected.keys());
}
