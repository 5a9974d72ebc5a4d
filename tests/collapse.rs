//! Semantic ids that tell nothing apart, and slates that tell the test: what `gr2` says of them.

use gr2::sid::{Embeddings, write_embeddings};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

const CONFIG: &str = "[data]\nsource = \"lcrec\"\n[sid]\nlevels = 3\ncodes_per_level = 8\ncollaborative = 0\n\
    rqvae.hidden = [32]\nrqvae.latent = 8\nrqvae.epochs = 5\n[slates]\nsource = { file = { train = \"train.jsonl\", \
    test = \"test.jsonl\" } }\n";

/// Runs a stage in a directory with `test.toml` and `in/`; whether it succeeded, and standard error.
fn gr2(dir: &Path, stage: &str, settings: &[String]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gr2"));
    command.current_dir(dir).args([stage, "test.toml", "--out", "run", "--device", "cpu", "--set", "data.dir=in"]);
    for setting in settings {
        command.args(["--set", setting]);
    }
    let output = command.output().expect("starts gr2");
    (output.status.success(), String::from_utf8(output.stderr).expect("UTF-8"))
}

fn write(dir: &Path, titles: impl Fn(usize) -> String) {
    let items: Value =
        (0..60).map(|i| (i.to_string(), json!({ "title": titles(i) }))).collect::<serde_json::Map<_, _>>().into();
    let users: Value = (0..30)
        .map(|u| (format!("u{u}"), json!([u, u + 10, u + 20, u + 30])))
        .collect::<serde_json::Map<_, _>>()
        .into();
    std::fs::create_dir(dir.join("in")).expect("directory");
    std::fs::write(dir.join("in/X.item.json"), items.to_string()).expect("writes");
    std::fs::write(dir.join("in/X.inter.json"), users.to_string()).expect("writes");
    std::fs::write(dir.join("test.toml"), CONFIG).expect("writes");
    let (fine, said) = gr2(dir, "data", &[]);
    assert!(fine, "{said}");
}

#[test]
fn vectors_that_are_equal_and_ids_that_collapse_are_told() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let dir = dir.path();
    write(dir, |_| "Magic tape".into());
    let zeros = dir.join("zero.npy");
    write_embeddings(&zeros, &Embeddings::new(4, vec![0.0; 240]).expect("vectors")).expect("writes");
    for settings in [vec![], vec![format!("sid.embedding={{file=\"{}\"}}", zeros.display())]] {
        let (fine, said) = gr2(dir, "sid", &settings);
        assert!(fine, "{said}");
        assert!(said.contains("warning: sid: the vectors of all 60 items are equal"), "{said}");
        assert!(
            said.contains("warning: sid: the ids have collapsed") && said.contains("60 items share 1 ids"),
            "{said}"
        );
        assert!(
            said.contains("100.00 % unique ids") && said.contains("before the last level was assigned 1.67 %"),
            "{said}"
        );
        let results = std::fs::read_to_string(dir.join("run/sid/results.json")).expect("results");
        let results: Value = serde_json::from_str(&results).expect("JSON");
        assert_eq!(results["before_last_level"]["largest_collision"], 60);
        assert_eq!(results["distinct_vectors"], 1);
    }
}

#[test]
fn different_texts_bring_no_warning() {
    let dir = tempfile::tempdir().expect("temporary directory");
    write(dir.path(), |i| {
        format!("{} {}", ["Tape", "Ink", "Pen", "Desk"][i % 4], ["red", "blue", "wide"][i / 4 % 3]) + &format!(" no{i}")
    });
    let (fine, said) = gr2(dir.path(), "sid", &["sid.codes_per_level=16".into()]);
    assert!(fine && !said.contains("warning"), "{said}");
}

#[test]
fn slates_to_train_on_that_give_the_test_away_are_refused() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let dir = dir.path();
    write(dir, |i| format!("Tape {i} roll"));
    let (fine, said) = gr2(dir, "sid", &[]);
    assert!(fine, "{said}");
    let line = |u: usize| json!({ "user": format!("u{u}"), "candidates": [u + 30, u], "target": u + 30, "history": [u, u + 10, u + 20] });
    let lines = (0..20).map(|u| line(u).to_string()).collect::<Vec<_>>().join("\n");
    for file in ["train.jsonl", "test.jsonl"] {
        std::fs::write(dir.join(file), &lines).expect("writes");
    }
    // the stage needs a mid-trained model only where that draws the slates up; its result has to be there all the same
    let quick =
        ["base.hidden=16", "base.layers=1", "base.heads=2", "base.kv_heads=1", "base.head_dim=8", "base.ffn=32"];
    let quick = quick.iter().chain(&["base.vocab_size=300", "base.train.epochs=1", "midtrain.train.epochs=1"]);
    let quick: Vec<String> = quick.map(|setting| (*setting).to_owned()).collect();
    for stage in ["base", "midtrain"] {
        let (fine, said) = gr2(dir, stage, &quick);
        assert!(fine, "{said}");
    }
    let (fine, said) = gr2(dir, "slates", &quick);
    assert!(!fine && said.contains("train.jsonl:1: 20 of 20 slates to train on give test answers away"), "{said}");
    assert!(said.contains("user \"u0\"") && said.contains("hint: a user's last purchase is the test"), "{said}");
}
