//! All nine stages of `configs/smoke.toml`: the report others read, what a second run keeps and redoes, and the CPU
//! against a GPU.

mod support;

use gr2::pipeline::{RunConfig, RunDir, STAGES, Stage};
use gr2_kernels::Device;
use serde_json::Value;
use std::path::Path;
use std::time::SystemTime;
use support::{gpu, smoke};

const METRICS: [&str; 7] = ["recall@1", "recall@3", "recall@5", "recall@10", "ndcg@3", "ndcg@5", "ndcg@10"];

/// The number at a path of keys, which must be finite: JSON has no other numbers, NaN would be null.
fn number(report: &Value, keys: &[&str]) -> f64 {
    let value = keys.iter().fold(report, |at, key| &at[*key]);
    value.as_f64().unwrap_or_else(|| panic!("report.json: {}: expected a number, found {value}", keys.join(".")))
}

/// Every key of `report.json` that others read, with what holds of its value whatever was learnt.
fn check_report(root: &Path, device: &Device) {
    let report = smoke::json(&root.join("report.json"));
    let number = |keys: &[&str]| number(&report, keys);
    let share = |keys: &[&str]| {
        let value = number(keys);
        assert!((0.0..=1.0).contains(&value), "{}: {value} is no share", keys.join("."));
        value
    };
    assert!(share(&["sid", "unique_sids"]) >= 0.99);
    assert!(share(&["sid", "unique_items"]) >= 0.99);
    for metric in ["recall@5", "recall@10", "ndcg@5", "ndcg@10"] {
        share(&["midtrain", metric]);
    }
    assert!(share(&["midtrain", "recall@5"]) <= share(&["midtrain", "recall@10"]));
    for ranker in ["prerank", "random", "sft", "dapo"] {
        for metric in METRICS {
            share(&["rerank", ranker, metric]);
        }
        // every measured slate holds its target, and no slate has more than ten candidates
        assert_eq!(number(&["rerank", ranker, "recall@10"]), 1.0, "{ranker}");
    }
    for ranker in ["sft", "dapo"] {
        share(&["rerank", ranker, "valid_rate"]);
        share(&["rerank", ranker, "order_copy_rate"]);
        for metric in METRICS {
            let of = |bound| number(&["rerank", ranker, "delta_vs_prerank", metric, bound]);
            assert!(of("low") <= of("mean") && of("mean") <= of("high"), "{ranker} {metric}");
            let (own, before) = (number(&["rerank", ranker, metric]), number(&["rerank", "prerank", metric]));
            assert!(
                (of("mean") - (own - before)).abs() < 1e-9,
                "{ranker} {metric}: {} is not {own} - {before}",
                of("mean")
            );
        }
    }
    for stage in STAGES {
        for entry in std::fs::read_dir(root.join(stage.name())).expect("a stage's folder") {
            let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
            assert!(name == "manifest.json" || stage.writes().contains(&name.as_str()), "{}: {name}", stage.name());
        }
    }
    assert_eq!(report["device"], device.to_string());
    assert_eq!(report["config"]["name"], "smoke");
    let html = std::fs::read_to_string(root.join("report.html")).expect("report.html");
    assert!(html.contains("<svg") && html.contains("ndcg@5"), "report.html has no curves or no metrics");
}

/// When every file below `root` was last written.
fn times(root: &Path) -> Vec<(String, SystemTime)> {
    let written = |name: &String| std::fs::metadata(root.join(name)).and_then(|m| m.modified()).expect("a time");
    smoke::files(root).into_keys().map(|name| (name.clone(), written(&name))).collect()
}

