//! Streams that are broken, full or read by nobody, a terminal that is closed, and output paths that are no regular files.
#![cfg(unix)]

mod support;

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use support::{fixture, smoke};

fn gr2(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gr2"));
    command.args(args).stdin(Stdio::null());
    command
}

/// A pipe that nobody reads.
fn broken() -> Stdio {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    writer.into()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Settings of a run that takes few seconds.
const BRIEF: [&str; 7] = [
    "data.shop.users=60",
    "base.train.max_steps=3",
    "midtrain.train.max_steps=3",
    "sft.train.max_steps=3",
    "dapo.steps=0",
    "dapo.validate_slates=2",
    "eval.slates=4",
];

/// `gr2 run` of the smoke configuration.
fn run(out: &Path, settings: &[&str]) -> Command {
    let mut command = gr2(&["-v", "run"]);
    command.arg(smoke::path()).args(["--device", "cpu", "--out"]).arg(out);
    command.args(settings.iter().flat_map(|setting| ["--set", setting]));
    command
}

#[test]
fn a_reader_of_results_that_has_seen_enough_ends_a_command_quietly() {
    let (model, config) = (fixture("qwen3-tied"), smoke::path());
    let (model, config) = (model.to_str().expect("UTF-8"), config.to_str().expect("UTF-8"));
    let words = "word ".repeat(20_000);
    let commands: [&[&str]; 8] = [
        &["tokenize", "--model", model, "--text", &words],
        &["tokenize", "--model", model, "--text", "a", "--json"],
        &["generate", "--model", model, "--tokens", "1,2", "--device", "cpu", "--max-new-tokens", "2"],
        &["logits", "--model", model, "--tokens", "1", "--device", "cpu", "--out", "/dev/stdout"],
        &["devices"],
        &["run", config, "--out", "nowhere", "--dry-run"],
        &["run", "--help"],
        &["--version"],
    ];
    for args in commands {
        let output = gr2(args).stdout(broken()).output().expect("starts gr2");
        assert_eq!((output.status.code(), said(&output).as_str()), (Some(0), ""), "{:?}", &args[..1]);
        // what is wrong with both streams is nobody's to hear
        let code = gr2(args).stdout(broken()).stderr(broken()).status().expect("starts gr2").code();
        assert_eq!(code, Some(0), "{:?}", &args[..1]);
        if let Ok(full) = OpenOptions::new().write(true).open("/dev/full") {
            let output = gr2(args).stdout(full).output().expect("starts gr2");
            assert_eq!(output.status.code(), Some(1), "{:?}", &args[..1]);
            assert!(said(&output).contains("No space left on device"), "{}", said(&output));
        }
    }
    // a first line is read, the others are not
    let mut child = gr2(commands[0]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts gr2");
    let mut first = [0; 8];
    child.stdout.take().expect("piped").read_exact(&mut first).expect("a line");
    let output = child.wait_with_output().expect("ends");
    assert_eq!((output.status.code(), said(&output).as_str()), (Some(0), ""));
    for stream in [broken(), OpenOptions::new().write(true).open("/dev/null").expect("opens").into()] {
        assert_eq!(gr2(&["frobnicate"]).stderr(stream).status().expect("starts gr2").code(), Some(2));
    }
}

#[test]
fn a_run_goes_on_where_nobody_reads_its_log() {
    let root = tempfile::tempdir().expect("temporary directory");
    let closed = root.path().join("closed");
    let status = run(&closed, &BRIEF).stdout(broken()).stderr(broken()).status().expect("starts gr2");
    assert_eq!(status.code(), Some(0));
    assert!(closed.join("report.json").exists());

    // a reader that leaves after the first line, as `head -1`
    let left = root.path().join("left");
    let mut child = run(&left, &BRIEF).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("starts gr2");
    child.stderr.take().expect("piped").read_exact(&mut [0; 8]).expect("a line");
    assert_eq!(child.wait().expect("ends").code(), Some(0));
    assert!(left.join("report.json").exists());
}

/// Waits until the log of a stage has a line.
fn wait_for_log(out: &Path, stage: &str) {
    let started = Instant::now();
    while std::fs::metadata(out.join(stage).join("metrics.jsonl")).map_or(0, |found| found.len()) == 0 {
        assert!(started.elapsed() < Duration::from_secs(120), "{stage}: no line of its log");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn send(signal: &str, process: u32) {
    assert!(Command::new("kill").args([signal, &process.to_string()]).status().expect("kill").success());
}

#[test]
fn a_closed_terminal_interrupts_a_run_unless_it_is_to_be_outlived() {
    let root = tempfile::tempdir().expect("temporary directory");
    // long enough to be hung up on
    let settings = ["base.train.epochs=10000"];
    let out = root.path().join("hung up");
    let mut command = run(&out, &settings);
    // SAFETY: it only sets the signal back: whoever runs the tests may ignore hang-ups.
    unsafe {
        command.pre_exec(|| {
            libc::signal(libc::SIGHUP, libc::SIG_DFL);
            Ok(())
        })
    };
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("starts gr2");
    wait_for_log(&out, "base");
    send("-HUP", child.id());
    let output = child.wait_with_output().expect("ends");
    assert_eq!(output.status.code(), Some(130), "{}", said(&output));
    assert!(
        said(&output).contains("error: base: interrupted; rerun the same command to continue"),
        "{}",
        said(&output)
    );

    // as nohup starts it
    let out = root.path().join("outlived");
    let direct = run(&out, &["base.train.max_steps=400", "base.train.epochs=10000"]);
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' HUP; exec \"$0\" \"$@\""]).arg(direct.get_program());
    // one stage is enough
    let args = direct.get_args().filter(|arg| *arg != "-v").map(|arg| if arg == "run" { "base".as_ref() } else { arg });
    command.args(args).stdout(Stdio::null()).stderr(Stdio::piped());
    assert_eq!(run_stage(&out, "data"), Some(0));
    let child = command.spawn().expect("starts sh");
    wait_for_log(&out, "base");
    send("-HUP", child.id());
    let output = child.wait_with_output().expect("ends");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
}

fn run_stage(out: &Path, stage: &str) -> Option<i32> {
    let mut command = gr2(&[stage]);
    command.arg(smoke::path()).args(["--device", "cpu", "--out"]).arg(out);
    command.output().expect("starts gr2").status.code()
}

#[test]
fn outputs_that_are_no_regular_files_are_written_through() {
    let root = tempfile::tempdir().expect("temporary directory");
    let at = |name: &str| root.path().join(name);
    let model = fixture("qwen3-tied");
    let model = model.to_str().expect("UTF-8");
    let logits = |out: &Path| {
        let mut command = gr2(&["logits", "--model", model, "--tokens", "1", "--device", "cpu", "--out"]);
        command.arg(out);
        command
    };
    let profile = |out: &Path| {
        let mut command = gr2(&["tokenize", "--model", model, "--text", "a"]);
        command.arg(format!("--profile={}", out.display())).stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let plain = at("plain");
    assert!(logits(&plain).status().expect("starts gr2").success());
    let expected = std::fs::read(&plain).expect("written");

    // a link stays one
    std::fs::write(at("file"), "old").expect("writes");
    symlink("file", at("link")).expect("links");
    assert!(logits(&at("link")).status().expect("starts gr2").success());
    assert!(at("link").is_symlink() && std::fs::read(at("file")).expect("reads") == expected);
    assert!(profile(&at("link")).status().expect("starts gr2").success());
    assert!(at("link").is_symlink());
    assert!(std::fs::read_to_string(at("file")).expect("reads").starts_with("{\"displayTimeUnit\""));

    // so does a pipe
    assert!(Command::new("mkfifo").arg(at("pipe")).status().expect("mkfifo").success());
    for (mut command, start) in [(logits(&at("pipe")), &expected[..]), (profile(&at("pipe")), b"{\"displayTimeUnit\"")]
    {
        let child = command.spawn().expect("starts gr2");
        let found = std::fs::read(at("pipe")).expect("reads");
        assert!(child.wait_with_output().expect("ends").status.success());
        assert!(found.starts_with(start));
        assert!(std::fs::metadata(at("pipe")).expect("is there").file_type().is_fifo());
    }

    // what standard output is appended to is not lost
    std::fs::write(at("log"), "before\n").expect("writes");
    let log: File = OpenOptions::new().append(true).open(at("log")).expect("opens");
    assert!(logits(Path::new("/dev/stdout")).stdout(log).status().expect("starts gr2").success());
    assert_eq!(std::fs::read(at("log")).expect("reads"), [b"before\n", &expected[..]].concat());

    // nothing is left beside, and what cannot be written is said before the work
    assert_eq!(std::fs::read_dir(root.path()).expect("lists").count(), 5);
    for out in [root.path().to_path_buf(), at("missing/file"), at("log/file")] {
        let output = gr2(&["logits", "--model", "no such model", "--tokens", "1", "--out"])
            .arg(&out)
            .output()
            .expect("starts gr2");
        assert_eq!(output.status.code(), Some(1));
        assert!(said(&output).contains(&format!("error: {}", out.display())), "{}", said(&output));
        let output = gr2(&["tokenize", "--model", "no such model", "--text", "a"])
            .arg(format!("--profile={}", out.display()))
            .output()
            .expect("starts gr2");
        assert!(said(&output).contains(&format!("error: {}", out.display())), "{}", said(&output));
    }
}
