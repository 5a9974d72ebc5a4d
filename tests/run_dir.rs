//! Run directories: what is not ours is left alone, what is finished is not lost, what was altered is noticed.

mod support;

use gr2::Result;
use gr2::pipeline::{RunConfig, RunDir, STAGES, Stage};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use support::smoke;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("temporary directory")
}

fn write(root: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("directory");
        std::fs::write(path, text).expect("writes");
    }
}

/// A file that the stage writes.
fn result_name(stage: Stage) -> &'static str {
    stage.writes().iter().rfind(|name| name.contains(".json")).expect("a file of JSON")
}

/// Makes every stage with the text `of` in a file of its folder, and says which ones were made.
fn make(root: &Path, config: &RunConfig, of: &str) -> Result<Vec<Stage>> {
    let run = RunDir::open(root)?;
    let mut made = vec![];
    for &stage in STAGES {
        run.make(stage, config, "cpu", |directory| {
            made.push(stage);
            write(directory, &[(result_name(stage), of)]);
            if stage.writes().contains(&"checkpoint") {
                write(directory, &[("checkpoint/model.safetensors", of)]);
            }
            Ok(())
        })?;
    }
    Ok(made)
}

fn result(root: &Path, stage: Stage) -> String {
    std::fs::read_to_string(root.join(stage.name()).join(result_name(stage))).expect("a result")
}

/// How many results have this text.
fn copies(root: &Path, text: &str) -> usize {
    smoke::files(root)
        .into_iter()
        .filter(|(name, found)| !name.contains("checkpoint/") && found == text.as_bytes())
        .count()
}

#[test]
fn a_folder_that_is_not_ours_is_refused_and_stays_as_it_is() {
    let marker = r#"{"name": "a project", "scripts": {}}"#;
    let manifest = r#"{"profile": "tabular-data-package", "resources": []}"#;
    let half =
        r#"{"stage": "data", "key": "k", "config": {}, "seed": 1, "device": "cpu", "finished": true, "seconds": 1}"#;
    let cases: [&[(&str, &str)]; 6] = [
        &[("config.toml", "# my notes\n[data]\nsource = \"shop\"\n")],
        &[("data/X.inter.json", "{}"), ("config.toml", "")],
        &[("run.json", marker)],
        &[("data/manifest.json", manifest), ("report.html", "<p>")],
        // one stage of ours beside a folder that is not
        &[("data/manifest.json", half), ("eval/notes.txt", "years")],
        &[("base.previous/model.bin", "x")],
    ];
    for files in cases {
        let root = folder();
        write(root.path(), files);
        let before = smoke::files(root.path());
        let message = make(root.path(), &smoke::config(&[]), "new").unwrap_err().to_string();
        assert!(message.starts_with("run directory: ") && message.contains("--out"), "{message}");
        assert_eq!(smoke::files(root.path()), before, "{message}");
    }
    let root = folder();
    write(root.path(), &[("out", "a file")]);
    let message = RunDir::open(&root.path().join("out")).unwrap_err().to_string();
    assert!(message.contains("out: is a file"), "{message}");
}

#[test]
fn files_of_others_in_a_run_are_left_alone() {
    let root = folder();
    let root = root.path();
    let files = [
        ("notes.txt", "mine"),
        ("base.old/model.bin", "mine"),
        ("base/checkpoint.old/model.bin", "mine"),
        ("kept/base/mine/model.bin", "mine"),
        ("answers/ab/cd.json", "paid"),
    ];
    make(root, &smoke::config(&[]), "one").unwrap();
    write(root, &files);
    make(root, &smoke::config(&["seed=2"]), "two").unwrap();
    make(root, &smoke::config(&[]), "three").unwrap();
    for (name, text) in files {
        assert_eq!(std::fs::read_to_string(root.join(name)).expect(name), text);
    }
    // what was published is replaced as long as nobody else changed it
    let run = RunDir::open(root).unwrap();
    let published = || std::fs::read_to_string(root.join("config.toml")).expect("published");
    for text in ["a", "b", "a"] {
        run.publish("config.toml", text.as_bytes()).unwrap();
        assert_eq!(published(), text);
    }
    write(root, &[("config.toml", "# mine\n")]);
    run.publish("config.toml", b"b").unwrap();
    assert_eq!(published(), "# mine\n");
}

