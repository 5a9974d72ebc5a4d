//! Ctrl-C at any moment ends a command within two seconds, and what follows is as if it had not come.
#![cfg(unix)]

mod support;

use gr2::tensor::stream;
use rand::RngExt;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use support::{fixture, smoke};

/// How long a signal may take: two seconds, and one for the writing of a checkpoint on a busy machine.
const PROMPT: Duration = Duration::from_secs(3);

fn interrupt(child: &Child) {
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill").success());
}

/// Interrupts a command. Returns its exit code and standard error, and how long it took to end.
fn interrupted(mut child: Child) -> (Option<i32>, String, Duration) {
    let started = Instant::now();
    interrupt(&child);
    while child.try_wait().expect("asks").is_none() {
        if started.elapsed() > 10 * PROMPT {
            child.kill().expect("kills");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let taken = started.elapsed();
    let output = child.wait_with_output().expect("ends");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned(), taken)
}

/// Long stages and no checkpoint but those of interrupts.
const SETTINGS: [&str; 14] = [
    "sid.rqvae.epochs=60",
    "base.train.checkpoint_seconds=3600",
    "base.train.epochs=20",
    "midtrain.train.checkpoint_seconds=3600",
    "midtrain.train.epochs=6",
    "slates.source=model",
    "sft.train.checkpoint_seconds=3600",
    "sft.train.epochs=8",
    "dapo.checkpoint_seconds=3600",
    "dapo.steps=3",
    "dapo.validate_slates=10",
    "eval.slates=50",
    "eval.resamples=2000",
    "dapo.minibatches=1",
];

fn start(out: &Path) -> Child {
    let settings = SETTINGS.iter().flat_map(|setting| ["--set", setting]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_gr2"));
    command.arg("run").arg(smoke::path()).args(["--device", "cpu", "--out"]).arg(out).args(settings);
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("starts gr2")
}

/// The files of a run but those that hold times.
fn files(out: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = smoke::files(out);
    let clocked = ["metrics.jsonl", "manifest.json", "run.json", "report.json", "report.html"];
    found.retain(|name, _| !clocked.iter().any(|end| name.ends_with(end)) && !name.starts_with(".gr2"));
    found
}

#[test]
fn interrupts_at_any_moment_change_nothing() {
    let root = tempfile::tempdir().expect("temporary directory");
    let [whole, often] = ["whole", "often"].map(|name| root.path().join(name));
    let started = Instant::now();
    let output = start(&whole).wait_with_output().expect("ends");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let all = started.elapsed();

    let (mut stopped, mut stages) = (0, std::collections::BTreeSet::new());
    for number in 0..10 {
        let child = start(&often);
        let part: f64 = stream(7, "interrupts", number, 0).random_range(0.05..0.3);
        std::thread::sleep(all.mul_f64(part).max(Duration::from_millis(100)));
        let (code, text, taken) = interrupted(child);
        if code == Some(0) {
            break;
        }
        assert!(code == Some(130) && taken < PROMPT, "{code:?} after {taken:?}: {text}");
        let last = text.trim_end().lines().last().unwrap_or("");
        assert!(last.starts_with("error: ") && last.contains(": interrupted; rerun the same"), "{text}");
        stages.insert(last.to_string());
        stopped += 1;
    }
    assert!(stopped >= 4 && stages.len() >= 2, "{stopped} interrupts of a run of {all:?}: {stages:?}");
    let output = start(&often).wait_with_output().expect("ends");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));

    let (expected, found) = (files(&whole), files(&often));
    assert!(expected.keys().eq(found.keys()), "{:?} and {:?}", expected.keys(), found.keys());
    for (name, bytes) in &expected {
        assert!(*bytes == found[name], "{name} differs");
    }
    assert!(expected.keys().filter(|name| name.ends_with(".safetensors")).count() >= 10, "{:?}", expected.keys());
}

#[test]
fn what_cannot_ask_is_ended_from_outside() {
    let root = tempfile::tempdir().expect("temporary directory");
    let (model, pipe) = (fixture("qwen3-tied"), root.path().join("pipe"));
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
    // a pipe that nobody comes to read keeps its writer waiting
    let wait = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gr2"));
        command.args(["logits", "--tokens", "1", "--device", "cpu", "--model"]).arg(&model).arg("--out").arg(&pipe);
        let child = command.stderr(Stdio::piped()).spawn().expect("starts gr2");
        std::thread::sleep(Duration::from_secs(1));
        child
    };
    let (code, text, taken) = interrupted(wait());
    assert!(code == Some(130) && taken < PROMPT, "{code:?} after {taken:?}: {text}");
    assert_eq!(text, "stopping; once more to stop at once\nerror: logits: interrupted\n");

    // a second signal is answered at once
    let child = wait();
    interrupt(&child);
    std::thread::sleep(Duration::from_millis(200));
    let (code, text, taken) = interrupted(child);
    assert!(code == Some(130) && taken < Duration::from_secs(1), "{code:?} after {taken:?}: {text}");
    assert_eq!(text, "stopping; once more to stop at once\n");
}
