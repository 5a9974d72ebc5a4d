//! Every reader on its seeds, the inputs that once were faults, and some generated ones; more of them with
//! `cargo run --release -p gr2-fuzz`.

use std::process::Command;

use gr2_fuzz::{TARGETS, Verdict, corpus, worker};

/// Inputs for each reader.
const INPUTS: &str = "2000";

#[test]
fn no_input_makes_a_reader_panic() {
    let findings = tempfile::tempdir().expect("a temporary folder");
    let run = Command::new(env!("CARGO_BIN_EXE_gr2-fuzz"))
        .args(["--inputs", INPUTS, "--threads", "2", "--findings"])
        .arg(findings.path())
        .output()
        .expect("starts");
    let printed = String::from_utf8_lossy(&run.stdout);
    // what is kept goes with the folder; `--replay` needs a run by hand
    assert!(run.status.success(), "{printed}{}", String::from_utf8_lossy(&run.stderr));
    assert!(TARGETS.iter().all(|target| printed.contains(target.name)), "{printed}");
}

#[test]
fn readers_accept_a_seed() {
    for target in TARGETS {
        let verdicts = worker::replay(target, &(target.seeds)());
        let accepted = verdicts.iter().any(|verdict| matches!(verdict, Verdict::Accepted(_)));
        assert!(accepted, "{}: {verdicts:?}", target.name);
    }
}

#[test]
fn every_folder_of_the_corpus_has_a_reader() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for entry in std::fs::read_dir(folder).expect("the corpus") {
        let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
        assert!(gr2_fuzz::target(&name).is_some(), "no reader {name}");
        assert!(!corpus(&name).is_empty(), "{name}: no inputs");
    }
}

#[test]
fn libfuzzer_has_the_same_readers() {
    let manifest = include_str!("../libfuzzer/Cargo.toml");
    let named: Vec<&str> =
        manifest.lines().filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"')).collect();
    let expected: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(named[1..], expected, "the [[bin]] tables of fuzz/libfuzzer/Cargo.toml");
}
