//! Measured choices between the ways a launcher has for some sizes.

use super::Gpu;
use rustc_hash::FxHashMap;

/// What a choice is for: numbers that a launcher makes of its sizes.
pub(crate) type Key = [usize; 5];

/// The number of the best way, by key.
#[derive(Debug, Default)]
pub(crate) struct Choices(pub(crate) FxHashMap<Key, usize>);

impl Gpu {
    /// Gives it choices to ask before the launchers' own rules; those of the first call stay.
    pub(crate) fn set_choices(&self, choices: Choices) {
        let _ = self.0.choices.set(choices);
    }

    /// The way chosen for `key`, if it was given choices and this is one of them.
    pub(crate) fn choice(&self, key: impl FnOnce() -> Key) -> Option<usize> {
        self.0.choices.get()?.0.get(&key()).copied()
    }
}
