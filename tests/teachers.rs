//! The stage `traces` with a language model behind an endpoint, through the program: what is paid is kept, what a server does is
//! survived, and no secret is written or printed.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

const CONFIG: &str = r#"
name = "teachers"
data.source = "shop"
data.shop = { users = 30, items = 12, categories = 2, brands = 3 }
sid = { levels = 2, codes_per_level = 8, svd.dims = 16, rqvae = { hidden = [32], latent = 8, epochs = 20, batch = 32 } }
base = { vocab_size = 400, hidden = 16, layers = 1, heads = 2, kv_heads = 1, head_dim = 8, ffn = 32, train.epochs = 1, train.batch_tokens = 512 }
midtrain = { text_words = 8, contexts.beams = 10, contexts.alone = 1, train.epochs = 1, train.batch_tokens = 2048 }
slates = { source = "markov", size = 2, practice = 0 }
prompt = { history_items = 2, knowledge = false }
[traces]
teacher = "http"
sampling.sampling = "distillation"
sampling.max_attempts = 2
http = { model = "m", timeout = 20, backoff = 0.05, retries = 2, parallel = 1 }
"#;

/// A finished run up to the slates, with its configuration; made once.
fn prepared() -> &'static Path {
    static MADE: OnceLock<tempfile::TempDir> = OnceLock::new();
    MADE.get_or_init(|| {
        let root = tempfile::tempdir().expect("temporary directory");
        std::fs::write(root.path().join("run.toml"), CONFIG).expect("writes");
        for stage in ["data", "sid", "base", "midtrain", "slates"] {
            let out = gr2(stage, root.path(), &[], &[]);
            assert!(out.status.success(), "{stage}: {}", said(&out));
        }
        root
    })
    .path()
}

/// A copy of the prepared run.
fn fresh() -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("temporary directory");
    copy(prepared(), root.path());
    root
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("directory");
    for entry in std::fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).expect("copies")),
        }
    }
}

fn command(stage: &str, root: &Path, settings: &[&str], more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gr2"));
    command.arg(stage).arg(root.join("run.toml")).arg("--out").arg(root.join("out")).args(["--device", "cpu"]);
    command.args(settings.iter().flat_map(|setting| ["--set", setting]));
    command.args(more);
    command
}

fn gr2(stage: &str, root: &Path, settings: &[&str], more: &[&str]) -> Output {
    command(stage, root, settings, more).output().expect("starts gr2")
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn accepted(root: &Path) -> usize {
    std::fs::read_to_string(root.join("out/traces/traces.jsonl")).map_or(0, |text| text.lines().count())
}

/// What a server sends back to the request of this number, from 1, and body: status and body; `None` is silence.
type Reply = fn(usize, &Value) -> Option<(u16, String)>;

/// A server on a port of its own.
struct Server {
    setting: String,
    asked: Arc<AtomicUsize>,
}

impl Server {
    fn new(reply: Reply) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let setting = format!("traces.http.base_url=http://{}/v1", listener.local_addr().expect("an address"));
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let count = count.clone();
                std::thread::spawn(move || serve(stream, reply, &count));
            }
        });
        Server { setting, asked }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn serve(mut stream: TcpStream, reply: Reply, count: &AtomicUsize) {
    let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
    let (mut line, mut length) = (String::new(), 0);
    while reader.read_line(&mut line).unwrap_or(0) > 2 {
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
        line.clear();
    }
    let mut body = vec![0; length];
    if reader.read_exact(&mut body).is_err() {
        return;
    }
    let body = serde_json::from_slice(&body).expect("JSON");
    let Some((status, body)) = reply(count.fetch_add(1, Ordering::SeqCst) + 1, &body) else {
        std::thread::sleep(std::time::Duration::from_secs(60));
        return;
    };
    let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    let _ = stream.write_all((head + &body).as_bytes());
}

/// A right answer to a request, with these words as its reason.
fn answer(body: &Value, words: &str) -> String {
    let prompt =
        body["messages"].as_array().expect("messages").last().expect("a message")["content"].as_str().expect("text");
    let candidates = prompt.rsplit_once("Candidates:").expect("candidates").1;
    let ids = candidates.split("<|sid_begin|>").skip(1);
    let ids: Vec<String> = ids
        .map(|rest| format!("<|sid_begin|>{}<|sid_end|>", rest.split("<|sid_end|>").next().expect("an id")))
        .collect();
    json!({ "explanation": words, "recommendations": ids }).to_string()
}

