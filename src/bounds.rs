//! Checks of settings: what is refused is named by its dotted name, with its value and the bound it breaks.
//!
//! Upper bounds are far above any use; they keep a slip of the keyboard from taking memory or years.

use crate::error::{Error, Result};
use std::fmt::{Display, LowerExp};
use std::ops::{Bound, RangeBounds, RangeInclusive};
use std::path::Path;

/// Upper bound of counts that only limit what is there: no more than that is ever looked at.
pub const MANY: u64 = u32::MAX as u64;
/// Upper bound of tokens in one sequence, batch or answer.
pub const MOST_TOKENS: u64 = 1 << 24;
/// Upper bound of the width of an embedding.
pub const MOST_DIMS: u64 = 8192;
/// Upper bound of weights, prices and factors.
pub const LARGE: f64 = 1e6;

/// A learning rate. AdamW moves a weight by about so much, and weights of 0.02 in f32 have steps of 2e-9.
pub const LEARNING_RATE: RangeInclusive<f64> = 1e-9..=10.0;
/// Why there is a least learning rate.
pub const UNFELT: &str = "no weight would change";

/// From 0 to [`LARGE`].
pub const WEIGHT: RangeInclusive<f64> = 0.0..=LARGE;
/// A probability or a share.
pub const SHARE: RangeInclusive<f64> = 0.0..=1.0;

/// More than `low`, at most `high`.
pub fn above(low: f64, high: f64) -> (Bound<f64>, Bound<f64>) {
    (Bound::Excluded(low), Bound::Included(high))
}

/// A table of the configuration, whose settings are checked one a line.
#[derive(Debug, Clone, Copy)]
pub struct Section<'a> {
    name: &'a str,
    /// What holds of a value below its lower bound.
    reason: &'a str,
}

impl<'a> Section<'a> {
    /// The table of this dotted name, as `dapo.reward`.
    pub fn new(name: &'a str) -> Section<'a> {
        Section { name, reason: "" }
    }

    /// The same table, saying why where a value is below its lower bound.
    pub fn because(self, reason: &'a str) -> Section<'a> {
        Section { reason, ..self }
    }

    /// Errors: `Config` if the whole number is out of range.
    pub fn whole(self, field: &str, value: impl TryInto<u64>, range: RangeInclusive<u64>) -> Result<()> {
        let value = value.try_into().unwrap_or(u64::MAX);
        match range.contains(&value) {
            true => Ok(()),
            false => self.out_of_range(
                field,
                value,
                value < *range.start(),
                &format_args!("{} to {}", range.start(), range.end()),
            ),
        }
    }

    /// Errors: `Config` if the number is out of range, infinite or NaN.
    pub fn number<N: Copy + Display + LowerExp + Into<f64>>(
        self,
        field: &str,
        value: N,
        range: impl RangeBounds<f64>,
    ) -> Result<()> {
        let number: f64 = value.into();
        if number.is_finite() && range.contains(&number) {
            return Ok(());
        }
        let (low, is_low) = match range.start_bound() {
            Bound::Included(low) => (format!("at least {low}"), number < *low),
            Bound::Excluded(low) => (format!("more than {low}"), number <= *low),
            Bound::Unbounded => ("a number".into(), false),
        };
        let expected = match range.end_bound() {
            Bound::Included(high) => format!("{low}, at most {high}"),
            Bound::Excluded(high) => format!("{low}, below {high}"),
            Bound::Unbounded => low,
        };
        let plain = value.to_string();
        let shown = if plain.len() > 12 { format!("{value:e}") } else { plain };
        self.out_of_range(field, shown, is_low, &expected)
    }

    /// Errors: `Config` if a path is given that is empty.
    pub fn path(self, field: &str, path: Option<&Path>) -> Result<()> {
        self.text(field, path.map(|path| path.to_string_lossy()).as_deref())
    }

    /// Errors: `Config` if a text is given that is blank.
    pub fn text(self, field: &str, text: Option<&str>) -> Result<()> {
        match text {
            Some(text) if text.trim().is_empty() => self.refuse(field, format!("{text:?}: is empty")),
            _ => Ok(()),
        }
    }

    /// The refusal of a setting for what is wrong with it.
    ///
    /// Errors: `Config`, always.
    pub fn refuse<T>(self, field: &str, problem: impl Into<String>) -> Result<T> {
        let field = if self.name.is_empty() { field.to_string() } else { format!("{}.{field}", self.name) };
        Err(Error::Config { field, problem: problem.into(), hint: None })
    }

    fn out_of_range(self, field: &str, value: impl Display, is_low: bool, expected: &dyn Display) -> Result<()> {
        let reason = if is_low && !self.reason.is_empty() { format!(" ({})", self.reason) } else { String::new() };
        self.refuse(field, format!("{value}: expected {expected}{reason}"))
    }
}
