//! Points in time as HTTP and JSON show them.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;

/// A time since the Unix epoch as RFC 3339 shows it.
pub(crate) fn utc(since_epoch: Duration) -> String {
    format!("{:.9}", timestamp(since_epoch))
}

/// What [`utc`] shows, in any time zone. `None` if it is no time after the epoch.
pub(crate) fn parse(shown: &str) -> Option<Duration> {
    Duration::try_from(shown.parse::<Timestamp>().ok()?.as_duration()).ok()
}

/// The same as the `Date` of an answer.
pub(crate) fn http(since_epoch: Duration) -> String {
    let shown = DateTimePrinter::new().timestamp_to_rfc9110_string(&timestamp(since_epoch));
    shown.expect("years after 1970 and before 10000 can be shown")
}

/// The end of time is a clock that cannot be right.
fn timestamp(since_epoch: Duration) -> Timestamp {
    since_epoch.try_into().ok().and_then(|since| Timestamp::from_duration(since).ok()).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_in_utc() {
        assert_eq!(utc(Duration::ZERO), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(utc(Duration::new(951_782_399, 5)), "2000-02-28T23:59:59.000000005Z");
        assert_eq!(utc(Duration::from_secs(951_782_400)), "2000-02-29T00:00:00.000000000Z");
        assert_eq!(utc(Duration::from_secs(1_767_225_599)), "2025-12-31T23:59:59.000000000Z");
        assert_eq!(utc(Duration::MAX), "9999-12-30T22:00:00.999999999Z");
    }

    #[test]
    fn what_is_shown_is_read() {
        for time in [Duration::ZERO, Duration::new(951_782_399, 5), Duration::from_secs(1_767_225_599)] {
            assert_eq!(parse(&utc(time)), Some(time));
        }
        assert_eq!(parse("1970-01-01T02:00:00.5+02:00"), Some(Duration::from_millis(500)));
        for shown in ["", "1969-12-31T23:59:59Z", "tomorrow", "1970-01-01"] {
            assert_eq!(parse(shown), None, "{shown}");
        }
    }

    /// The example of RFC 9110, and the ends of a day.
    #[test]
    fn answers_have_a_date() {
        assert_eq!(http(Duration::from_secs(784_111_777)), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(http(Duration::ZERO), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(http(Duration::from_secs(1_767_225_599)), "Wed, 31 Dec 2025 23:59:59 GMT");
    }
}
