//! `gr2-fuzz`: generated inputs for every reader of `gr2`, on the stable compiler.
//!
//! ```text
//! cargo run --release -p gr2-fuzz -- --inputs 1000000 --threads 2      # every reader
//! cargo run --release -p gr2-fuzz -- tokenizer_json --seed 7           # one, other inputs
//! cargo run --release -p gr2-fuzz -- tokenizer_json --replay FILE      # one input
//! ```

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use gr2_fuzz::run::{Finding, Outcome, Plan, run};
use gr2_fuzz::worker::{self, Work};
use gr2_fuzz::{Mutator, TARGETS, Target, target};

/// Generated inputs for every reader of gr2: none may panic, abort, hang or take memory without bound.
#[derive(Parser)]
struct Args {
    /// Readers; all of them where none is named.
    targets: Vec<String>,
    /// Inputs for each.
    #[arg(long, default_value_t = 20_000)]
    inputs: u64,
    /// Seed of the inputs.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Readers tested at the same time.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Folder in which inputs with findings are kept.
    #[arg(long, default_value = "target/fuzz-findings")]
    findings: PathBuf,
    /// Prints the names of the readers.
    #[arg(long)]
    list: bool,
    /// Reads one input, in this process, and tells what came of it.
    #[arg(long)]
    replay: Option<PathBuf>,
    /// Prints a generated input.
    #[arg(long)]
    show: Option<u64>,
    /// Reads for another process.
    #[arg(long, hide = true)]
    worker: Option<String>,
    #[arg(long, hide = true, default_value_t = 0)]
    from: u64,
    #[arg(long, hide = true)]
    page: Option<PathBuf>,
}

fn main() -> ExitCode {
    match Args::parse().run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("error: {problem}");
            ExitCode::FAILURE
        }
    }
}

impl Args {
    /// Whether there was no finding.
    fn run(self) -> Result<bool, String> {
        if let (Some(name), Some(page)) = (self.worker, self.page) {
            let target = named(&name)?;
            let (from, to, seed, findings) = (self.from, self.inputs, self.seed, self.findings);
            let done = worker::work(Work { target, from, to, seed, findings, page });
            if let Ok(false) = done {
                std::process::exit(worker::GO_ON);
            }
            return done.map_err(|e| e.to_string());
        }
        let targets = match self.targets[..] {
            [] => TARGETS.iter().collect(),
            _ => self.targets.iter().map(|name| named(name)).collect::<Result<Vec<&Target>, String>>()?,
        };
        if self.list {
            targets.iter().for_each(|target| println!("{}", target.name));
            return Ok(true);
        }
        if let Some(path) = self.replay {
            let input = std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
            for target in targets {
                println!("{}: {:?}", target.name, worker::replay(target, std::slice::from_ref(&input)));
            }
            return Ok(true);
        }
        if let Some(index) = self.show {
            for target in targets {
                let input = Mutator::new(target, self.seed).input(index);
                println!("{}\n{}", target.name, String::from_utf8_lossy(&input));
            }
            return Ok(true);
        }
        let program = std::env::current_exe().map_err(|e| e.to_string())?;
        let Args { inputs, seed, threads, findings, .. } = self;
        let plan = Plan { inputs, seed, threads, findings, program };
        println!(
            "{:<24} {:>9} {:>9} {:>6} {:>7} {:>6} {:>8} {:>6} {:>8} {:>8}",
            "target", "inputs", "accepted", "kinds", "panics", "ends", "longest", "MB", "slowest", "seconds"
        );
        let started = std::time::Instant::now();
        let outcomes = run(&targets, &plan, show).map_err(|e| e.to_string())?;
        let sum = |of: fn(&Outcome) -> u64| outcomes.iter().map(of).sum::<u64>();
        let findings = sum(|o| o.findings.len() as u64);
        println!(
            "{} readers, {} inputs, {} panics, {} ends, {findings} findings, {:.0} s",
            outcomes.len(),
            sum(|o| o.done),
            sum(|o| o.panics),
            sum(|o| o.ends),
            started.elapsed().as_secs_f64()
        );
        Ok(outcomes.iter().all(|outcome| outcome.clean(plan.inputs)))
    }
}

fn named(name: &str) -> Result<&'static Target, String> {
    target(name).ok_or_else(|| format!("no reader {name}; --list names them"))
}

fn show(outcome: &Outcome) {
    println!(
        "{:<24} {:>9} {:>8.1}% {:>6} {:>7} {:>6} {:>8} {:>6} {:>6.0}ms {:>8.1}",
        outcome.target.name,
        outcome.done,
        100.0 * outcome.accepted as f64 / outcome.done.max(1) as f64,
        outcome.kinds,
        outcome.panics,
        outcome.ends,
        outcome.longest,
        outcome.memory >> 20,
        outcome.slowest.as_secs_f64() * 1e3,
        outcome.took.as_secs_f64()
    );
    for finding in &outcome.findings {
        let Finding { kind, place, said, file, times } = finding;
        println!("  {kind} at {place}, {times} kept: {said}\n    {}", file.display());
    }
}
