//! When a server wants to be asked again: the header `Retry-After` as seconds, a fraction of them, or a date.

use std::time::{Duration, SystemTime};

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
        Err(_) => Some(httpdate::parse_http_date(header).ok()?.duration_since(now).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    #[test]
    fn seconds_fractions_and_dates() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777 - 30);
        let seconds = |header| wait(header, now).map(|wait| wait.as_secs_f64());
        assert_eq!([seconds("7"), seconds(" 0.5 "), seconds("0")], [Some(7.0), Some(0.5), Some(0.0)]);
        for date in ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
            assert_eq!(seconds(date), Some(30.0), "{date}");
        }
        assert_eq!(seconds("Sat, 05 Nov 1994 08:49:37 GMT"), Some(0.0), "past");
        assert_eq!(wait("Thu, 29 Feb 2024 00:00:00 GMT", UNIX_EPOCH), Some(Duration::from_secs(1_709_164_800)));
        for wrong in
            ["", "soon", "-1", "NaN", "inf", "Sun, 06 Nov 1994", "Sun, 99 Nov 1994 08:49:37 GMT", "a, 1 2 3 4:5"]
        {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
        assert!(seconds("1e300").is_some() && seconds("Fri, 31 Dec 9999 23:59:59 GMT").is_some());
    }
}
