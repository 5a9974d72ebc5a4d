//! Watching workers: one process for each reader, begun again after the input that ended it.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{self, Sender};
use std::time::{Duration, Instant};

use crate::watch::{Note, Page, processor_time};
use crate::{SCRATCH, Target, worker};

/// An input that has had a processor for so long has hung.
const HUNG: Duration = Duration::from_secs(20);
/// So has one that is there for so long, whatever it waits for.
const STUCK: Duration = Duration::from_secs(300);
/// Bytes of address space of a process; readers may take stacks of hundreds of megabytes, which cost nothing unless used.
const MEMORY: u64 = 4 << 30;
/// Processes that may end on the way through one target.
const MOST_ENDS: usize = 20;

/// How to run.
pub struct Plan {
    /// Inputs for each reader.
    pub inputs: u64,
    /// Of all inputs.
    pub seed: u64,
    /// Readers tested at the same time.
    pub threads: usize,
    /// Where findings are kept.
    pub findings: PathBuf,
    /// What reads: this program.
    pub program: PathBuf,
}

/// An input that a reader did not stand.
#[derive(Debug, Clone)]
pub struct Finding {
    /// `panic`, `slow`, `abort` or `hang`.
    pub kind: String,
    /// Source line of a panic, or how the process ended.
    pub place: String,
    /// What was said.
    pub said: String,
    /// The first input.
    pub file: PathBuf,
    /// Inputs kept that did the same.
    pub times: usize,
}

impl Finding {
    /// Adds it to those it differs from.
    fn join(self, findings: &mut Vec<Finding>) {
        let words = |said: &str| said.chars().filter(|c| !c.is_ascii_digit()).take(60).collect::<String>();
        // one place of the source is one fault, whatever it says
        let same = |other: &&mut Finding| {
            let alike = self.kind != "abort" || words(&other.said) == words(&self.said);
            other.kind == self.kind && other.place == self.place && alike
        };
        match findings.iter_mut().find(same) {
            Some(other) => other.times += 1,
            None => findings.push(self),
        }
    }
}

/// What became of one target.
pub struct Outcome {
    /// The reader.
    pub target: &'static Target,
    /// Inputs read.
    pub done: u64,
    /// Those that were accepted.
    pub accepted: u64,
    /// Panics, of all places.
    pub panics: u64,
    /// Processes that ended, or hung.
    pub ends: u64,
    /// Kinds of results.
    pub kinds: u64,
    /// Bytes of the longest input.
    pub longest: u64,
    /// Bytes of memory at the highest.
    pub memory: u64,
    /// Time of the slowest input.
    pub slowest: Duration,
    /// Time of all.
    pub took: Duration,
    /// One of each place.
    pub findings: Vec<Finding>,
}

impl Outcome {
    /// Whether every input was read without a finding.
    pub fn clean(&self, inputs: u64) -> bool {
        self.findings.is_empty() && self.panics + self.ends == 0 && self.done == inputs
    }
}

