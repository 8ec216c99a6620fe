//! Points in time as HTTP and JSON show them.

use std::time::Duration;

const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A time since the Unix epoch as RFC 3339 shows it.
pub(crate) fn utc(since_epoch: Duration) -> String {
    let Point { year, month, day, hour, minute, second, .. } = Point::of(since_epoch);
    let nanos = since_epoch.subsec_nanos();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
}

/// The same as the `Date` of an answer.
pub(crate) fn http(since_epoch: Duration) -> String {
    let Point { year, month, day, hour, minute, second, weekday } = Point::of(since_epoch);
    let (weekday, month) = (WEEKDAYS[weekday], MONTHS[month - 1]);
    format!("{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
}

struct Point {
    year: u64,
    month: usize,
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
    /// Counted from the epoch's.
    weekday: usize,
}

impl Point {
    fn of(since_epoch: Duration) -> Point {
        let seconds = since_epoch.as_secs();
        let days = seconds / 86_400;
        let (year, month, day) = date(days);
        let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        Point { year, month, day, hour, minute, second, weekday: (days % 7) as usize }
    }
}

/// Year, month and day so many days after 1970-01-01.
fn date(mut days: u64) -> (u64, usize, u64) {
    let is_leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    (year, month + 1, days + 1)
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
    }

    /// The example of RFC 9110, and the ends of a day.
    #[test]
    fn answers_have_a_date() {
        assert_eq!(http(Duration::from_secs(784_111_777)), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(http(Duration::ZERO), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(http(Duration::from_secs(1_767_225_599)), "Wed, 31 Dec 2025 23:59:59 GMT");
    }
}