#[test]
fn every_stage_runs_once_and_again_only_if_something_changed() {
    let root = tempfile::tempdir().expect("temporary directory");
    let root = root.path();
    smoke::run(STAGES, &smoke::config(&[]), root, &Device::Cpu);
    check_report(root, &Device::Cpu);
    // even at this size the answers are learnt, so that reinforcement has something to reinforce
    let report = smoke::json(&root.join("report.json"));
    assert!(number(&report, &["rerank", "sft", "valid_rate"]) > 0.5, "{}", report["rerank"]["sft"]);
    let kept = smoke::column(&root.join("dapo/metrics.jsonl"), "sampling_kept");
    assert!(kept.iter().sum::<f64>() > 0.0, "no group of rollouts had signal");

    let before = times(root);
    smoke::run(STAGES, &smoke::config(&[]), root, &Device::Cpu);
    assert_eq!(times(root), before, "a second run wrote something");

    let report = smoke::json(&root.join("report.json"));
    smoke::run(STAGES, &smoke::config(&["dapo.steps=1"]), root, &Device::Cpu);
    let redone = ["dapo/", "eval/", "kept/", "report.", "run.json"];
    let untouched = |times: Vec<(String, SystemTime)>| -> Vec<_> {
        times.into_iter().filter(|(name, _)| !redone.iter().any(|r| name.starts_with(r))).collect()
    };
    assert_eq!(untouched(times(root)), untouched(before), "a stage before dapo was touched");
    assert_eq!(smoke::column(&root.join("dapo/metrics.jsonl"), "step"), [1.0]);
    assert_ne!(smoke::json(&root.join("report.json")), report);

    // the result before is put back, its report with it
    smoke::run(STAGES, &smoke::config(&[]), root, &Device::Cpu);
    assert_eq!(smoke::column(&root.join("dapo/metrics.jsonl"), "step"), [1.0, 2.0]);
    assert_eq!(smoke::json(&root.join("report.json")), report);
}

/// Takes every stage for made, with nothing in it.
fn pretend(config: &RunConfig, root: &Path) -> Vec<Stage> {
    let run = RunDir::open(root).expect("run directory");
    let mut made = vec![];
    for &stage in STAGES {
        let body = |_: &Path| {
            made.push(stage);
            Ok(())
        };
        run.make(stage, config, "cpu", body).unwrap_or_else(|e| panic!("{}: {e}", stage.name()));
    }
    made
}

#[test]
fn a_setting_redoes_the_stages_that_read_it_and_those_after_them() {
    use Stage::*;
    let cases: [(&str, &[Stage]); 12] = [
        ("seed=2", STAGES),
        ("data.shop.seed=2", STAGES),
        ("sid.codes_per_level=16", &[Sid, Midtrain, Slates, Traces, Sft, Dapo, Eval]),
        ("base.hidden=48", &STAGES[2..]),
        // the base model's tokenizer learns from prompts
        ("prompt.history_items=3", &STAGES[2..]),
        ("slates.size=3", &STAGES[2..]),
        ("midtrain.contexts.beams=12", &STAGES[3..]),
        ("slates.held_back=0.2", &STAGES[4..]),
        ("traces.sampling.max_attempts=2", &STAGES[5..]),
        ("sft.train.epochs=3", &STAGES[6..]),
        ("dapo.steps=3", &STAGES[7..]),
        ("eval.resamples=50", &STAGES[8..]),
    ];
    for (setting, expected) in cases {
        let root = tempfile::tempdir().expect("temporary directory");
        assert_eq!(pretend(&smoke::config(&[]), root.path()), STAGES);
        assert_eq!(pretend(&smoke::config(&[]), root.path()), []);
        assert_eq!(pretend(&smoke::config(&[setting]), root.path()), expected, "{setting}");
    }
}

/// Small enough for a software adapter: ten updates a stage, of few tokens.
const BRIEF: &[&str] = &[
    "data.shop.users=60",
    "base.train.max_steps=10",
    "midtrain.train.max_steps=10",
    "midtrain.train.batch_tokens=512",
    "sft.train.max_steps=10",
    "sft.train.batch_tokens=512",
    // so brief a training leaves answers without an end, and DAPO without a signal
    "dapo.steps=0",
    "dapo.max_new_tokens=24",
    "dapo.overlong.max_length=24",
    "dapo.overlong.buffer=8",
    "dapo.validate_slates=2",
    "eval.slates=4",
];

