//! The `gr2` program on fixtures: what it prints where, its messages, its exit codes.

mod support;

use safetensors::SafeTensors;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use support::{FIXTURES, assert_close, fixture, smoke};

/// What a command came to.
struct Outcome {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn gr2(args: &[&str]) -> Outcome {
    let output = Command::new(env!("CARGO_BIN_EXE_gr2")).args(args).output().expect("starts gr2");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Outcome { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Runs a command that succeeds without a word on standard error; returns standard output.
fn quiet(args: &[&str]) -> String {
    let outcome = gr2(args);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""), "{args:?}");
    outcome.stdout
}

/// Runs a command that fails: exit code, nothing on standard output, and every part of the message on standard error.
fn refused(args: &[&str], code: i32, parts: &[&str]) {
    let outcome = gr2(args);
    assert_eq!(outcome.code, Some(code), "{args:?}: {}", outcome.stderr);
    assert_eq!(outcome.stdout, "", "{args:?}");
    assert!(outcome.stderr.starts_with("error: "), "{args:?}: {}", outcome.stderr);
    assert!(!outcome.stderr.contains("panicked"), "{args:?}: {}", outcome.stderr);
    for part in parts {
        assert!(outcome.stderr.contains(part), "{args:?}: no `{part}` in: {}", outcome.stderr);
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// A tensor of 32-bit numbers: shape and bits.
fn tensor(path: &Path, name: &str) -> (Vec<usize>, Vec<u32>) {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let tensors = SafeTensors::deserialize(&bytes).expect("safetensors");
    let view = tensors.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
    let bits = view.data().chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    (view.shape().to_vec(), bits)
}

fn list(tokens: &[u32]) -> String {
    tokens.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

#[test]
fn logits_are_those_of_transformers() {
    let directory = tempfile::tempdir().expect("temporary directory");
    for name in FIXTURES {
        let expected = fixture(name).join("expected.safetensors");
        let (shape, ids) = tensor(&expected, "input_ids");
        let row = &ids[..shape[1]];
        let out = directory.path().join(format!("{name}.safetensors"));
        let model = fixture(name);
        let args = ["logits", "--model", text(&model), "--tokens", &list(row), "--device", "cpu", "--out", text(&out)];
        assert_eq!(quiet(&args), "");
        let (found_shape, found) = tensor(&out, "logits");
        let (expected_shape, expected) = tensor(&expected, "logits");
        assert_eq!(found_shape, expected_shape[1..], "(T, V)");
        let floats = |bits: &[u32]| bits.iter().map(|&b| f64::from(f32::from_bits(b))).collect::<Vec<_>>();
        assert_close(name, &floats(&found), &floats(&expected[..found.len()]), 1e-4);
    }
}

#[test]
fn greedy_tokens_are_those_of_transformers_in_the_last_line_as_json() {
    for name in FIXTURES {
        let (_, recorded) = tensor(&fixture(name).join("expected.safetensors"), "greedy");
        let (prompt, continuation) = recorded.split_at(8);
        let count = continuation.len().to_string();
        let (model, prompt) = (fixture(name), list(prompt));
        let args = [
            "generate",
            "--model",
            text(&model),
            "--tokens",
            &prompt,
            "--max-new-tokens",
            &count,
            "--greedy",
            "--ignore-eos",
            "--json",
            "--device",
            "cpu",
        ];
        let out = quiet(&args);
        let line: Value = serde_json::from_str(out.lines().last().expect("a line")).expect("JSON");
        assert_eq!(line["tokens"], json!(continuation), "{name}");
        assert!(line["text"].is_string(), "{name}: {line}");
    }
}

#[test]
fn sampling_repeats_with_its_seed() {
    let model = fixture("qwen3-tied");
    let sample = |seed: &str| {
        let args = ["generate", "--model", text(&model), "--prompt", "Magic Tape", "--seed", seed, "--ignore-eos"];
        quiet(&[&args[..], &["--max-new-tokens", "24", "--json", "--device", "cpu"]].concat())
    };
    assert_eq!(sample("1"), sample("1"));
    assert_ne!(sample("1"), sample("2"));
}

#[test]
fn token_ids_are_those_of_transformers() {
    for name in FIXTURES {
        for case in smoke::json(&fixture(name).join("tokenized.json")).as_array().expect("a list") {
            let (model, words) = (fixture(name), case["text"].as_str().expect("text"));
            let out = quiet(&["tokenize", "--model", text(&model), "--text", words, "--json"]);
            assert_eq!(serde_json::from_str::<Value>(&out).expect("JSON"), json!({ "ids": case["ids"] }), "{words:?}");
        }
    }
}

#[test]
fn devices_lists_the_cpu_first() {
    let plain = gr2(&["devices"]);
    assert_eq!(plain.code, Some(0), "{}", plain.stderr);
    assert!(plain.stdout.starts_with("cpu ") && plain.stdout.contains("\nauto "), "{}", plain.stdout);
    let found: Value = serde_json::from_str(&gr2(&["devices", "--json"]).stdout).expect("JSON");
    assert_eq!(found[0]["device"], "cpu");
    assert!(found[0]["threads"].as_u64().is_some_and(|n| n > 0), "{found}");
    let gpus = &found.as_array().expect("an array")[1..];
    assert!(gpus.iter().enumerate().all(|(i, gpu)| gpu["device"] == format!("gpu:{i}")), "{found}");
}

#[test]
fn a_dry_run_prints_the_plan_and_writes_nothing() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let out = directory.path().join("run");
    let config = smoke::path();
    let plan = quiet(&["run", text(&config), "--out", text(&out), "--dry-run", "--set", "dapo.steps=7"]);
    for stage in gr2::pipeline::STAGES {
        assert!(plan.lines().any(|line| line.trim_start().starts_with(stage.name())), "{}: {plan}", stage.name());
    }
    for part in ["parameters", "tokens", "MiB", "7 steps"] {
        assert!(plan.contains(part), "no `{part}` in {plan}");
    }
    assert!(!out.exists());
}

#[test]
fn wrong_usage_exits_with_2() {
    let (config, model) = (smoke::path(), fixture("qwen3-tied"));
    let (config, model) = (text(&config), text(&model));
    refused(&["run", config, "--out", "nowhere", "--frobnicate"], 2, &["--frobnicate"]);
    refused(&["frobnicate"], 2, &["frobnicate"]);
    refused(&["run", config], 2, &["--out"]);
    refused(&["generate", "--model", model], 2, &["--prompt"]);
    refused(&["generate", "--model", model, "--tokens", "1,x"], 2, &["--tokens", "x"]);
    refused(&["tokenize", "--model", model, "--text", "a", "--device", "cpu"], 2, &["--device"]);
    let logits = ["logits", "--model", model, "--tokens", "1", "--out", "nowhere", "--device", "tpu"];
    refused(&logits, 2, &["--device tpu: expected auto, cpu, gpu or gpu:N", "hint: `gr2 devices`"]);
    let set = ["run", config, "--out", "nowhere", "--dry-run", "--set", "dapo.steps"];
    refused(&set, 2, &["--set dapo.steps: no `=`", "hint: as in --set dapo.steps=50"]);
    assert!(!Path::new("nowhere").exists());
}

#[test]
fn numbers_out_of_range_are_refused_by_the_name_of_their_flag() {
    let model = fixture("qwen3-tied");
    let generate = ["generate", "--model", text(&model), "--tokens", "1", "--device", "cpu"];
    let cases = [
        ("--temperature", "nan inf 0 -1 1e300"),
        ("--top-p", "nan 2 -1"),
        ("--min-p", "inf 1.5"),
        ("--repetition-penalty", "0 nan inf"),
        ("--top-k", "-1"),
        ("--seed", "-1"),
        ("--max-new-tokens", "-1 99999999999999999999"),
        ("--gpu-memory-limit", "-1"),
    ];
    for (flag, values) in cases {
        for value in values.split(' ') {
            refused(&[&generate[..], &[&format!("{flag}={value}")]].concat(), 2, &[flag]);
        }
    }
    for value in ["nan", "inf", "0", "-1", "1e9"] {
        let seconds = format!("--seconds={value}");
        refused(&["bench", "kernels", "--device", "cpu", &seconds], 2, &["--seconds"]);
        refused(&["tune", "--device", "cpu", &seconds], 2, &["--seconds"]);
    }
    refused(&["bench", "model", "--device", "cpu", "--samples", "4294967295"], 2, &["--samples"]);
    refused(&["tune", "--device", "cpu", "--rows", "1,99999999999"], 2, &["--rows"]);
    refused(&["devices", "--device", "gpu:99999999999999999999"], 2, &["--device"]);
    let far = ["generate", "--model", text(&model), "--tokens", "1", "--device", "gpu:99999999999"];
    refused(&far, 1, &["99999999999"]);
}

#[test]
fn a_continuation_ends_where_the_context_of_the_model_ends() {
    let model = fixture("qwen3-tied");
    let positions = smoke::json(&model.join("config.json"))["max_position_embeddings"].as_u64().expect("a number");
    let prompt = list(&vec![1; positions as usize - 3]);
    for most in ["1000000000", "2305843009213693952", "18446744073709551615"] {
        let args =
            ["generate", "--model", text(&model), "--tokens", &prompt, "--device", "cpu", "--ignore-eos", "--json"];
        let outcome = gr2(&[&args[..], &["--max-new-tokens", most]].concat());
        assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
        assert!(outcome.stderr.contains(&format!("max_position_embeddings = {positions}")), "{}", outcome.stderr);
        let line: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
        // the last token is drawn, but never read
        assert_eq!(line["tokens"].as_array().expect("tokens").len(), 4);
    }
    let long = list(&vec![1; positions as usize + 1]);
    let parts = ["--tokens", "513", "max_position_embeddings is 512"];
    refused(&["generate", "--model", text(&model), "--tokens", &long, "--device", "cpu"], 2, &parts);
    refused(&["logits", "--model", text(&model), "--tokens", &long, "--device", "cpu", "--out", "nowhere"], 2, &parts);
}

/// Mesa's layers look for a Wayland compositor where they are asked for its surfaces, and say so where there is none.
#[test]
fn without_a_desktop_nothing_is_said_of_it() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let (out, config) = (directory.path().join("run"), smoke::path());
    let commands: [&[&str]; 2] = [&["devices"], &["data", text(&config), "--out", text(&out)]];
    for args in commands {
        let output = Command::new(env!("CARGO_BIN_EXE_gr2")).args(args).env_remove("XDG_RUNTIME_DIR").output();
        let output = output.expect("starts gr2");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !said.contains("XDG_RUNTIME_DIR"), "{args:?}: {said}");
    }
}

#[test]
fn a_wrong_configuration_exits_with_1_and_names_the_field() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let out = directory.path().join("run");
    let config = smoke::path();
    let run = |setting: &str, parts: &[&str]| {
        refused(&["run", text(&config), "--out", text(&out), "--device", "cpu", "--set", setting], 1, parts);
    };
    run("dapo.group_size=1", &["config: dapo.group_size: 1: expected 2 to 4096 (a group of one has zero advantage)"]);
    run("dapo.stpes=3", &["config: ", "smoke.toml", "unknown field `stpes`", "steps"]);
    run("slates.source=oracle", &["config: ", "unknown variant `oracle`"]);
    run("sft.train.lr=fast", &["config: ", "smoke.toml", "fast"]);
    run("data.source=lcrec", &["config: data.dir: is not set", "hint: set data.dir"]);
    run("midtrain.contexts.beams=5", &["config: midtrain.contexts.beams: 5"]);
    let broken = directory.path().join("broken.toml");
    std::fs::write(&broken, "[dapo]\nsteps = \n").expect("writes");
    refused(&["run", text(&broken), "--out", text(&out)], 1, &["config: ", "broken.toml", "line 2"]);
    assert!(!out.exists(), "a refused configuration left something behind");
}