#[test]
fn a_stage_folder_without_our_manifest_is_an_error() {
    let root = folder();
    RunDir::open(root.path()).unwrap();
    write(root.path(), &[("traces/precious.jsonl", "years")]);
    let message = RunDir::open(root.path()).unwrap_err().to_string();
    assert!(message.contains("traces: is no result of gr2: it has no manifest.json"), "{message}");
    write(root.path(), &[("traces/manifest.json", "{}")]);
    let message = RunDir::open(root.path()).unwrap_err().to_string();
    assert!(message.contains("traces/manifest.json: is no manifest of gr2"), "{message}");
    assert_eq!(smoke::files(&root.path().join("traces"))["precious.jsonl"], b"years");
}

#[test]
fn results_of_other_settings_are_kept_and_put_back() {
    let root = folder();
    let root = root.path();
    let (one, two) = (smoke::config(&[]), smoke::config(&["base.hidden=48"]));
    make(root, &one, "one").unwrap();
    // interrupted with other settings: what is finished is not replaced by what is not
    let run = RunDir::open(root).unwrap();
    let stop = |directory: &Path| {
        write(directory, &[(result_name(Stage::Base), "half")]);
        Err(gr2::Error::Interrupted { stage: "base".into() })
    };
    run.make(Stage::Base, &two, "cpu", stop).unwrap_err();
    drop(run);
    assert_eq!((result(root, Stage::Base).as_str(), copies(root, "one")), ("half", 9));
    assert_eq!(make(root, &one, "again").unwrap(), [], "everything was made before");
    assert_eq!((copies(root, "one"), copies(root, "half")), (9, 1));

    assert_eq!(make(root, &two, "two").unwrap(), STAGES[2..], "the unfinished one is finished, what follows is made");
    for _ in 0..3 {
        assert_eq!(make(root, &one, "again").unwrap(), []);
        assert_eq!((result(root, Stage::Base).as_str(), result(root, Stage::Eval).as_str()), ("one", "one"));
        assert_eq!(make(root, &two, "again").unwrap(), []);
        assert_eq!((result(root, Stage::Base).as_str(), result(root, Stage::Eval).as_str()), ("two", "two"));
    }
    assert_eq!((copies(root, "one"), copies(root, "two")), (9, 7));
}

#[test]
fn what_cannot_be_made_takes_no_place_of_what_is_there() {
    let root = folder();
    let root = root.path();
    let (one, two) = (smoke::config(&[]), smoke::config(&["sft.train.epochs=9"]));
    make(root, &one, "one").unwrap();
    let before = smoke::files(root);
    let run = RunDir::open(root).unwrap();
    let fail = |_: &Path| Err(gr2::Error::Usage { problem: "no".into(), hint: None });
    run.make(Stage::Sft, &two, "cpu", fail).unwrap_err();
    assert_eq!(run.kept().unwrap(), []);
    drop(run);
    // nor where an input is not what it was
    let run = RunDir::open(root).unwrap();
    write(root, &[("sid/sids.jsonl", "altered")]);
    let message = run.make(Stage::Sft, &two, "cpu", |_| Ok(())).unwrap_err().to_string();
    assert!(message.contains("sids.jsonl"), "{message}");
    drop(run);
    write(root, &[("sid/sids.jsonl", "one")]);
    assert_eq!((smoke::files(root), make(root, &one, "again").unwrap()), (before, vec![]));
}