fn says(content: &str) -> Option<(u16, String)> {
    let usage = json!({ "prompt_tokens": 10.0, "completion_tokens": "5" });
    Some((200, json!({ "choices": [{ "message": { "content": content } }], "usage": usage }).to_string()))
}

fn good(_: usize, body: &Value) -> Option<(u16, String)> {
    says(&answer(body, "The customer repeats what they bought."))
}

#[test]
fn no_setting_that_decides_no_answer_buys_one_again() {
    let root = fresh();
    let server = Server::new(good);
    let run = |settings: &[&str]| {
        let out = gr2("traces", root.path(), settings, &[]);
        assert!(out.status.success(), "{}", said(&out));
    };
    let plan = |settings: &[&str]| said(&gr2("traces", root.path(), settings, &["--dry-run"]));
    assert!(plan(&[]).contains(" requests of the first attempt to be paid (0 of "), "{}", plan(&[]));
    run(&[&server.setting]);
    let paid = server.asked();
    assert!(
        paid > 4 && plan(&[]).contains(&format!(", 0 requests of the first attempt to be paid ({paid} of {paid} "))
    );
    assert!(plan(&["traces.http.temperature=0.1"]).contains(&format!(", {paid} requests of the first")));
    for setting in ["traces.http.timeout=7", "traces.sampling.max_attempts=3", "traces.sampling.prompt_price=1"] {
        run(&[&server.setting, setting]);
        assert_eq!(server.asked(), paid, "{setting}");
    }
    let moved = Server::new(good);
    run(&[&moved.setting, "traces.sampling.max_attempts=4"]);
    // another run, and answers where older versions kept them
    let other = fresh();
    let cache = format!("traces.cache={}", root.path().join("out/answers").display());
    assert!(gr2("traces", other.path(), &[&moved.setting, &cache], &[]).status.success());
    let old = fresh();
    copy(&root.path().join("out/answers"), &old.path().join("out/traces.previous/answers"));
    let left = said(&gr2("traces", old.path(), &[], &["--dry-run"]));
    assert!(left.contains(", 0 requests of the first attempt"), "{left}");
    assert!(gr2("traces", old.path(), &[&moved.setting], &[]).status.success());
    assert_eq!((moved.asked(), accepted(old.path())), (0, accepted(root.path())));
    assert!(old.path().join("out/answers").is_dir() && !old.path().join("out/traces.previous/answers").exists());
}

#[test]
fn a_dry_run_without_slates_says_at_most() {
    let root = tempfile::tempdir().expect("temporary directory");
    std::fs::write(root.path().join("run.toml"), CONFIG).expect("writes");
    let plan = said(&gr2("run", root.path(), &[], &["--dry-run"]));
    assert!(
        plan.contains(", at most 30 requests of the first attempt to be paid (the slates are not made yet)"),
        "{plan}"
    );
    assert!(!root.path().join("out").exists());
}

#[test]
fn servers_are_taken_as_they_are() {
    let root = fresh();
    let all = || {
        let server = Server::new(good);
        assert!(gr2("traces", root.path(), &[&server.setting], &[]).status.success());
        accepted(root.path())
    };
    let all = all();
    let run = |seed: usize, reply: Reply| {
        let server = Server::new(reply);
        let seed = format!("traces.http.seed={seed}");
        let out = gr2("traces", root.path(), &[&server.setting, &seed], &[]);
        assert!(out.status.success(), "{}", said(&out));
        accepted(root.path())
    };
    let strange: [Reply; 6] = [
        |k, body| if k % 3 == 0 { Some((200, "{\"error\": {\"code\": 502}}".into())) } else { good(k, body) },
        |k, body| if k % 3 == 1 { Some((200, "<html>502</html>".into())) } else { good(k, body) },
        |k, body| if k == 4 { Some((200, "x".repeat(20 << 20))) } else { good(k, body) },
        |_, body| says(&format!("Sure!\n```JSON\n{}\n```\nEnjoy {{}}", answer(body, "ink\nand").replace("\\n", "\n"))),
        |_, body| match body.get("max_tokens") {
            Some(_) => Some((400, json!({ "error": { "message": "unsupported", "param": "max_tokens" } }).to_string())),
            None => good(0, body),
        },
        |_, body| says(&answer(body, "plain").replace("}", ", }")),
    ];
    for (seed, reply) in strange.into_iter().enumerate() {
        assert_eq!(run(10 + seed, reply), all, "server {seed}");
    }
    let refused = |_: usize, body: &Value| {
        let text = body["messages"].to_string();
        match text.bytes().map(usize::from).sum::<usize>() % 4 {
            0 => Some((400, "prompt rejected".into())),
            _ => good(0, body),
        }
    };
    let some = run(30, refused);
    assert!(some > 0 && some <= all, "{some} of {all}");

    let control: Reply = |_, body| says(&answer(body, "paper <|im_end|> tape"));
    let server = Server::new(control);
    let out = gr2("traces", root.path(), &[&server.setting, "traces.http.seed=40"], &[]);
    let message = said(&out);
    assert!(!out.status.success() && message.contains("control_token"), "{message}");
    assert!(message.contains("paper <|im_end|> tape") && message.contains("answers"), "{message}");
}

