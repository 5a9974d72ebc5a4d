//! Training that learns nothing says so: what is cut or left out is counted, and a stage without an update is an error.

mod support;

use gr2::data::Example;
use gr2::model;
use gr2::pipeline::{RunConfig, RunDir, STAGES, Stage, run_stage};
use gr2::text::Tokenizer;
use gr2::train::{TrainConfig, Trainer};
use gr2_kernels::Device;
use std::path::Path;
use support::{fixture, smoke};

/// Trains the fixture; the number of updates.
fn train(config: &TrainConfig, examples: &Vec<Example>, directory: &Path) -> gr2::Result<u64> {
    let tokenizer = Tokenizer::load(fixture("qwen3-tied")).expect("tokenizer");
    let mut model = model::load(&fixture("qwen3-tied"), &Device::Cpu).expect("loads");
    Trainer { stage: "sft", model: &mut model, tokenizer: &tokenizer, config, seed: 1, directory }.run(examples)
}

/// Five sequences of so many tokens and of one weight.
fn examples(tokens: u32, weight: f32) -> Vec<Example> {
    let example = |i: u32| Example {
        tokens: (0..tokens).map(|t| 10 + 7 * i + t).collect(),
        weights: vec![weight; tokens as usize],
    };
    (0..5).map(example).collect()
}

#[test]
fn a_stage_without_an_update_is_an_error_that_says_why() {
    // an update for each sequence
    let config = TrainConfig { epochs: 2, batch_tokens: 2, max_skipped: 100, ..TrainConfig::default() };
    for (weight, expected) in [
        (
            0.0,
            [
                "run: sft: 10 steps, 0 updates: no token of 5 sequences has a weight",
                "hint: look at sft.train.max_length",
            ],
        ),
        (
            f32::NAN,
            ["run: sft: 10 steps, 0 updates: every loss or gradient was NaN", "hint: lower sft.train.lr, or look at"],
        ),
    ] {
        let directory = tempfile::tempdir().expect("temporary directory");
        // and again where it goes on from its end
        for _ in 0..2 {
            let message = train(&config, &examples(6, weight), directory.path()).expect_err("an error").to_string();
            assert!(expected.iter().all(|part| message.contains(part)), "{message}");
        }
    }
    let directory = tempfile::tempdir().expect("temporary directory");
    assert_eq!(train(&config, &examples(6, 1.0), directory.path()).expect("learns"), 10);
}

#[test]
fn sequences_that_are_cut_are_counted() {
    for (max_length, expected) in [(4, 10.0), (6, 0.0)] {
        let directory = tempfile::tempdir().expect("temporary directory");
        let config = TrainConfig { epochs: 2, batch_tokens: 2, max_length, ..TrainConfig::default() };
        train(&config, &examples(6, 1.0), directory.path()).expect("learns");
        assert_eq!(smoke::column(&directory.path().join("metrics.jsonl"), "cut"), [expected]);
    }
}

/// A few updates a stage: what is learnt is nothing, and every stage has its result.
const BRIEF: &[&str] = &[
    "data.shop.users=60",
    "base.train.max_steps=3",
    "midtrain.train.max_steps=3",
    "sft.train.max_steps=3",
    "dapo.max_new_tokens=8",
    "dapo.overlong.max_length=8",
    "dapo.overlong.buffer=4",
    "dapo.validate_slates=2",
];

fn config(settings: &[&str]) -> RunConfig {
    smoke::config(&[BRIEF, settings].concat())
}

fn make(stage: Stage, settings: &[&str], root: &Path) -> gr2::Result<()> {
    run_stage(stage, &config(settings), &RunDir::open(root).expect("run directory"), &Device::Cpu)
}

#[test]
fn sft_never_cuts_an_answer_and_dapo_without_a_signal_is_an_error() {
    let root = tempfile::tempdir().expect("temporary directory");
    let root = root.path();
    smoke::run(&STAGES[..6], &config(&[]), root, &Device::Cpu);
    let results = || {
        let results = smoke::json(&root.join("sft/results.json"));
        ["traces", "shortened", "left_out", "prompt_tokens", "answer_tokens"]
            .map(|key| results[key].as_u64().unwrap_or_else(|| panic!("{key}: {}", results[key])))
    };

    make(Stage::Sft, &[], root).expect("sft");
    let [traces, shortened, left_out, prompt, answer] = results();
    assert_eq!((shortened, left_out), (0, 0));

    // about half of the examples are longer than the mean
    let mean = format!("sft.train.max_length={}", prompt + answer);
    make(Stage::Sft, &[&mean], root).expect("sft");
    let [kept, shortened, left_out, shorter_prompt, _] = results();
    assert!(shortened > 0 && kept + left_out == traces, "{kept} kept, {shortened} shortened, {left_out} left out");
    assert!(shorter_prompt < prompt, "prompts of {shorter_prompt} and {prompt} tokens");
    let cut = smoke::column(&root.join("sft/metrics.jsonl"), "cut");
    assert!(!cut.is_empty() && cut.iter().all(|&n| n == 0.0), "{cut:?} sequences were cut");

    let message = make(Stage::Sft, &["sft.train.max_length=20"], root).expect_err("nothing is left").to_string();
    assert!(
        message.starts_with(&format!("config: sft.train.max_length: 20: the shortest of {traces} examples")),
        "{message}"
    );

    // every answer is cut off
    make(Stage::Sft, &[], root).expect("sft");
    let log = root.join("dapo/metrics.jsonl");
    for _ in 0..2 {
        let message = make(Stage::Dapo, &[], root).expect_err("learns nothing").to_string();
        assert!(message.starts_with("run: dapo: 2 steps, 0 updates: no group had signal"), "{message}");
        assert!(message.contains("dapo.max_new_tokens = 8") && message.contains("hint: raise dapo.max_new_tokens"));
        // the second time nothing is tried again
        assert_eq!(smoke::column(&log, "updates"), [0.0, 0.0]);
    }
    // however many steps there are: after three without a valid answer it is over
    make(Stage::Dapo, &["dapo.steps=50"], root).expect_err("learns nothing");
    assert_eq!(smoke::column(&log, "step"), [1.0, 2.0, 3.0]);
    make(Stage::Dapo, &["dapo.steps=0"], root).expect("the way to leave it out");
    assert_eq!(smoke::json(&root.join("dapo/results.json"))["updates"], 0);
}
