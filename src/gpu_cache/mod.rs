//! What is kept of a GPU between runs, in the user's cache directory: measured choices between kernels (`choices.rs`), and what its
//! driver has compiled (`pipelines.rs`).

mod choices;
mod pipelines;

pub use choices::{load as load_choices, parse as parse_choices, save as save_choices};
pub use pipelines::keep as keep_pipelines;

use etcetera::BaseStrategy;
use sha2::{Digest, Sha256};
use std::path::PathBuf;
use std::sync::LazyLock;

/// `gr2` in the user's cache directory, or none where there is no such directory.
pub fn directory() -> Option<PathBuf> {
    Some(etcetera::choose_base_strategy().ok()?.cache_dir().join("gr2"))
}

/// Bytes of a hash.
const HASH: usize = 32;

/// Of every kernel's text and sizes: computed once, where it is asked for.
static KERNELS: LazyLock<[u8; HASH]> = LazyLock::new(|| {
    let mut hash = Sha256::new();
    for kernel in gr2_kernels::kernels() {
        hash.update(kernel.name);
        kernel.sources.iter().for_each(|text| hash.update(text));
        hash.update(format!("{:?}", kernel.constants));
    }
    hash.finalize().into()
});
