//! What may come next, asked before every draw.

/// Limits the tokens of continuations.
pub trait Grammar: Sync {
    /// The tokens that may follow the new `tokens` of a continuation of prompt `prompt`, ascending; `None` for every
    /// token. At least one.
    fn allowed(&self, prompt: usize, tokens: &[u32]) -> Option<Vec<u32>>;

    /// True if it never limits or completes anything, so that tokens need not be looked at one by one.
    fn is_free(&self) -> bool {
        false
    }

    /// Everything that follows the new `tokens` of a continuation of prompt `prompt` up to a stop token, where nothing is
    /// left to choose.
    fn rest(&self, _prompt: usize, _tokens: &[u32]) -> Option<Vec<u32>> {
        None
    }
}

/// No limits.
#[derive(Debug, Clone, Copy, Default)]
pub struct Free;

impl Grammar for Free {
    fn allowed(&self, _: usize, _: &[u32]) -> Option<Vec<u32>> {
        None
    }

    fn is_free(&self) -> bool {
        true
    }
}