/// Runs the targets, handing each outcome to `show` as it comes.
///
/// Errors: a process cannot be started, or its files not be made.
pub fn run(targets: &[&'static Target], plan: &Plan, mut show: impl FnMut(&Outcome)) -> std::io::Result<Vec<Outcome>> {
    let memory = Path::new("/dev/shm");
    let scratch = tempfile::tempdir_in(memory).or_else(|_| tempfile::tempdir())?;
    let next = AtomicUsize::new(0);
    let (outcomes, arriving) = mpsc::channel();
    std::thread::scope(|threads| {
        for _ in 0..plan.threads.max(1) {
            let outcomes = outcomes.clone();
            let (next, scratch) = (&next, scratch.path());
            threads.spawn(move || run_each(targets, plan, scratch, next, &outcomes));
        }
        drop(outcomes);
        let mut all = vec![];
        for outcome in arriving {
            let outcome = outcome?;
            show(&outcome);
            all.push(outcome);
        }
        Ok(all)
    })
}

fn run_each(
    targets: &[&'static Target],
    plan: &Plan,
    scratch: &Path,
    next: &AtomicUsize,
    outcomes: &Sender<std::io::Result<Outcome>>,
) {
    while let Some(&target) = targets.get(next.fetch_add(1, Relaxed)) {
        if outcomes.send(run_one(target, plan, scratch)).is_err() {
            return;
        }
    }
}

fn run_one(target: &'static Target, plan: &Plan, scratch: &Path) -> std::io::Result<Outcome> {
    let started = Instant::now();
    let folder = scratch.join(target.name);
    std::fs::create_dir_all(&folder)?;
    let page_path = folder.join("page");
    let page = Page::open(&page_path)?;
    let (mut from, mut findings, mut ends) = (0, vec![], 0);
    while from < plan.inputs && ends < MOST_ENDS {
        let child = limited(&plan.program)
            .args(["--worker", target.name])
            .args(["--from", &from.to_string(), "--inputs", &plan.inputs.to_string()])
            .args(["--seed", &plan.seed.to_string()])
            .arg("--findings")
            .arg(&plan.findings)
            .arg("--page")
            .arg(&page_path)
            .env(SCRATCH, &folder)
            .env("RUST_BACKTRACE", "0")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let end = watch(child, &page)?;
        end.printed.lines().filter_map(finding).for_each(|finding| finding.join(&mut findings));
        let (kind, place) = match end.failure {
            Some(failure) => failure,
            None if end.complete => break,
            None => {
                from = page.get(Note::Index) + 1;
                continue;
            }
        };
        ends += 1;
        let file = worker::keep(&plan.findings, target, kind, &page.input());
        let last: Vec<&str> = end.errors.lines().filter(|line| !line.trim().is_empty()).collect();
        let said = last[last.len().saturating_sub(4)..].join(" | ");
        Finding { kind: kind.into(), place, said, file, times: 1 }.join(&mut findings);
        from = page.get(Note::Index) + 1;
    }
    std::fs::remove_dir_all(&folder)?;
    Ok(Outcome {
        target,
        done: page.get(Note::Done) + ends as u64,
        accepted: page.get(Note::Accepted),
        panics: page.get(Note::Panics),
        ends: ends as u64,
        kinds: page.get(Note::Kinds),
        longest: page.get(Note::Longest),
        memory: page.get(Note::Memory),
        slowest: Duration::from_nanos(page.get(Note::Slowest)),
        took: started.elapsed(),
        findings,
    })
}

/// A program that gets [`MEMORY`] and no more: a block beyond is refused, which ends a process that cannot do without.
fn limited(program: &Path) -> Command {
    if !cfg!(unix) {
        return Command::new(program);
    }
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -v {} && exec \"$0\" \"$@\"", MEMORY >> 10)]).arg(program);
    command
}

/// How a worker ended.
struct End {
    /// Whether it read the last input.
    complete: bool,
    /// `abort` or `hang`, and how the process ended.
    failure: Option<(&'static str, String)>,
    printed: String,
    errors: String,
}

/// Waits for a worker, and ends it when one input takes too long.
fn watch(mut child: Child, page: &Page) -> std::io::Result<End> {
    let pid = child.id();
    let printed = read_aside(child.stdout.take());
    let errors = read_aside(child.stderr.take());
    let worked = || processor_time(Some(pid)).unwrap_or_default();
    let mut seen = (page.get(Note::Index), Instant::now(), worked());
    let mut hung = false;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        let index = page.get(Note::Index);
        if index != seen.0 {
            seen = (index, Instant::now(), worked());
        } else if worked().saturating_sub(seen.2) > HUNG || seen.1.elapsed() > STUCK {
            hung = true;
            child.kill()?;
            break child.wait()?;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let complete = status.success();
    let failure = match (hung, complete || status.code() == Some(worker::GO_ON)) {
        (true, _) => Some(("hang", format!("an input of more than {} s", HUNG.as_secs()))),
        (false, false) => Some(("abort", status.to_string())),
        _ => None,
    };
    Ok(End {
        complete,
        failure,
        printed: printed.join().unwrap_or_default(),
        errors: errors.join().unwrap_or_default(),
    })
}

/// Reads what a process prints, the last of it.
fn read_aside(pipe: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let (mut pipe, mut bytes, mut piece) = (pipe, vec![], [0; 4096]);
        let mut read = || pipe.as_mut()?.read(&mut piece).ok().filter(|&n| n > 0).map(|n| piece[..n].to_vec());
        while let Some(read) = read() {
            bytes.extend(read);
            // readers talk to their users at every input
            if bytes.len() > 1 << 20 {
                bytes.drain(..1 << 19);
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn finding(line: &str) -> Option<Finding> {
    let mut fields = line.split('\t').map(str::to_owned);
    let mut field = || fields.next();
    Some(Finding { kind: field()?, place: field()?, said: field()?, file: field()?.into(), times: 1 })
}