#[test]
fn a_stage_refuses_settings_that_its_inputs_were_not_made_with() {
    let root = folder();
    let root = root.path();
    make(root, &smoke::config(&[]), "one").unwrap();
    let cases: [(Stage, &str, &[&str]); 3] = [
        (Stage::Sft, "base.hidden=64", &["`base`", "base.hidden was 32 and is now 64", "`gr2 base`"]),
        (Stage::Eval, "data.shop.users=100", &["`data`", "data.shop.users was ", " and is now 100"]),
        (Stage::Dapo, "prompt.history_items=3", &["`base`", "prompt.history_items was "]),
    ];
    let run = RunDir::open(root).unwrap();
    for (stage, setting, parts) in cases {
        let message = run.make(stage, &smoke::config(&[setting]), "cpu", |_| Ok(())).unwrap_err().to_string();
        assert!(parts.iter().all(|part| message.contains(part)), "{setting}: {message}");
    }
    // made again alone: what was made from it before is of another one
    let other = smoke::config(&["base.hidden=48"]);
    run.make(Stage::Base, &other, "cpu", |_| Ok(())).unwrap();
    let message = run.make(Stage::Sft, &other, "cpu", |_| Ok(())).unwrap_err().to_string();
    assert!(message.contains("`midtrain`") && message.contains("from another result of `base`"), "{message}");
    run.make(Stage::Base, &smoke::config(&[]), "cpu", |_| panic!("made again")).unwrap();
    // what comes after it, and what decides nothing, is no matter
    for setting in ["eval.samples=3", "base.train.checkpoint_seconds=7"] {
        run.make(Stage::Sft, &smoke::config(&[setting]), "cpu", |_| panic!("made again")).unwrap();
    }
}

#[test]
fn a_users_file_in_a_stage_is_no_part_of_its_result() {
    let root = folder();
    let root = root.path();
    let config = smoke::config(&[]);
    let run = RunDir::open(root).unwrap();
    run.make(Stage::Data, &config, "cpu", |directory| {
        write(directory, &[("items.jsonl", "one"), ("notes.txt", "mine")]);
        Ok(())
    })
    .unwrap();
    drop(run);
    write(root, &[("data/notes.txt", "mine, and more")]);
    let run = RunDir::open(root).unwrap();
    run.make(Stage::Data, &config, "cpu", |_| panic!("made again")).unwrap();
}

#[cfg(unix)]
#[test]
fn names_that_look_like_ours_are_not_ours() {
    let root = folder();
    write(root.path(), &[(".writing-novel/chapter1.txt", "years")]);
    assert!(RunDir::open(root.path()).unwrap_err().to_string().contains("it holds .writing-novel"));
    let run = folder();
    make(run.path(), &smoke::config(&[]), "one").unwrap();
    write(
        run.path(),
        &[(".replaced-data/a.txt", "years"), (".replaced-old/b.txt", "years"), ("base/.writing-novel/c", "years")],
    );
    drop(RunDir::open(run.path()).unwrap());
    assert_eq!(smoke::files(run.path()).values().filter(|text| *text == b"years").count(), 3);
    // two processes would work in one folder
    let other = folder();
    make(other.path(), &smoke::config(&[]), "two").unwrap();
    std::fs::remove_dir_all(other.path().join("base")).expect("removes");
    std::os::unix::fs::symlink(run.path().join("base"), other.path().join("base")).expect("links");
    let message = RunDir::open(other.path()).unwrap_err().to_string();
    assert!(message.contains("base: is a link into another run"), "{message}");
}

#[test]
fn a_stage_does_not_read_from_the_folder_that_it_makes() {
    let root = folder();
    let root = root.path();
    make(root, &smoke::config(&[]), "one").unwrap();
    let path = root.join("base/checkpoint");
    let config = smoke::config(&[&format!("base.path={}", path.display())]);
    let run = RunDir::open(root).unwrap();
    let message = run.make(Stage::Base, &config, "cpu", |_| Ok(())).unwrap_err().to_string();
    assert!(message.contains("lies in the folder that this stage makes"), "{message}");
    assert_eq!(result(root, Stage::Base), "one");
}

