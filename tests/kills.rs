//! A small run that is killed at random moments, and resumed: its report and models are those of a run that was left alone, bit
//! for bit, and nothing temporary is left. Long, so only when asked for:
//!
//! ```text
//! cargo test --release --test kills -- --ignored --nocapture     # 50 kills; GR2_KILLS, GR2_KILLS_SEED
//! ```
#![cfg(unix)]

mod support;

use gr2::pipeline::STAGES;
use rand::RngExt;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use support::smoke;

/// A checkpoint after every update.
const SETTINGS: [&str; 8] = [
    "base.train.checkpoint_seconds=0",
    "base.train.epochs=4",
    "midtrain.train.checkpoint_seconds=0",
    "midtrain.train.epochs=2",
    "sft.train.checkpoint_seconds=0",
    "sft.train.epochs=2",
    "dapo.checkpoint_seconds=0",
    "eval.slates=8",
];

/// What a run starts before its first stage, as the stage that was killed.
const BEFORE: &str = "before";

fn start(out: &Path) -> Child {
    let settings = SETTINGS.iter().flat_map(|setting| ["--set", setting]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_gr2"));
    command.arg("run").arg(smoke::path()).args(["--device", "cpu", "--out"]).arg(out).args(settings);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts gr2")
}

/// Waits until `end` for a child to end by itself.
fn ends_before(child: &mut Child, end: Instant) -> Option<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait().expect("asks") {
            return Some(status);
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        std::thread::sleep(left.min(Duration::from_millis(1)));
    }
}

/// The first stage without a finished result.
fn stage_at_work(out: &Path) -> &'static str {
    let manifest = |name: &str| std::fs::read(out.join(name).join("manifest.json")).ok();
    let finished = |text: Vec<u8>| serde_json::from_slice::<Value>(&text).is_ok_and(|m| m["finished"] == true);
    let mut stages = STAGES.iter().map(|stage| stage.name());
    match stages.find(|name| !manifest(name).is_some_and(finished)) {
        Some(_) if !out.join("config.toml").exists() => BEFORE,
        Some(name) => name,
        None => "after",
    }
}

/// Every file and folder below `root`.
fn names(root: &Path) -> Vec<String> {
    let (mut found, mut folders) = (vec![], vec![root.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a directory") {
            let path = entry.expect("an entry").path();
            found.push(path.strip_prefix(root).expect("below the root").display().to_string());
            if path.is_dir() {
                folders.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The report without what a clock measured.
fn report(out: &Path) -> Value {
    let mut report = smoke::json(&out.join("report.json"));
    report.as_object_mut().expect("an object").remove("seconds").expect("seconds of the stages");
    report
}

/// When each stage of a run of this `length` begins and how long it takes, in seconds: kills are spread over stages, not over time.
fn windows(out: &Path, length: Duration) -> Vec<(f64, f64)> {
    let manifest = |name: &str| smoke::json(&out.join(name).join("manifest.json"));
    let seconds = |name: &str| manifest(name)["seconds"].as_f64().expect("seconds of a stage");
    let took: Vec<f64> = STAGES.iter().map(|stage| seconds(stage.name())).collect();
    // what is left is spent between stages
    let between = (length.as_secs_f64() - took.iter().sum::<f64>()).max(0.0) / took.len() as f64;
    let begin = |at: usize| took[..at].iter().sum::<f64>() + between * (at + 1) as f64;
    (0..took.len()).map(|at| (begin(at) - between, took[at] + between)).collect()
}

/// Names of the files that a clock has no part in and that differ.
fn differing(whole: &BTreeMap<String, Vec<u8>>, out: &Path) -> Vec<String> {
    let clocked = ["metrics.jsonl", "manifest.json", "report.json", "report.html", "run.json"];
    let found = smoke::files(out);
    let compared = whole.iter().filter(|(name, _)| !clocked.iter().any(|clocked| name.ends_with(clocked)));
    compared.filter(|(name, bytes)| found.get(*name) != Some(bytes)).map(|(name, _)| name.clone()).collect()
}

fn number_from(variable: &str, default: u64) -> u64 {
    let given = std::env::var(variable).ok();
    given.map_or(default, |text| text.parse().unwrap_or_else(|e| panic!("{variable}={text}: {e}")))
}

#[test]
#[ignore = "takes minutes: see the head of the file"]
fn runs_killed_at_random_moments_end_as_one_that_was_not() {
    let (kills, seed) = (number_from("GR2_KILLS", 50), number_from("GR2_KILLS_SEED", 1));
    let started = Instant::now();
    let root = tempfile::tempdir().expect("temporary directory");
    let whole = root.path().join("whole");
    assert!(start(&whole).wait().expect("waits").success(), "a run that is left alone fails");
    let length = started.elapsed();
    let (expected, expected_names, expected_report) = (smoke::files(&whole), names(&whole), report(&whole));
    let windows = windows(&whole, length);
    let models = expected.keys().filter(|name| name.ends_with(".safetensors")).count();
    // weights and moments of base, midtrain, sft and dapo, and dapo's best and last model
    assert_eq!(models, 10, "{expected_names:?}");

    let mut by_stage: BTreeMap<&str, u64> = BTreeMap::new();
    let (mut equal, mut left) = (0, 0);
    for kill in 0..kills {
        let out = root.path().join(format!("killed-{kill}"));
        let mut rng = gr2::tensor::stream(seed, "kills", 0, kill);
        // a run that was done before its moment came was not killed: another moment
        let moment = loop {
            let (begin, took) = windows[kill as usize % windows.len()];
            let moment = Duration::from_secs_f64(begin + took * rng.random::<f64>());
            let mut child = start(&out);
            if ends_before(&mut child, Instant::now() + moment).is_none() {
                child.kill().expect("kills");
                child.wait().expect("waits");
                break moment;
            }
            std::fs::remove_dir_all(&out).expect("removes a whole run");
        };
        let stage = stage_at_work(&out);
        *by_stage.entry(stage).or_default() += 1;
        let status = start(&out).wait().expect("waits");
        let same = status.success() && report(&out) == expected_report;
        let differing = if status.success() { differing(&expected, &out) } else { vec![] };
        let found_names = names(&out);
        let more: Vec<&String> = found_names.iter().filter(|name| !expected_names.contains(name)).collect();
        let seconds = moment.as_secs_f64();
        println!(
            "kill {kill:>3} after {seconds:>6.3} s in {stage:<9} resumed: {status}, same report: {same}, other files: {differing:?}, left over: {more:?}"
        );
        equal += u64::from(same && differing.is_empty());
        left += u64::from(!more.is_empty());
        std::fs::remove_dir_all(&out).expect("removes a run");
    }
    let stages: Vec<String> = by_stage.iter().map(|(stage, kills)| format!("{stage} {kills}")).collect();
    println!(
        "{kills} kills ({}), {equal} equal reports and models, {left} with something left over, a run of {:.1} s, {:.0} s in all",
        stages.join(", "),
        length.as_secs_f64(),
        started.elapsed().as_secs_f64()
    );
    assert_eq!((equal, left), (kills, 0));
}
