//! Moments in ISO 8601, as Python writes them and as other clients do.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::clock::Civil;

/// Seconds since 1970 of `2026-11-23T15:38:16.711743+00:00`, with `Z`, an offset, or neither: then `naive` says how
/// many seconds that clock is ahead of UTC at that time.
pub fn parse(text: &str, naive: impl Fn(i64) -> i64) -> Option<f64> {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| -> Option<i64> {
        let part = bytes.get(from..to)?;
        part.iter().all(u8::is_ascii_digit).then(|| std::str::from_utf8(part).ok()?.parse().ok())?
    };
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    if bytes.get(4) != Some(&b'-') || bytes.get(7) != Some(&b'-') {
        return None;
    }
    if !(1..=12).contains(&month) || day < 1 || day > days_in(year, month) {
        return None;
    }
    let midnight = days(year, month, day) * 86_400;
    if bytes.len() == 10 {
        return Some((midnight - naive(midnight)) as f64);
    }
    if !matches!(bytes[10], b'T' | b't' | b' ') || bytes.get(13) != Some(&b':') {
        return None;
    }
    let (hour, minute) = (number(11, 13)?, number(14, 16)?);
    let (second, mut at) = if bytes.get(16) == Some(&b':') { (number(17, 19)?, 19) } else { (0, 16) };
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut fraction = 0.0;
    if matches!(bytes.get(at), Some(b'.' | b',')) {
        let digits = bytes[at + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 {
            return None;
        }
        fraction = format!("0.{}", &text[at + 1..at + 1 + digits]).parse().ok()?;
        at += 1 + digits;
    }
    let local = midnight + hour * 3_600 + minute * 60 + second;
    let offset = match &bytes[at..] {
        [] => naive(local),
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), rest @ ..] => {
            let (hours, rest) = (number(at + 1, at + 3)?, &rest[2..]);
            let minutes = match rest {
                [] => 0,
                [b':', _, _] | [b':', _, _, b':', ..] => number(at + 4, at + 6)?,
                [_, _] => number(at + 3, at + 5)?,
                _ => return None,
            };
            let ahead = hours * 3_600 + minutes * 60;
            if *sign == b'-' { -ahead } else { ahead }
        }
        _ => return None,
    };
    Some((local - offset) as f64 + fraction)
}

/// As Python's `isoformat` of a moment in UTC: `2026-11-23T15:38:16.711743+00:00`, without the fraction if there is none.
#[must_use]
pub fn iso(seconds: f64) -> String {
    let since = if seconds.is_finite() && seconds > 0.0 { seconds.min(253_402_300_799.0) } else { 0.0 };
    // To the microsecond, as Python rounds it.
    let time = UNIX_EPOCH + Duration::from_micros((since * 1e6).round() as u64);
    let at = Civil::of(time);
    let mut text =
        format!("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}", at.year, at.month, at.day, at.hour, at.minute, at.second);
    if at.micro > 0 {
        let _ = write!(text, ".{:06}", at.micro);
    }
    text.push_str("+00:00");
    text
}

/// Now, in seconds since 1970.
#[must_use]
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970 in the proleptic Gregorian calendar, by eras of 400 years that start on 1 March.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_and_nonsense_is_not() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00+00:00", 0.0),
            ("2026-11-23T15:38:16.711743+00:00", 1_795_448_296.711_743),
            ("2026-11-23T15:38:16Z", 1_795_448_296.0),
            ("2026-11-23 16:38:16+01:00", 1_795_448_296.0),
            ("2026-11-23T16:38:16+0100", 1_795_448_296.0),
            ("2026-11-23T10:08:16.5-05:30", 1_795_448_296.5),
            ("2026-11-23T15:38+00", 1_795_448_280.0),
            ("2024-02-29", 1_709_164_800.0),
            ("1969-12-31T23:59:59Z", -1.0),
        ] {
            assert_eq!(parse(text, |_| 0), Some(seconds), "{text}");
        }
        assert_eq!(parse("2026-11-23T16:38:16", |_| 3_600), Some(1_795_448_296.0));
        for bad in [
            "",
            "tomorrow",
            "2026-13-01T00:00:00",
            "2026-02-30T00:00:00",
            "2026-11-23T25:00:00",
            "2026-11-23T15:38:16+",
            "2026-11-23T15:38:16 GMT",
            "2026-11-23T15:38:16.",
            "20261123T153816",
            "2026-11-23T15:38:16é",
            "2026/11/23",
        ] {
            assert_eq!(parse(bad, |_| 0), None, "{bad}");
        }
    }

    #[test]
    fn a_moment_is_written_as_python_writes_it() {
        assert_eq!(iso(1_795_448_296.711_743), "2026-11-23T15:38:16.711743+00:00");
        assert_eq!(iso(0.0), "1970-01-01T00:00:00+00:00");
        assert_eq!(iso(f64::NAN), "1970-01-01T00:00:00+00:00");
        assert_eq!(parse(&iso(1_709_164_800.25), |_| 0), Some(1_709_164_800.25));
    }
}
