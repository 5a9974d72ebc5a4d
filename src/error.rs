//! The one error type of the crate: what went wrong, where, the two facts that disagree, and the remedy where one is known.

use std::path::PathBuf;

/// Result of every fallible function of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// The causes of failure. The command line prints the message and exits with 1 ([`Error::Usage`]: 2).
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A kernel or a device refused: shape, dtype, memory, device loss.
    #[error(transparent)]
    Kernel(#[from] gr2_kernels::Error),

    /// Operands of an op disagree.
    #[error("{op}: {problem}")]
    Shape {
        /// The op, as in `matmul`.
        op: &'static str,
        /// The two shapes that disagree.
        problem: String,
    },

    /// A value of a configuration is out of range, unknown or contradicts another.
    #[error("config: {field}: {problem}{}", hint_line(.hint))]
    Config {
        /// Dotted name, as in `rl.group_size`.
        field: String,
        /// The value and the bound it breaks.
        problem: String,
        /// The remedy.
        hint: Option<String>,
    },

    /// The operating system refused a file.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },

    /// A record of a data file is not what was expected.
    #[error("data: {}{}: {problem}{}", .path.display(), line_part(.line), hint_line(.hint))]
    Data {
        /// The file.
        path: PathBuf,
        /// Line of the file, from 1, where the format has lines.
        line: Option<u64>,
        /// What was found and what was expected.
        problem: String,
        /// The remedy.
        hint: Option<String>,
    },

    /// A checkpoint disagrees with its config or is damaged.
    #[error("weights: {}: {tensor}: {problem}", .path.display())]
    Weights {
        /// The checkpoint file or directory.
        path: PathBuf,
        /// Tensor name, or the part of the file.
        tensor: String,
        /// The two facts that disagree.
        problem: String,
    },

    /// A tokenizer or chat template cannot be loaded or applied.
    #[error("text: {what}: {problem}{}", hint_line(.hint))]
    Text {
        /// The tokenizer file, template or token.
        what: String,
        /// What was found and what was expected.
        problem: String,
        /// The remedy.
        hint: Option<String>,
    },

    /// A teacher could not be reached or answered with something that is no answer.
    #[error("teacher: {endpoint}: {problem}{}", hint_line(.hint))]
    Teacher {
        /// URL, checkpoint or `scripted`.
        endpoint: String,
        /// What happened.
        problem: String,
        /// The remedy.
        hint: Option<String>,
    },

    /// Too many updates in a row had a NaN or infinite loss or gradient.
    #[error("{stage}: step {step}: {skipped} updates skipped for non-finite loss or gradient, limit {limit}\n  hint: lower the learning rate, or inspect the batch written to {}", .batch.display())]
    NonFinite {
        /// The stage, as in `sft`.
        stage: String,
        /// The optimiser step.
        step: u64,
        /// Updates skipped in a row.
        skipped: u64,
        /// The configured limit.
        limit: u64,
        /// Where the offending batch was written.
        batch: PathBuf,
    },

    /// A stage needs a result that is not there or was made by other inputs.
    #[error("run: {stage}: {problem}{}", hint_line(.hint))]
    Run {
        /// The stage.
        stage: String,
        /// What is missing or differs.
        problem: String,
        /// The remedy.
        hint: Option<String>,
    },

    /// A run directory cannot be worked in: it is not ours, or somebody else's at the moment.
    #[error("run directory: {}: {problem}{}", .path.display(), hint_line(.hint))]
    RunDirectory {
        /// The directory, or the folder or file in it.
        path: PathBuf,
        /// What is there.
        problem: String,
        /// The remedy.
        hint: Option<String>,
    },

    /// Stopped by Ctrl-C or a termination signal; everything up to the last checkpoint is kept.
    #[error("{stage}: interrupted{}", resumption(.stage))]
    Interrupted {
        /// The stage that was running, or the command that is none.
        stage: String,
    },

    /// The command line itself is wrong.
    #[error("usage: {problem}{}", hint_line(.hint))]
    Usage {
        /// The argument and what is wrong with it.
        problem: String,
        /// The remedy.
        hint: Option<String>,
    },
}

impl Error {
    /// Wraps an operating-system error with its path: `map_err(Error::io(path))`.
    pub fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.into();
        move |source| Error::Io { path, source }
    }

    /// A file or folder that a setting names and that is not there.
    pub fn not_there(setting: &str, path: &std::path::Path) -> Error {
        Error::Config {
            field: setting.into(),
            problem: format!("{}: there is no such file or folder", path.display()),
            hint: Some("a path that is not absolute begins at the folder the program is started in".into()),
        }
    }

    /// Process exit code: 2 for usage, 130 after an interrupt, 1 otherwise.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Usage { .. } => 2,
            Error::Interrupted { .. } => 130,
            _ => 1,
        }
    }
}

fn hint_line(hint: &Option<String>) -> String {
    hint.as_ref().map(|h| format!("\n  hint: {h}")).unwrap_or_default()
}

/// What to do about an interrupt: stages go on from what they have kept.
fn resumption(work: &str) -> &'static str {
    match work {
        "clean" | "generate" | "logits" | "tokenize" | "devices" | "bench" | "tune" => "",
        _ => "; rerun the same command to continue",
    }
}

fn line_part(line: &Option<u64>) -> String {
    line.map(|l| format!(":{l}")).unwrap_or_default()
}
