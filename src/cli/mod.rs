//! The command line: one file per command, arguments as typed first, then a validated configuration.

mod args;
mod bench;
mod clean;
mod demo;
mod devices;
mod generate;
mod logits;
mod run;
mod tokenize;
mod tune;

use crate::console;
use crate::error::Result;
use crate::files::write_atomic_with;
use clap::Parser;
use gr2_kernels::profile;
use std::process::ExitCode;

/// Stack of every thread in bytes: that of a main thread.
const STACK: usize = 8 << 20;

/// Runs the program. Prints errors to standard error; exit codes are those of [`crate::Error::exit_code`].
pub fn main() -> ExitCode {
    let args = args::Args::parse();
    let level = if args.verbose { tracing::Level::DEBUG } else { tracing::Level::WARN };
    tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).with_target(false).init();
    console::catch_interrupts();
    // on a thread of the pool: work that another thread hands to the pool waits for two wake-ups, sampling a small model
    // on the CPU does so 50 times a token
    let threads = rayon::ThreadPoolBuilder::new().stack_size(STACK).build_global();
    threads.expect("invariant: nothing has used the pool before");
    match rayon::scope(|_| profiled(args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// Runs a command; with `--profile` tells where its time went, also if it failed.
fn profiled(args: args::Args) -> Result<()> {
    let Some(path) = args.profile else { return args.command.run() };
    profile::start();
    let result = args.command.run();
    let profile = profile::finish();
    eprint!("{}", profile.table());
    write_atomic_with(&path, |out| profile.chrome_trace(out))?;
    eprintln!("trace: {}", path.display());
    if profile.left_out() > 0 {
        eprintln!("trace: {} later spans are in the table only", profile.left_out());
    }
    result
}
