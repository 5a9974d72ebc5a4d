//! The error type of the engine: what a kernel or a device refuses, and the op it happened in.

/// Result of every fallible function of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a kernel did not run.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// No adapter of the wanted kind exists.
    #[error("device: no {wanted} adapter found\n  hint: `gr2 devices` lists what is here; `--device cpu` needs none")]
    NoAdapter {
        /// What was asked for, as in `hardware GPU`.
        wanted: String,
    },

    /// The adapter lacks something every kernel needs.
    #[error("device: {adapter}: no {feature}")]
    Unsupported {
        /// Adapter name.
        adapter: String,
        /// The missing feature or limit.
        feature: String,
    },

    /// A buffer could not be allocated.
    #[error(
        "{op}: out of memory: {bytes} more bytes with {in_use} in use, {limit}\n  hint: a smaller batch, context or model needs less"
    )]
    OutOfMemory {
        /// The op that asked.
        op: &'static str,
        /// Bytes asked for.
        bytes: u64,
        /// Bytes held by live buffers of this device.
        in_use: u64,
        /// The limit that was hit, in words.
        limit: String,
    },

    /// The device is gone; nothing on it can be read any more.
    #[error("{op}: device lost: {reason}\n  hint: rerun to continue from the last checkpoint")]
    DeviceLost {
        /// The op that noticed.
        op: &'static str,
        /// What the driver said.
        reason: String,
    },

    /// The driver or wgpu refused a command: a defect of a kernel or of the driver.
    #[error("{op}: gpu: {message}")]
    Gpu {
        /// The op.
        op: &'static str,
        /// What wgpu said.
        message: String,
    },

    /// Sizes of operands disagree.
    #[error("{op}: {problem}")]
    Shape {
        /// The op.
        op: &'static str,
        /// The two sizes that disagree.
        problem: String,
    },

    /// An operand has a dtype the op does not take.
    #[error("{op}: {operand} is {found}, expected {expected}")]
    Dtype {
        /// The op.
        op: &'static str,
        /// The operand's name.
        operand: &'static str,
        /// Its dtype.
        found: crate::Dtype,
        /// The dtypes the op takes.
        expected: &'static str,
    },

    /// One row or one operand that cannot be split exceeds what the adapter binds.
    #[error("{op}: {bytes} bytes in one piece, the adapter binds {limit}")]
    Binding {
        /// The op.
        op: &'static str,
        /// Bytes of the piece.
        bytes: u64,
        /// Bytes of the largest binding.
        limit: u64,
    },

    /// Operands live on different devices.
    #[error("{op}: operands are on {first} and {second}")]
    DeviceMismatch {
        /// The op.
        op: &'static str,
        /// Device of the first operand.
        first: String,
        /// Device of the other.
        second: String,
    },
}

impl Error {
    /// A [`Error::Shape`] with its message.
    pub fn shape(op: &'static str, problem: impl Into<String>) -> Error {
        Error::Shape { op, problem: problem.into() }
    }
}