/// Largest relative difference between a stage's log on two devices. Measured on lavapipe: losses within 8e-7, gradient
/// norms within 9e-6 (SFT), rollouts equal token by token; other adapters contract and order sums otherwise.
const AGREEMENT: f64 = 1e-4;

/// The first figure of a stage's log in which two devices differ by more than [`AGREEMENT`], if there is one.
fn difference(stage: &str, keys: &[&str], cpu: &Path, gpu: &Path) -> Option<String> {
    let log = |root: &Path| root.join(stage).join("metrics.jsonl");
    keys.iter().find_map(|key| {
        let (found, expected) = (smoke::column(&log(gpu), key), smoke::column(&log(cpu), key));
        assert!(!expected.is_empty(), "{stage}: no line");
        let (error, at) = support::worst_error(&found, &expected, 0.0);
        println!("{stage} {key}: {error:.1e}");
        let values =
            || format!("{stage}: {key}, line {}: {} on the GPU, {} on the CPU", at + 1, found[at], expected[at]);
        (error > AGREEMENT).then(values)
    })
}

#[test]
fn every_stage_runs_on_a_gpu_and_learns_as_on_the_cpu() {
    let Some(device) = gpu("pipeline") else { return };
    let root = tempfile::tempdir().expect("temporary directory");
    let [cpu, gpu] = ["cpu", "gpu"].map(|name| root.path().join(name));
    smoke::run(STAGES, &smoke::config(BRIEF), &gpu, &device);
    check_report(&gpu, &device);
    smoke::run(&STAGES[..7], &smoke::config(BRIEF), &cpu, &Device::Cpu);
    for file in ["data/users.jsonl", "base/checkpoint/tokenizer.json", "slates/train.jsonl", "traces/traces.jsonl"] {
        let read = |root: &Path| std::fs::read(root.join(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
        assert_eq!(read(&gpu), read(&cpu), "{file} differs");
    }
    assert_eq!(difference("sid", &["reconstruction", "commitment"], &cpu, &gpu), None);
    for stage in ["base", "midtrain", "sft"] {
        assert_eq!(difference(stage, &["loss", "grad_norm"], &cpu, &gpu), None);
    }
}

/// Of the draws of a run, about one in 30,000 falls so near the boundary between two tokens that rounding decides; what
/// follows then differs. Two of three seeds must be without one.
#[test]
fn reinforcement_of_one_model_goes_the_same_way_on_a_gpu() {
    let Some(device) = gpu("pipeline") else { return };
    let root = tempfile::tempdir().expect("temporary directory");
    let trained = root.path().join("trained");
    // warm enough that answers to one prompt differ, so that there is something to learn from
    let settings = ["dapo.validate_every=0", "dapo.temperature=1.5"];
    smoke::run(&STAGES[..7], &smoke::config(&settings), &trained, &Device::Cpu);
    let keys = ["reward", "valid_rate", "length_mean", "sampling_kept", "loss", "grad_norm", "entropy"];
    let differences = ["seed=1", "seed=2", "seed=3"].map(|seed| {
        let config = smoke::config(&[&settings[..], &[seed]].concat());
        let [cpu, gpu] = [("cpu", &Device::Cpu), ("gpu", &device)].map(|(name, device)| {
            let directory = root.path().join(format!("{name} {seed}"));
            smoke::copy(&trained, &directory);
            smoke::run(&[Stage::Dapo], &config, &directory, device);
            directory
        });
        assert!(smoke::column(&cpu.join("dapo/metrics.jsonl"), "grad_norm").iter().all(|&norm| norm > 0.0));
        difference("dapo", &keys, &cpu, &gpu)
    });
    assert!(differences.iter().flatten().count() <= 1, "{differences:?}");
}
