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

use crate::console::{self, say};
use crate::error::{Error, Result};
use crate::files;
use clap::Parser;
use gr2_kernels::profile;
use std::io::IsTerminal;
use std::process::ExitCode;

/// Stack of every thread in bytes: that of a main thread.
const STACK: usize = 8 << 20;

/// Runs the program. Prints errors to standard error; exit codes are those of [`crate::Error::exit_code`].
pub fn main() -> ExitCode {
    let result = run();
    // from here on there is nothing to interrupt
    let _end = console::hold();
    match result {
        Ok(code) => code,
        Err(error) if console::reader_is_gone(&error) => ExitCode::SUCCESS,
        Err(error) => {
            say!("error: {error}");
            if matches!(error, Error::Interrupted { .. }) {
                console::leave();
            }
            ExitCode::from(error.exit_code())
        }
    }
}

fn run() -> Result<ExitCode> {
    let args = match args::Args::try_parse() {
        Ok(args) => args,
        Err(text) => {
            let printed = text.print();
            // what is asked for, as --help, is a result
            return match text.use_stderr() {
                true => Ok(ExitCode::from(2)),
                false => printed.map(|()| ExitCode::SUCCESS).map_err(Error::io(console::STDOUT)),
            };
        }
    };
    let level = if args.verbose { tracing::Level::DEBUG } else { tracing::Level::WARN };
    let log = tracing_subscriber::fmt().with_max_level(level).with_writer(console::Log::default).with_target(false);
    log.with_ansi(std::io::stderr().is_terminal()).init();
    console::working_on(args.command.name());
    console::catch_interrupts();
    // on a thread of the pool: work that another thread hands to the pool waits for two wake-ups, sampling a small model
    // on the CPU does so 50 times a token
    let threads = rayon::ThreadPoolBuilder::new().stack_size(STACK).build_global();
    threads.map_err(|problem| Error::Usage {
        problem: format!("no threads to compute with: {problem}"),
        hint: Some("fewer of them, as with RAYON_NUM_THREADS=2, or higher limits of the system".into()),
    })?;
    rayon::scope(|_| profiled(args))?;
    Ok(ExitCode::SUCCESS)
}

/// Runs a command; with `--profile` tells where its time went, also if it failed.
fn profiled(args: args::Args) -> Result<()> {
    let Some(path) = args.profile else { return args.command.run() };
    files::check_target(&path)?;
    profile::start();
    let result = args.command.run();
    let profile = profile::finish();
    let table = profile.table();
    if !table.is_empty() {
        say!("{}", table.trim_end());
    }
    let written = files::write_atomic_with(&path, |out| profile.chrome_trace(out));
    if written.is_ok() {
        say!("trace: {}", path.display());
    }
    if profile.left_out() > 0 {
        say!("trace: {} later spans are in the table only", profile.left_out());
    }
    match (result, written) {
        (Err(error), Err(second)) => {
            say!("error: {second}");
            Err(error)
        }
        (result, written) => result.and(written),
    }
}
