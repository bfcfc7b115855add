//! Time: a monotonic millisecond counter for deadlines, RFC 3339 text for logs, and durations in configuration.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// Milliseconds on the monotonic clock, never 0, so that 0 can mean "never". As fine as the kernel's tick, 1 to 10 ms,
/// and cheap enough to ask several times a request.
#[must_use]
pub fn millis() -> u64 {
    let now = clock_gettime(ClockId::MonotonicCoarse);
    now.tv_sec as u64 * 1_000 + now.tv_nsec as u64 / 1_000_000 + 1
}

/// Seconds since 1970 now.
#[must_use]
pub fn now_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The calendar time of a moment in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Civil {
    /// Year, 1970 or later.
    pub year: i64,
    /// Month, 1 to 12.
    pub month: u8,
    /// Day of the month, 1 to 31.
    pub day: u8,
    /// Hour, 0 to 23.
    pub hour: u8,
    /// Minute, 0 to 59.
    pub minute: u8,
    /// Second, 0 to 59.
    pub second: u8,
    /// Microsecond, 0 to 999,999.
    pub micro: u32,
}

impl Civil {
    /// The UTC calendar time of `time`; a moment before 1970 counts as 1970.
    #[must_use]
    pub fn of(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (days, rest) = ((since.as_secs() / 86_400) as i64, since.as_secs() % 86_400);
        // Days to a civil date in the proleptic Gregorian calendar, by eras of 400 years that start on 1 March.
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let of_era = shifted.rem_euclid(146_097);
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        Self {
            year: year_of_era + era * 400 + i64::from(month <= 2),
            month: month as u8,
            day: (day_of_year - (153 * shifted_month + 2) / 5 + 1) as u8,
            hour: (rest / 3_600) as u8,
            minute: (rest / 60 % 60) as u8,
            second: (rest % 60) as u8,
            micro: since.subsec_micros(),
        }
    }
}

/// Appends `time` as RFC 3339 in UTC with microseconds, as in `2026-11-23T21:58:43.000123Z`.
pub fn write_rfc3339(out: &mut String, time: SystemTime) {
    let at = Civil::of(time);
    let _ = write!(
        out,
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z",
        at.year, at.month, at.day, at.hour, at.minute, at.second, at.micro
    );
}

/// Durations in configuration: written as text with a unit (`"30s"`, `"5m"`, `"1h 30m"`), read from text or from a
/// whole number of seconds. For `#[serde(with = "crate::clock::duration")]`.
pub mod duration {
    use super::Duration;
    use serde::{Deserializer, Serializer, de};

    /// Writes the shortest text that reads back the same.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(*value))
    }

    /// Reads text with a unit, or seconds.
    ///
    /// # Errors
    /// A text that is no duration, or a negative number.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Duration;
            fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                out.write_str("a duration such as \"30s\", \"5m\" or \"1h\", or a whole number of seconds")
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Duration, E> {
                Ok(Duration::from_secs(value))
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Duration, E> {
                u64::try_from(value)
                    .map(Duration::from_secs)
                    .map_err(|_| E::invalid_value(de::Unexpected::Signed(value), &self))
            }
            fn visit_str<E: de::Error>(self, value: &str) -> Result<Duration, E> {
                humantime::parse_duration(value).map_err(|_| E::invalid_value(de::Unexpected::Str(value), &self))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(seconds: u64) -> String {
        let mut out = String::new();
        write_rfc3339(&mut out, UNIX_EPOCH + Duration::from_secs(seconds));
        out
    }

    #[test]
    fn calendar_dates_are_right_around_leap_days() {
        assert_eq!(text(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(text(951_782_400), "2000-02-29T00:00:00.000000Z");
        assert_eq!(text(4_107_542_399), "2100-02-28T23:59:59.000000Z");
        assert_eq!(text(4_107_542_400), "2100-03-01T00:00:00.000000Z");
        assert_eq!(text(1_795_471_123), "2026-11-23T21:58:43.000000Z");
    }

    #[test]
    fn durations_read_with_units_and_refuse_nonsense() {
        #[derive(serde::Deserialize, serde::Serialize)]
        struct Row {
            #[serde(with = "duration")]
            wait: Duration,
        }
        let read = |text: &str| serde_json::from_str::<Row>(text).map(|row| row.wait);
        assert_eq!(read(r#"{"wait":"1m 30s"}"#).unwrap(), Duration::from_secs(90));
        assert_eq!(read(r#"{"wait":5}"#).unwrap(), Duration::from_secs(5));
        assert!(read(r#"{"wait":"soon"}"#).unwrap_err().to_string().contains("a duration such as"));
        assert!(read(r#"{"wait":-1}"#).is_err());
        assert_eq!(serde_json::to_string(&Row { wait: Duration::from_secs(90) }).unwrap(), r#"{"wait":"1m 30s"}"#);
    }
}