#[test]
fn settings_that_decide_nothing_keep_every_result() {
    let http = ["traces.teacher=http", "traces.http.model=m"];
    let cases: [(&[&str], &[&str]); 4] = [
        (
            &[],
            &[
                "base.train.checkpoint_seconds=1",
                "midtrain.train.max_skipped=3",
                "sft.train.checkpoint_seconds=0",
                "dapo.checkpoint_seconds=7",
                "dapo.max_skipped=2",
                "traces.sampling.max_unanswered=99",
                "traces.sampling.prompt_price=2.5",
                "traces.http.model=another",
            ],
        ),
        (
            &http,
            &[
                "traces.http.timeout=7",
                "traces.http.parallel=2",
                "traces.http.retries=9",
                "traces.http.backoff=2",
                "traces.http.base_url=http://elsewhere/v1",
                "traces.http.api_key_env=KEY",
                "traces.scripted.temperature=0.5",
            ],
        ),
        (&[], &["base.train.gradient_checkpointing=true", "dapo.gradient_checkpointing=true", "sid.svd.seed=9"]),
        (&[], &[]),
    ];
    for (base, settings) in cases {
        let root = folder();
        assert_eq!(make(root.path(), &smoke::config(base), "one").unwrap(), STAGES);
        for setting in settings {
            let config = smoke::config(&[base, &[*setting]].concat());
            assert_eq!(make(root.path(), &config, "two").unwrap(), [], "{setting}");
        }
    }
}

#[test]
fn files_outside_count_by_their_contents_and_roles() {
    let places = folder();
    for place in ["a", "b"] {
        write(places.path(), &[(&format!("{place}/test.jsonl"), "T"), (&format!("{place}/train.jsonl"), "L")]);
    }
    let source = |train: &str, test: &str| {
        let path = |name: &str| places.path().join(name).display().to_string();
        let file = format!("{{ file = {{ train = {:?}, test = {:?} }} }}", path(train), path(test));
        smoke::config(&[&format!("slates.source={file}")])
    };
    let root = folder();
    assert_eq!(make(root.path(), &source("a/train.jsonl", "a/test.jsonl"), "x").unwrap(), STAGES);
    assert_eq!(make(root.path(), &source("b/train.jsonl", "b/test.jsonl"), "x").unwrap(), [], "the folder moved");
    assert_eq!(make(root.path(), &source("a/test.jsonl", "a/train.jsonl"), "x").unwrap(), STAGES[4..], "roles changed");
    write(places.path(), &[("b/train.jsonl", "M")]);
    assert_eq!(make(root.path(), &source("b/train.jsonl", "b/test.jsonl"), "x").unwrap(), STAGES[4..]);
}

#[test]
fn an_altered_file_is_noticed_by_its_stage_and_by_those_that_read_it() {
    let root = folder();
    let root = root.path();
    let config = smoke::config(&[]);
    make(root, &config, "one").unwrap();
    let altered: BTreeMap<&str, Option<&str>> =
        BTreeMap::from([("midtrain/checkpoint/model.safetensors", Some("onf")), ("sid/sids.jsonl", None)]);
    for (name, text) in altered {
        let path = root.join(name);
        match text {
            Some(text) => std::fs::write(&path, text).expect("writes"),
            None => std::fs::remove_file(&path).expect("removes"),
        }
        // a stage that reads it stops, naming the file
        std::fs::remove_dir_all(root.join("sft")).expect("removes");
        let run = RunDir::open(root).unwrap();
        let message = run.make(Stage::Sft, &config, "cpu", |_| Ok(())).unwrap_err().to_string();
        let (stage, file) = name.split_once('/').expect("a folder");
        let hint = format!("hint: rerun `gr2 {stage}`");
        assert!(message.contains(stage) && message.contains(file) && message.contains(&hint), "{message}");
        drop(run);
        // and the hint helps: the stage makes it again, what came after it is as good as before
        assert_eq!(make(root, &config, "one").unwrap().len(), 2, "{name} and sft");
        assert_eq!(make(root, &config, "one").unwrap(), []);
    }
}

#[test]
fn one_process_at_a_time() {
    let root = folder();
    let run = RunDir::open(root.path()).unwrap();
    let outcome = Command::new(env!("CARGO_BIN_EXE_gr2"))
        .args(["data", "--device", "cpu", "--out"])
        .arg(root.path())
        .arg(smoke::path())
        .output()
        .expect("starts gr2");
    let message = String::from_utf8_lossy(&outcome.stderr);
    assert_eq!(outcome.status.code(), Some(1), "{message}");
    assert!(message.contains(&format!("is in use by process {}", std::process::id())), "{message}");
    let clone = run.clone();
    drop(run);
    assert!(RunDir::open(root.path()).is_err(), "a clone still works there");
    drop(clone);
    RunDir::open(root.path()).unwrap();
}

