//! Checkpoints as others save them, and as they are after a download: through the program and through the stages.

mod support;

use gr2::pipeline::{RunDir, STAGES, Stage, run_stage};
use gr2_kernels::Device;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use support::{fixture, smoke};

/// A copy of a fixture, to be changed.
struct Checkpoint(tempfile::TempDir);

impl Checkpoint {
    fn new() -> Checkpoint {
        let directory = tempfile::tempdir().expect("temporary directory");
        smoke::copy(&fixture("qwen3-tied"), directory.path());
        Checkpoint(directory)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Sets fields of a JSON file, which is made if it is not there.
    fn set(&self, file: &str, fields: Value) {
        set(&self.path(file), fields);
    }
}

fn set(file: &Path, fields: Value) {
    let mut json = if file.exists() { smoke::json(file) } else { json!({}) };
    json.as_object_mut().expect("an object").extend(fields.as_object().expect("fields").clone());
    std::fs::write(file, json.to_string()).expect("writes");
}

/// Exit code and both outputs of the program.
fn gr2(args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_gr2")).args(args).output().expect("starts gr2");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

/// What `gr2 logits`, `generate` or `tokenize` says of a checkpoint that it refuses.
fn refused(command: &str, model: &Checkpoint) -> String {
    let (model, out) = (model.0.path().display().to_string(), model.path("out").display().to_string());
    let args = match command {
        "logits" => vec!["logits", "--model", &model, "--tokens", "1,2", "--device", "cpu", "--out", &out],
        "generate" => {
            vec!["generate", "--model", &model, "--tokens", "1,2", "--device", "cpu", "--max-new-tokens", "2"]
        }
        _ => vec!["tokenize", "--model", &model, "--text", "hi"],
    };
    let (code, said) = gr2(&args);
    assert_eq!(code, Some(1), "{command}: {said}");
    assert!(said.starts_with("error: ") && !said.contains("panicked"), "{command}: {said}");
    said
}

#[test]
fn a_tokenizer_that_panics_is_an_error_of_its_file() {
    let model = Checkpoint::new();
    let damaged = json!({"type": "Precompiled", "precompiled_charsmap": "AAAA"});
    model.set("tokenizer.json", json!({"normalizer": damaged}));
    for command in ["tokenize", "generate"] {
        let said = refused(command, &model);
        assert!(said.contains(&format!("text: {}: ", model.path("tokenizer.json").display())), "{said}");
    }
}

#[test]
fn settings_that_no_model_has_are_refused_by_file_and_key() {
    for (fields, key) in [
        (json!({"rms_norm_eps": -1}), "rms_norm_eps: -1"),
        (json!({"rope_parameters": {"rope_theta": 0}}), "rope_parameters.rope_theta: 0"),
        (json!({"rope_scaling": {"factor": 4.0, "rope_type": "yarn"}}), "rope_scaling.rope_type: yarn"),
        (json!({"quantization_config": {"quant_method": "awq"}}), "quantization_config: awq"),
        (json!({"layer_types": ["full_attention", "sliding_attention"]}), "layer_types: \"sliding_attention\""),
        (json!({"head_dim": 4_000_000_000u32}), "hidden_size: sizes of"),
    ] {
        let model = Checkpoint::new();
        model.set("config.json", fields);
        for command in ["logits", "generate"] {
            let said = refused(command, &model);
            let file = model.path("config.json").display().to_string();
            assert!(said.contains(&format!("config: {file}: {key}")), "{key}: {said}");
        }
    }
}

/// The base of the smoke configuration, with what its checkpoint says changed by `change`; runs `stages` from it.
fn from_base(change: impl Fn(&Path), stages: &[Stage]) -> (tempfile::TempDir, gr2::Result<()>) {
    let root = tempfile::tempdir().expect("temporary directory");
    let brief = ["base.train.max_steps=2", "midtrain.train.max_steps=2", "data.shop.users=40"];
    smoke::run(&STAGES[..3], &smoke::config(&brief), &root.path().join("made"), &Device::Cpu);
    let base = root.path().join("base");
    smoke::copy(&root.path().join("made/base/checkpoint"), &base);
    change(&base);
    let path = format!("base.path={}", base.display());
    let config = smoke::config(&[&brief[..], &[path.as_str()]].concat());
    let run = RunDir::open(&root.path().join("run")).expect("run directory");
    let done = stages.iter().try_for_each(|&stage| run_stage(stage, &config, &run, &Device::Cpu));
    (root, done)
}

#[test]
fn what_ends_a_turn_of_the_template_is_saved_beside_what_the_files_name() {
    // as every Qwen3 base model: the files end a document, the template a turn
    let change = |base: &Path| {
        set(&base.join("config.json"), json!({"eos_token_id": 0}));
        set(&base.join("generation_config.json"), json!({"eos_token_id": 0, "max_new_tokens": 2048}));
        set(&base.join("tokenizer_config.json"), json!({"eos_token": "<|endoftext|>"}));
    };
    let (root, done) = from_base(change, &STAGES[..4]);
    done.expect("runs up to midtrain");
    let saved = |file: &str| smoke::json(&root.path().join("run/midtrain/checkpoint").join(file));
    assert_eq!(saved("config.json")["eos_token_id"], json!([2, 0]));
    assert_eq!(saved("generation_config.json")["eos_token_id"], json!([2, 0]));
    assert_eq!(saved("generation_config.json")["max_new_tokens"], 2048);
    assert_eq!(saved("tokenizer_config.json")["eos_token"], "<|endoftext|>");
}

#[test]
fn a_template_that_cannot_be_used_fails_at_base() {
    let thinking = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
                    {% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}";
    let change = |base: &Path| std::fs::write(base.join("chat_template.jinja"), thinking).expect("writes");
    let (root, done) = from_base(change, &STAGES[..3]);
    let message = done.expect_err("a template that opens the answer").to_string();
    let file = root.path().join("base/chat_template.jinja").display().to_string();
    assert!(message.starts_with(&format!("text: {file}: ")), "{message}");
    assert!(message.contains("<think>") && message.contains(&format!("delete or replace {file}")), "{message}");
}
