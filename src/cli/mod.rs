//! The command line: one file per command, arguments as typed first, then a validated configuration.

mod args;
mod demo;
mod devices;
mod generate;
mod logits;
mod run;
mod tokenize;

use crate::console;
use clap::Parser;
use std::process::ExitCode;

/// Runs the program. Prints errors to standard error; exit codes are those of [`crate::Error::exit_code`].
pub fn main() -> ExitCode {
    let args = args::Args::parse();
    let level = if args.verbose { tracing::Level::DEBUG } else { tracing::Level::WARN };
    tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).with_target(false).init();
    console::catch_interrupts();
    match args.command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
