//! When a server wants to be asked again: the header `Retry-After` as seconds, a fraction of them, or a date.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

/// The wait that the header asks for at `now`; `None` if it cannot be read. A date that is past means no wait.
///
/// Source: RFC 9110, sections 5.6.7 and 10.2.3.
pub(super) fn wait(header: &str, now: SystemTime) -> Option<Duration> {
    let header = header.trim();
    match header.parse::<f64>() {
        Ok(seconds) if seconds.is_finite() && seconds >= 0.0 => {
            Some(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
        }
        Ok(_) => None,
        Err(_) => {
            let then = UNIX_EPOCH.checked_add(Duration::from_secs(seconds_of(header)?))?;
            Some(then.duration_since(now).unwrap_or_default())
        }
    }
}

/// Seconds since 1970 of a date in any of HTTP's three spellings: `Sun, 06 Nov 1994 08:49:37 GMT`,
/// `Sunday, 06-Nov-94 08:49:37 GMT`, `Sun Nov  6 08:49:37 1994`.
fn seconds_of(date: &str) -> Option<u64> {
    let (mut day, mut month, mut year, mut clock) = (None, None, None, None);
    // the name of the weekday says nothing new
    for part in date.split([' ', ',', '-']).filter(|part| !part.is_empty()).skip(1) {
        let lower = part.to_ascii_lowercase();
        if let Some(at) = MONTHS.iter().position(|name| *name == lower) {
            month = Some(at as u64 + 1);
        } else if part.contains(':') {
            let numbers: Vec<u64> = part.split(':').map(|n| n.parse().ok()).collect::<Option<_>>()?;
            let [hours, minutes, seconds] = numbers[..] else { return None };
            (hours < 24 && minutes < 60 && seconds <= 60).then_some(())?;
            clock = Some(hours * 3600 + minutes * 60 + seconds);
        } else if let Ok(number) = part.parse::<u64>() {
            match (day, part.len()) {
                (None, 1..=2) => day = Some(number),
                (Some(_), 2) => year = Some(if number < 70 { 2000 + number } else { 1900 + number }),
                (_, 4) => year = Some(number),
                _ => return None,
            }
        }
    }
    let (day, month, year) = (day?, month?, year?);
    ((1..=31).contains(&day) && (1970..=9999).contains(&year)).then_some(())?;
    // days of the civil calendar, years beginning in March
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1;
    days.checked_sub(719_468)?.checked_mul(86_400)?.checked_add(clock?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_fractions_and_dates() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777 - 30);
        let seconds = |header| wait(header, now).map(|wait| wait.as_secs_f64());
        assert_eq!([seconds("7"), seconds(" 0.5 "), seconds("0")], [Some(7.0), Some(0.5), Some(0.0)]);
        for date in ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
            assert_eq!(seconds(date), Some(30.0), "{date}");
        }
        assert_eq!(seconds("Sat, 05 Nov 1994 08:49:37 GMT"), Some(0.0), "past");
        assert_eq!(seconds_of("Thu, 29 Feb 2024 00:00:00 GMT"), Some(1_709_164_800));
        for wrong in
            ["", "soon", "-1", "NaN", "inf", "Sun, 06 Nov 1994", "Sun, 99 Nov 1994 08:49:37 GMT", "a, 1 2 3 4:5"]
        {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
        assert!(seconds("1e300").is_some() && seconds("Fri, 31 Dec 9999 23:59:59 GMT").is_some());
    }
}
