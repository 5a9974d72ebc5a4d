//! Soft punishment of answers that near the length limit.

use serde::{Deserialize, Serialize};

use crate::bounds::{MOST_TOKENS, Section, WEIGHT};
use crate::error::Result;

/// Soft overlong punishment: nothing up to `max_length - buffer`, then a straight line down to `-factor` at `max_length`.
///
/// It is added to the reward that advantages are computed from, never to the raw outcome that groups are filtered by.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Overlong {
    /// Length at which the whole punishment is due, L_max, in generated tokens. Default 512: an answer takes about 250.
    pub max_length: usize,
    /// Tokens before that over which it builds up, L_cache. Default 128, a quarter, near DAPO's 4096 of 20480.
    pub buffer: usize,
    /// The whole punishment; 0 switches it off. Default 1 (DAPO).
    pub factor: f32,
}

impl Default for Overlong {
    fn default() -> Self {
        Self { max_length: 512, buffer: 128, factor: 1.0 }
    }
}

impl Overlong {
    /// Checks the ranges; `section` is the dotted name of this table in the configuration file, as in `dapo.overlong`.
    ///
    /// Errors: `Config` naming the field.
    pub fn validate(&self, section: &str) -> Result<()> {
        let at = Section::new(section);
        at.whole("max_length", self.max_length, 1..=MOST_TOKENS)?;
        if self.buffer > self.max_length {
            return at.refuse("buffer", format!("{}: larger than max_length {}", self.buffer, self.max_length));
        }
        at.number("factor", self.factor, WEIGHT)
    }

    /// `factor * clamp((L_max - L_cache - length) / L_cache, -1, 0)`; with no buffer, `-factor` beyond `L_max`.
    ///
    /// Source: DAPO, arXiv:2503.14476, eq. 13. TRL's `get_soft_overlong_punishment` is the same with factor 1; verl's goes on
    /// below `-factor` past the limit, which a generation limit of `L_max` rules out.
    pub fn penalty(&self, length: usize) -> f32 {
        let free = self.max_length.saturating_sub(self.buffer);
        if length <= free || self.factor == 0.0 {
            0.0
        } else if length >= self.max_length {
            -self.factor
        } else {
            -(self.factor as f64 * (length - free) as f64 / self.buffer as f64) as f32
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_the_ramp() {
        let shape = Overlong { max_length: 100, buffer: 20, factor: 0.5 };
        assert_eq!([0, 80, 81, 100, 5000].map(|n| shape.penalty(n)), [0.0, 0.0, -0.025, -0.5, -0.5]);
        let hard = Overlong { buffer: 0, ..shape };
        assert_eq!([99, 100, 101].map(|n| hard.penalty(n)), [0.0, 0.0, -0.5]);
        assert_eq!(Overlong { factor: 0.0, ..shape }.penalty(1000), 0.0);
    }

    #[test]
    fn validation_names_the_field() {
        let bad = Overlong { max_length: 10, buffer: 11, factor: 1.0 };
        assert_eq!(
            bad.validate("dapo.overlong").unwrap_err().to_string(),
            "config: dapo.overlong.buffer: 11: larger than max_length 10"
        );
        assert!(Overlong { max_length: 0, ..bad }.validate("o").is_err());
        assert!(Overlong { factor: -1.0, buffer: 1, ..bad }.validate("o").is_err());
        assert!(Overlong::default().validate("o").is_ok());
    }
}
