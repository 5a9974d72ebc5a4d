//! When something was bought: a number of seconds, milliseconds, microseconds or nanoseconds, each purchase in its own unit.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Visitor};

/// Seconds; `None` where the file has none (null, NaN, an empty text). Files that were put together from several may count in seconds
/// here and in milliseconds there: a number from 10¹¹ on, which would be the year 5138, is of the next smaller unit. Only the
/// order counts, so that small numbers may be anything; times a microsecond apart stay apart.
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
            _ => {
                let unit = match number.abs() {
                    ..1e11 => 1.0,
                    ..1e14 => 1e3,
                    ..1e17 => 1e6,
                    _ => 1e9,
                };
                // one zero: -0.0 would stand before 0.0
                Some(Time(Some(number / unit + 0.0)))
            }
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
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Time, E> {
                Time::of(number as f64).ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(number), &self))
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Time, E> {
                Time::of(number as f64).ok_or_else(|| E::invalid_value(de::Unexpected::Signed(number), &self))
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
        assert_eq!(time("1588687728923"), Some(Some(1_588_687_728.923)));
        assert!(time("1399999999") < time("1400000000000") && time("1400000000000") < time("1400000001000000"));
        assert!(time("1400000000000000") < time("1400000000000001"));
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