#[test]
fn missing_and_damaged_inputs_exit_with_1_and_name_the_file() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let out = directory.path().join("run");
    let config = smoke::path();
    let absent = directory.path().join("absent.toml");
    refused(&["run", text(&absent), "--out", text(&out)], 1, &["absent.toml", "No such file"]);

    let empty = directory.path().join("empty");
    std::fs::create_dir(&empty).expect("directory");
    let settings = ["data.source=lcrec".to_string(), format!("data.dir={}", empty.display())];
    let run =
        ["data", text(&config), "--out", text(&out), "--device", "cpu", "--set", &settings[0], "--set", &settings[1]];
    refused(&run, 1, &["data: ", "empty", ".inter.json"]);

    let eval = ["eval", text(&config), "--out", text(&out), "--device", "cpu"];
    refused(&eval, 1, &["run: eval: needs the result of `data`", "hint: run `gr2 data CONFIG --out"]);

    let model = directory.path().join("truncated");
    std::fs::create_dir(&model).expect("directory");
    std::fs::copy(fixture("qwen3-tied").join("config.json"), model.join("config.json")).expect("copies");
    let weights = std::fs::read(fixture("qwen3-tied").join("model.safetensors")).expect("reads");
    std::fs::write(model.join("model.safetensors"), &weights[..weights.len() - 100]).expect("writes");
    let file = directory.path().join("logits.safetensors");
    let logits = |model: &Path, tokens: &str, parts: &[&str]| {
        let args = ["logits", "--model", text(model), "--tokens", tokens, "--device", "cpu", "--out", text(&file)];
        refused(&args, 1, parts);
        assert!(!file.exists(), "a failure left a file behind");
    };
    logits(&model, "1,2", &["weights: ", "model.safetensors", "truncated"]);
    logits(&empty, "1,2", &["empty", "config.json"]);
    logits(&fixture("qwen3-tied"), "1,512", &["512"]);
}