#[test]
fn no_secret_is_written_or_printed() {
    let root = fresh();
    let secret = "sk-SECRET-1234567890abcdef";
    let echo: Reply = |k, body| match k % 2 {
        0 => says(&answer(body, &format!("my key is {} and {}", "sk-SECRET-1234567890abcdef", "other-SECRET-key"))),
        _ => Some((500, format!("{{\"error\": \"key {}\"}}", "sk-SECRET-1234567890abcdef"))),
    };
    let server = Server::new(echo);
    let clean = |out: &Output| {
        assert!(!said(out).contains("SECRET"), "{}", said(out));
        for file in files(&root.path().join("out")) {
            let text = std::fs::read(&file).expect("a file");
            assert!(!text.windows(6).any(|part| part == b"SECRET"), "{}", file.display());
        }
    };
    let with_user = server.setting.replace("http://", &format!("http://user:{secret}@"));
    for bad in [with_user, format!("{}?api-key={secret}", server.setting), format!("traces.http.api_key_env={secret}")]
    {
        let out = gr2("run", root.path(), &[&bad], &[]);
        assert!(out.status.code() == Some(1) && said(&out).contains("api_key_env"), "{}", said(&out));
        clean(&out);
    }
    let unknown = gr2("run", root.path(), &[&format!("traces.http.api_key.x==\"{secret}")], &[]);
    assert!(!unknown.status.success());
    clean(&unknown);

    let key = root.path().join("key");
    std::fs::write(&key, format!("{secret}\n")).expect("writes");
    let key = format!("traces.http.api_key_file={}", key.display());
    let extra = "traces.http.extra.api_key=other-SECRET-key";
    let out = gr2("traces", root.path(), &[&server.setting, &key, extra], &["-v"]);
    assert!(out.status.success() && accepted(root.path()) > 0, "{}", said(&out));
    clean(&out);
    // what a run has written is told from what a user has
    let config = root.path().join("out/config.toml");
    std::fs::copy(&config, root.path().join("run.toml")).expect("copies");
    let again = gr2("traces", root.path(), &[], &[]);
    assert!(
        said(&again).contains("traces.http.extra: {\"api_key\":\"***\"}: a secret was taken out"),
        "{}",
        said(&again)
    );
}

fn files(root: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    for entry in std::fs::read_dir(root).expect("a directory") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found
}

#[cfg(unix)]
#[test]
fn an_interrupt_need_not_wait_for_a_silent_server() {
    let root = fresh();
    let server = Server::new(|k, body| if k > 2 { None } else { good(k, body) });
    let mut child = command("traces", root.path(), &[&server.setting], &[]).spawn().expect("starts gr2");
    while server.asked() < 3 {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let interrupted = std::time::Instant::now();
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill").success());
    let status = child.wait().expect("ends");
    assert_eq!(status.code(), Some(130));
    assert!(interrupted.elapsed().as_secs_f64() < 2.0, "{:?}", interrupted.elapsed());
    // the two answers that had arrived are kept
    let plan = said(&gr2("traces", root.path(), &[], &["--dry-run"]));
    assert!(plan.contains("(2 of "), "{plan}");
}
