//! When something was bought: a number of seconds, milliseconds or whatever the file counts in.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Visitor};

/// A time of a review; `None` where the file has none (null, NaN, an empty text). Only the order counts, so the unit does
/// not; whole numbers up to 2⁵³ are exact.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Time(pub(super) Option<f64>);

impl Time {
    /// Reads `1400000000`, `1400000000.0`, `1.4e9`; nothing and `nan` are no time.
    pub(super) fn parse(text: &str) -> Option<Time> {
        let text = text.trim();
        match text {
            "" | "None" | "null" | "NA" | "<NA>" | "NaT" => Some(Time(None)),
            // `inf` and `infinity` are numbers to Rust
            _ if text.starts_with(['i', 'I']) => None,
            _ => text.parse().ok().and_then(Time::of),
        }
    }

    fn of(number: f64) -> Option<Time> {
        match number {
            _ if number.is_nan() => Some(Time(None)),
            _ if number.is_infinite() => None,
            // one zero: -0.0 would stand before 0.0
            _ => Some(Time(Some(number + 0.0))),
        }
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Time, D::Error> {
        struct Number;
        impl Visitor<'_> for Number {
            type Value = Time;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a time as a number")
            }
            fn visit_u64<E>(self, number: u64) -> Result<Time, E> {
                Ok(Time(Some(number as f64)))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Time, E> {
                Ok(Time(Some(number as f64)))
            }
            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Time, E> {
                Time::of(number).ok_or_else(|| E::invalid_value(de::Unexpected::Float(number), &self))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Time, E> {
                Time::parse(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
            fn visit_unit<E>(self) -> Result<Time, E> {
                Ok(Time(None))
            }
        }
        deserializer.deserialize_any(Number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_many_dresses() {
        let time = |text| Time::parse(text).map(|time| time.0);
        for text in ["1400000000", "1400000000.0", "1.4e9", " +14E8 "] {
            assert_eq!(time(text), Some(Some(1.4e9)), "{text}");
            let json = text.trim().trim_start_matches('+');
            assert_eq!(serde_json::from_str::<Time>(json).unwrap().0, Some(1.4e9));
            assert_eq!(serde_json::from_str::<Time>(&format!("\"{json}\"")).unwrap().0, Some(1.4e9));
        }
        assert_eq!(time("1588687728923"), Some(Some(1_588_687_728_923.0)));
        assert!(time("1588687728.25") < time("1588687728.5") && time("-3") < time("0"));
        for text in ["", "nan", "NaN", "None", "<NA>"] {
            assert_eq!(time(text), Some(None), "{text}");
        }
        assert_eq!(serde_json::from_str::<Time>("null").unwrap(), Time(None));
        for text in ["inf", "Infinity", "1e999", "2014-05-18", "x", "1,4"] {
            assert_eq!(time(text), None, "{text}");
        }
        assert!(serde_json::from_str::<Time>("[1]").unwrap_err().to_string().contains("expected a time as a number"));
    }
}
