//! What must never be written down or printed: keys, passwords, tokens.
//!
//! | file | holds |
//! |---|---|
//! | `settings` | [`masked`], [`masked_url`], [`scrubbed`]: settings and messages about them, without the secrets in them |
//! | `echoes` | [`Secrets`]: known secrets taken out of whatever others have sent back |

mod echoes;
mod settings;

pub use echoes::Secrets;
pub use settings::{has_mask, has_userinfo, is_secret_name, looks_like_key, masked, masked_url, scrubbed, secrets_in};

/// Stands where a secret was.
pub const MASK: &str = "***";