#[test]
fn runs_from_before_markers_are_taken_over() {
    let root = folder();
    let root = root.path();
    make(root, &smoke::config(&[]), "one").unwrap();
    RunDir::open(root).unwrap().publish("config.toml", toml_of(&smoke::config(&[])).as_bytes()).unwrap();
    std::fs::remove_file(root.join("run.json")).expect("removes");
    std::fs::rename(root.join("eval"), root.join("eval.previous")).expect("moves");
    assert_eq!(make(root, &smoke::config(&[]), "two").unwrap(), []);
    assert_eq!(result(root, Stage::Eval), "one");
    let run = RunDir::open(root).unwrap();
    run.publish("config.toml", b"new").unwrap();
    assert_eq!(std::fs::read(root.join("config.toml")).expect("published"), b"new");
}

fn toml_of(config: &RunConfig) -> String {
    toml::to_string(config).expect("TOML")
}

fn clean(arguments: &[&str], root: &Path) -> String {
    let outcome = Command::new(env!("CARGO_BIN_EXE_gr2")).arg("clean").arg(root).args(arguments).output();
    let outcome = outcome.expect("starts gr2");
    assert_eq!(outcome.status.code(), Some(0), "{}", String::from_utf8_lossy(&outcome.stderr));
    String::from_utf8(outcome.stdout).expect("UTF-8")
}

#[test]
fn clean_lists_first_and_removes_only_what_we_wrote() {
    let root = folder();
    let root = root.path();
    make(root, &smoke::config(&[]), "one").unwrap();
    make(root, &smoke::config(&["sft.train.epochs=3"]), "two").unwrap();
    write(root, &[("answers/ab/cd.json", "paid"), ("notes.txt", "mine")]);
    let before = smoke::files(root);
    let listed = clean(&[], root);
    assert_eq!(listed.matches("finished, took").count(), 3, "{listed}");
    assert!(listed.contains("3 results, ") && listed.contains("--yes"), "{listed}");
    assert_eq!(smoke::files(root), before);
    let kept = RunDir::open(root).unwrap().kept().unwrap();
    let dapo = kept.iter().find(|kept| kept.stage == Stage::Dapo).expect("dapo is kept");
    write(&dapo.path, &[("precious.txt", "mine")]);
    let removed = clean(&["--yes"], root);
    assert!(removed.contains("2 results removed") && removed.contains("gr2 did not write precious.txt"), "{removed}");
    assert_eq!((copies(root, "one"), copies(root, "two")), (7, 3));
    // what was altered, and what was added to what is not finished
    let altered = dapo.path.join(result_name(Stage::Dapo));
    std::fs::remove_file(dapo.path.join("precious.txt")).expect("removes");
    std::fs::write(altered, "an hour's work").expect("writes");
    let run = RunDir::open(root).unwrap();
    let stop = |directory: &Path| {
        write(directory, &[("metrics.jsonl", "half"), ("notes.txt", "mine")]);
        std::fs::create_dir(directory.join("empty")).expect("a folder");
        Err(gr2::Error::Interrupted { stage: "sft".into() })
    };
    run.make(Stage::Sft, &smoke::config(&["sft.train.epochs=4"]), "cpu", stop).unwrap_err();
    drop(run);
    make(root, &smoke::config(&["sft.train.epochs=3"]), "two").unwrap();
    let removed = clean(&["--yes"], root);
    assert!(removed.contains("was altered") || removed.contains("bytes, the stage wrote"), "{removed}");
    assert!(
        removed.contains("gr2 did not write empty, notes.txt") && removed.contains("nothing to remove"),
        "{removed}"
    );
    assert_eq!((copies(root, "an hour's work"), copies(root, "mine")), (1, 2), "notes.txt of the run's own folder too");
    assert_eq!(std::fs::read_to_string(root.join("answers/ab/cd.json")).expect("kept"), "paid");
}
