//! `gr2` trains and serves a generative reasoning re-ranker on an engine of its own.
//!
//! A module may use only modules listed before it (`tests/layers.rs` checks this).
#![deny(missing_docs)]
// the macros of the standard library panic where a stream is broken: `console::say!` and `console::out!` do not
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod error;

pub mod bounds;

pub mod sandbox;

pub mod console;

pub mod checksum;

pub mod secrets;

pub mod files;

pub mod gpu_cache;

pub mod tensor;

pub mod autograd;

pub mod ops;

pub mod nn;

pub mod model;

pub mod text;

pub mod generate;

pub mod optim;

pub mod data;

pub mod sid;

pub mod train;

pub mod bench;

pub mod rerank;

pub mod rl;

pub mod eval;

pub mod pipeline;

pub mod cli;

/// Heeds the limits of threads that work on untrusted files; elsewhere it is the system's.
#[global_allocator]
static ALLOCATOR: sandbox::Allocator = sandbox::Allocator;

#[cfg(test)]
mod check;

pub use error::{Error, Result};
