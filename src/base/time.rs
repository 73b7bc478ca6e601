//! Time as a value: pure modules take it as an argument.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Whole seconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixTime(pub u64);

impl UnixTime {
    /// The largest time, for what does not expire.
    pub const NEVER: Self = Self(u64::MAX);

    /// Adds `seconds`. The result is at most [`UnixTime::NEVER`].
    #[must_use]
    pub fn plus_seconds(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds))
    }

    /// Subtracts `seconds`. The result is not before the epoch.
    #[must_use]
    pub fn minus_seconds(self, seconds: u64) -> Self {
        Self(self.0.saturating_sub(seconds))
    }

    /// The date in UTC, as `2026-11-21`.
    pub fn to_date(self) -> String {
        // Days since 0000-03-01, so that a leap day ends its year. 146097 days are 400 years.
        let days = self.0 / 86_400 + 719_468;
        let (era, day) = (days / 146_097, days % 146_097);
        let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let day_of_year = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day_of_year + 2) / 153;
        let day_of_month = day_of_year - (153 * month + 2) / 5 + 1;
        let (year, month) = (era * 400 + year + month / 10, (month + 2) % 12 + 1);
        format!("{year:04}-{month:02}-{day_of_month:02}")
    }

    /// The time in UTC (RFC 3339), such as `2026-11-30T10:04:00Z`.
    pub fn to_rfc3339(self) -> String {
        let seconds = self.0 % 86_400;
        let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
        format!("{}T{hour:02}:{minute:02}:{second:02}Z", self.to_date())
    }

    /// Parses a date of HTTP, such as `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 §5.6.7). `None` for
    /// another form, and for a year before 1970.
    pub fn parse_http_date(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split(' ').collect();
        let [_weekday, day, month, year, time, "GMT"] = words[..] else {
            return None;
        };
        let month = 1 + u64::try_from(MONTHS.iter().position(|name| *name == month)?).ok()?;
        let (day, year) = (day.parse::<u64>().ok()?, year.parse::<u64>().ok()?);
        let clock: Vec<u64> = time.split(':').map(|part| part.parse().ok()).collect::<Option<_>>()?;
        let [hour, minute, second] = clock[..] else { return None };
        if !(1970..10_000).contains(&year) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        // The inverse of `to_date`: a year begins in March, so that a leap day ends it.
        let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
        let (era, year) = (year / 400, year % 400);
        let days = era * 146_097 + year * 365 + year / 4 - year / 100 + (153 * month + 2) / 5 + day - 1;
        Some(Self((days - 719_468) * 86_400 + hour * 3_600 + minute * 60 + second))
    }

    /// Seconds from `earlier` to this time, or 0 if `earlier` is later.
    pub fn seconds_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// The source of the time: the system, or a value that a test sets.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The system's clock.
    #[default]
    System,
    /// Seconds since the epoch, set by the other holder of the `Arc`.
    Fixed(Arc<AtomicU64>),
}

impl Clock {
    /// Returns the current time.
    #[expect(clippy::disallowed_methods, reason = "the one place where the wall clock is read")]
    pub fn now(&self) -> UnixTime {
        match self {
            Self::System => UnixTime(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())),
            Self::Fixed(seconds) => UnixTime(seconds.load(Ordering::SeqCst)),
        }
    }
}

/// Measures durations in this process. Decisions about stored data take a [`UnixTime`].
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    #[expect(clippy::disallowed_methods, reason = "the one place where the monotonic clock is read for a log")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Microseconds since the start.
    pub fn micros(self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unix_time_converts_to_the_right_calendar_date() {
        for (seconds, date) in [
            (0, "1970-01-01"),
            (951_782_399, "2000-02-28"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_735_689_599, "2024-12-31"),
            (1_735_689_600, "2025-01-01"),
            (4_107_542_400, "2100-03-01"),
            (4_107_542_399, "2100-02-28"),
        ] {
            assert_eq!(UnixTime(seconds).to_date(), date);
        }
        assert!(!UnixTime::NEVER.to_date().is_empty());
    }

    #[test]
    fn an_http_date_is_read_and_another_form_is_not() {
        for (text, expected) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777)),
            ("Tue, 29 Feb 2000 00:00:00 GMT", Some(951_782_400)),
            ("Mon, 01 Mar 2100 00:00:00 GMT", Some(4_107_542_400)),
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", None),
            ("Sun, 06 Nov 1969 08:49:37 GMT", None),
            ("Sun, 06 Nov 1994 24:49:37 GMT", None),
            ("Sun, 00 Nov 1994 08:49:37 GMT", None),
            ("Sun, 06 Nov 1994 08:49:37 CET", None),
            ("", None),
        ] {
            assert_eq!(UnixTime::parse_http_date(text).map(|time| time.0), expected, "{text}");
        }
    }
}
