//! The process that reads: every input through one reader, panics caught and written down, each input noted on the page
//! before it is read.

use std::cell::RefCell;
use std::collections::HashSet;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::watch::{LARGEST_INPUT, Note, Page, processor_time, status};
use crate::{Mutator, Reader, Target, Verdict};

/// Stack of the thread that reads: that of `gr2`'s own.
const STACK: usize = 8 << 20;
/// Threads that readers may have left behind.
const MOST_HELD: u64 = 2;
/// Exit code of a process that another is to go on for.
pub const GO_ON: i32 = 75;
/// Files kept of the findings at one place.
const KEPT: usize = 3;

/// What a worker is asked to do.
pub struct Work {
    /// The reader.
    pub target: &'static Target,
    /// Number of the first input.
    pub from: u64,
    /// Number after the last one.
    pub to: u64,
    /// Of all inputs.
    pub seed: u64,
    /// Where findings are kept.
    pub findings: PathBuf,
    /// Where the page is.
    pub page: PathBuf,
}

thread_local! {
    /// Where the last panic of this thread was, and what it said.
    static PANIC: RefCell<(String, String)> = const { RefCell::new((String::new(), String::new())) };
}

/// Reads all inputs, on a pool of one thread as `gr2` reads on threads of its pool. Prints a line for every finding at a new
/// place: kind, place, message and file, separated by tabs. Returns false if another process is to go on.
///
/// Errors: the page cannot be opened.
pub fn work(work: Work) -> std::io::Result<bool> {
    let page = Page::open(&work.page)?;
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map_or("nowhere".to_owned(), |at| format!("{}:{}", at.file(), at.line()));
        let said = {
            let payload = info.payload();
            let text = payload.downcast_ref::<&str>().copied().or(payload.downcast_ref::<String>().map(String::as_str));
            text.unwrap_or("a panic without words").to_owned()
        };
        PANIC.set((place, said));
    }));
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).stack_size(STACK).build_global();
    pool.expect("nothing has used the pool before");
    Ok(rayon::scope(|_| read_all(work, page)))
}

/// False if it ended before the last input, to be begun again after the one on the page.
fn read_all(work: Work, mut page: Page) -> bool {
    let Work { target, from, to, seed, findings, .. } = work;
    let mut mutator = Mutator::new(target, seed);
    let mut reader = (target.reader)();
    let threads = || status("Threads");
    let at_first = threads();
    let mut kinds: HashSet<String> = HashSet::new();
    let mut places: HashSet<String> = HashSet::new();
    for index in from..to {
        let input = mutator.input(index);
        page.begin(index, &input);
        page.raise(Note::Longest, input.len() as u64);
        let (mut read, mut took) = timed(&mut reader, &input);
        if took > target.slow {
            // once more, as the machine may have been busy with something else
            let before = processor_time(None);
            let (again, once_more) = timed(&mut reader, &input);
            let worked = before.and_then(|before| Some(processor_time(None)?.saturating_sub(before)));
            (read, took) = (again, took.min(worked.unwrap_or(once_more)));
        }
        page.raise(Note::Slowest, took.as_nanos() as u64);
        if took > target.slow && places.insert("slow".into()) {
            report(&findings, target, "slow", "time", &format!("{:.1} s", took.as_secs_f64()), &input);
        }
        match read {
            Ok(verdict) => {
                let accepted = matches!(verdict, Verdict::Accepted(_));
                page.add(Note::Accepted, u64::from(accepted));
                if kinds.len() < 4096 && kinds.insert(verdict.kind()) {
                    page.add(Note::Kinds, 1);
                    mutator.keep(input, accepted);
                }
            }
            Err((place, said)) => {
                page.add(Note::Panics, 1);
                if (0..KEPT).any(|copy| places.insert(format!("{place}#{copy}"))) {
                    report(&findings, target, "panic", &place, &said, &input);
                }
                // what the reader keeps may be half changed
                reader = (target.reader)();
            }
        }
        page.add(Note::Done, 1);
        // a reader that gives up on a thread leaves it behind, with all that it held
        if index % 64 == 0 && threads() > at_first + MOST_HELD {
            page.raise(Note::Memory, status("VmHWM") << 10);
            return false;
        }
    }
    page.raise(Note::Memory, status("VmHWM") << 10);
    true
}

/// What a reader made of an input, or the place and words of its panic.
pub type Read = Result<Verdict, (String, String)>;

fn timed(reader: &mut Reader, input: &[u8]) -> (Read, Duration) {
    let started = Instant::now();
    let read = catch_unwind(AssertUnwindSafe(|| reader(input))).map_err(|_| PANIC.take());
    (read, started.elapsed())
}

/// Reads inputs in this process, as a replay does. Panics are told by the default hook.
pub fn replay(target: &Target, inputs: &[Vec<u8>]) -> Vec<Verdict> {
    let mut reader = (target.reader)();
    inputs.iter().map(|input| reader(&input[..input.len().min(LARGEST_INPUT)])).collect()
}

/// Keeps an input and tells of it.
fn report(findings: &Path, target: &Target, kind: &str, place: &str, said: &str, input: &[u8]) {
    let path = keep(findings, target, kind, input);
    let said: String = said.chars().take(300).map(|c| if c.is_control() { ' ' } else { c }).collect();
    println!("{kind}\t{place}\t{said}\t{}", path.display());
    let _ = std::io::stdout().flush();
}

/// Writes an input to a file of its own.
pub fn keep(findings: &Path, target: &Target, kind: &str, input: &[u8]) -> PathBuf {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    input.iter().for_each(|byte| hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    let path = findings.join(format!("{}-{kind}-{hash:016x}", target.name));
    let written = std::fs::create_dir_all(findings).and_then(|()| std::fs::write(&path, input));
    if let Err(problem) = written {
        eprintln!("{}: {problem}", path.display());
    }
    path
}
