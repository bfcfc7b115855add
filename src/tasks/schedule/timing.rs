//! When a schedule is due: the instants of a pattern in a time zone, or of an interval.
//!
//! Where clocks are put forward, a time that does not exist comes once, right after the gap; where they are put back, a
//! time that exists twice comes once, the first time. What goes on all day is counted in real time instead, as cron does
//! it: a pattern of every hour follows the hours that there are, and a rhythm of minutes ("*/15 2 * * *") goes on through
//! an hour that comes twice.

use std::time::Duration;

use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Span, Timestamp};

use super::cron::{ALL_HOURS, Pattern};

/// How far is looked for the next time: further than the 29th of February is away on a given day of the week.
const YEARS: i16 = 41;

/// How many times are counted that were missed.
const COUNTED: u64 = 10_000;

/// When a task is due.
#[derive(Clone, Debug)]
pub enum Timing {
    /// At the times of a pattern.
    Pattern(Pattern, TimeZone),
    /// Every so often, in milliseconds, counted from the last time cut to a whole number of `unit`.
    Every {
        /// The interval.
        every: i64,
        /// 1, or a minute, an hour or a day.
        unit: i64,
    },
}

/// A time that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// The latest time, in milliseconds since 1970.
    pub slot: i64,
    /// How many before it were missed.
    pub missed: u64,
}

impl Timing {
    /// The first time after this one; all are in milliseconds since 1970. `None` if there is none for decades.
    #[must_use]
    pub fn next(&self, after: i64) -> Option<i64> {
        match self {
            Self::Every { every, unit } => (after - after.rem_euclid(*unit)).checked_add(*every),
            Self::Pattern(pattern, zone) => pattern.next(zone, after),
        }
    }

    /// The latest time that is later than `after` and has come at `now`.
    #[must_use]
    pub fn due(&self, after: i64, now: i64) -> Option<Due> {
        match self {
            Self::Every { every, unit } => {
                let from = after - after.rem_euclid(*unit);
                let turns = now.checked_sub(from)? / every;
                (turns >= 1).then(|| Due { slot: from + turns * every, missed: turns as u64 - 1 })
            }
            Self::Pattern(pattern, zone) => pattern.due(zone, after, now),
        }
    }

    /// An interval; at least a millisecond.
    #[must_use]
    pub fn every(interval: Duration) -> Self {
        Self::Every { every: i64::try_from(interval.as_millis()).unwrap_or(i64::MAX).max(1), unit: 1 }
    }

    /// The same interval as Celery counts it with `relative`: from the full minute, hour or day, whichever is the largest
    /// that fits into it.
    #[must_use]
    pub fn relative(self) -> Self {
        const UNITS: [i64; 3] = [86_400_000, 3_600_000, 60_000];
        match self {
            Self::Every { every, .. } => {
                Self::Every { every, unit: UNITS.into_iter().find(|unit| *unit <= every).unwrap_or(1) }
            }
            pattern @ Self::Pattern(..) => pattern,
        }
    }
}

impl Pattern {
    fn next(&self, zone: &TimeZone, after: i64) -> Option<i64> {
        let mut day = local(zone, after)?.yesterday().ok()?;
        let last = day.checked_add(Span::new().years(YEARS)).ok()?;
        while day <= last {
            let first = |day| self.instants(zone, day).filter(|at| *at > after).min();
            if let Some(found) = first(day) {
                // Where the clock is put back over midnight, the next day has begun before this one ended.
                let tomorrow = day.tomorrow().ok().and_then(first);
                return Some(tomorrow.map_or(found, |other| found.min(other)));
            }
            day = self.following(day)?;
        }
        None
    }

    fn due(&self, zone: &TimeZone, after: i64, now: i64) -> Option<Due> {
        if now <= after {
            return None;
        }
        let (mut day, first) = (local(zone, now)?.tomorrow().ok()?, local(zone, after)?.yesterday().ok()?);
        let (mut slot, mut count) = (None, 0);
        while day >= first && count < COUNTED {
            let mut instants: Vec<i64> = self.instants(zone, day).filter(|at| *at > after && *at <= now).collect();
            instants.sort_unstable();
            instants.dedup();
            slot = slot.max(instants.last().copied());
            count += instants.len() as u64;
            day = day.yesterday().ok()?;
        }
        slot.map(|slot| Due { slot, missed: count - 1 })
    }

    /// The next day worth a look: months that are not wanted are passed over.
    fn following(&self, day: Date) -> Option<Date> {
        let next = day.tomorrow().ok()?;
        if self.months >> next.month() & 1 == 1 { Some(next) } else { next.last_of_month().tomorrow().ok() }
    }

    /// When the times of a day are. They come in order, but for a time that comes twice.
    fn instants<'a>(&'a self, zone: &'a TimeZone, day: Date) -> impl Iterator<Item = i64> + 'a {
        let hours = if self.has(day) { self.hours } else { 0 };
        (0..24)
            .filter(move |hour| hours >> hour & 1 == 1)
            .flat_map(move |hour| {
                (0..60).filter(|minute| self.minutes >> minute & 1 == 1).map(move |minute| day.at(hour, minute, 0, 0))
            })
            .flat_map(move |time| self.when(zone, time))
            .flatten()
    }

    fn has(&self, day: Date) -> bool {
        if self.months >> day.month() & 1 == 0 {
            return false;
        }
        let of_month = self.days >> day.day() & 1 == 1;
        let of_week = self.weekdays >> day.weekday().to_sunday_zero_offset() & 1 == 1;
        if self.either_day { of_month || of_week } else { of_month && of_week }
    }

    /// When a time of the wall clock is: once, twice or never.
    fn when(&self, zone: &TimeZone, time: DateTime) -> [Option<i64>; 2] {
        let at = |offset: jiff::tz::Offset| offset.to_timestamp(time).ok().map(Timestamp::as_millisecond);
        match zone.to_ambiguous_timestamp(time).offset() {
            AmbiguousOffset::Unambiguous { offset } => [at(offset), None],
            AmbiguousOffset::Gap { .. } if self.hours == ALL_HOURS => [None, None],
            AmbiguousOffset::Gap { before, after } => {
                // With the offset from after the gap the time would lie before it, and the other way round.
                let end = after.to_timestamp(time).ok().and_then(|from| {
                    zone.following(from).find(|transition| transition.offset() == after).map(|found| found.timestamp())
                });
                [end.map(Timestamp::as_millisecond).or_else(|| at(before)), None]
            }
            AmbiguousOffset::Fold { before, after } => {
                [at(before), if self.any_minute || self.hours == ALL_HOURS { at(after) } else { None }]
            }
        }
    }
}

fn local(zone: &TimeZone, at: i64) -> Option<Date> {
    Some(zone.to_datetime(Timestamp::from_millisecond(at).ok()?).date())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_millisecond()
    }

    fn shown(at: i64) -> String {
        Timestamp::from_millisecond(at).unwrap().to_string()
    }

    fn timing(cron: &str, zone: &str) -> Timing {
        Timing::Pattern(Pattern::parse(cron).unwrap(), TimeZone::get(zone).unwrap())
    }

    /// Every time in a span, as `next` gives them one after the other.
    fn all(timing: &Timing, from: &str, to: &str) -> Vec<String> {
        let (mut at_, end) = (at(from), at(to));
        let mut found = Vec::new();
        while let Some(next) = timing.next(at_).filter(|next| *next < end) {
            assert!(next > at_);
            found.push(shown(next));
            at_ = next;
        }
        // Looking back finds the same.
        let due = timing.due(at(from), end - 1);
        assert_eq!(due.map(|due| shown(due.slot)), found.last().cloned());
        assert_eq!(due.map_or(0, |due| due.missed + 1), found.len() as u64);
        found
    }

    #[test]
    fn days_are_either_or_as_in_cron_and_both_as_in_celery() {
        let cron = timing("0 0 13 * 5", "UTC");
        assert_eq!(
            all(&cron, "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"),
            ["2026-02-06T00:00:00Z", "2026-02-13T00:00:00Z", "2026-02-20T00:00:00Z", "2026-02-27T00:00:00Z"]
        );
        let months: Vec<u8> = (1..=12).collect();
        let celery = Timing::Pattern(Pattern::of_sets(&[0], &[0], &[13], &months, &[5]).unwrap(), TimeZone::UTC);
        assert_eq!(
            all(&celery, "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"),
            ["2026-02-13T00:00:00Z", "2026-03-13T00:00:00Z", "2026-11-13T00:00:00Z"]
        );
    }

    #[test]
    fn rare_days_are_found() {
        let leap = timing("30 6 29 2 *", "UTC");
        assert_eq!(shown(leap.next(at("2096-03-01T00:00:00Z")).unwrap()), "2104-02-29T06:30:00Z");
        let months: Vec<u8> = vec![2];
        let sunday = Timing::Pattern(Pattern::of_sets(&[0], &[0], &[29], &months, &[0]).unwrap(), TimeZone::UTC);
        assert_eq!(shown(sunday.next(at("2080-01-01T00:00:00Z")).unwrap()), "2088-02-29T00:00:00Z");
        assert_eq!(shown(sunday.next(at("2088-03-01T00:00:00Z")).unwrap()), "2128-02-29T00:00:00Z");
        let end = timing("59 23 31 12 *", "Pacific/Auckland");
        assert_eq!(shown(end.next(at("2026-12-31T10:58:00Z")).unwrap()), "2026-12-31T10:59:00Z");
        assert_eq!(shown(end.next(at("2026-12-31T10:59:00Z")).unwrap()), "2027-12-31T10:59:00Z");
    }

    #[test]
    fn a_time_within_the_gap_comes_once_right_after_it() {
        // Zurich, 29 March 2026: 02:00 becomes 03:00, at 01:00 UTC.
        let daily = timing("30 2 * * *", "Europe/Zurich");
        assert_eq!(
            all(&daily, "2026-03-28T00:00:00Z", "2026-03-31T00:00:00Z"),
            ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]
        );
        // Several of them come together.
        let quarters = timing("0,15,30,45 2,3 * * *", "Europe/Zurich");
        assert_eq!(
            all(&quarters, "2026-03-29T00:00:00Z", "2026-03-30T00:00:00Z"),
            ["2026-03-29T01:00:00Z", "2026-03-29T01:15:00Z", "2026-03-29T01:30:00Z", "2026-03-29T01:45:00Z"]
        );
        // Midnight itself is missing: Beirut, 2026-03-29 00:00 becomes 01:00.
        let midnight = timing("@daily", "Asia/Beirut");
        assert_eq!(
            all(&midnight, "2026-03-28T00:00:00Z", "2026-03-30T00:00:00Z"),
            ["2026-03-28T22:00:00Z", "2026-03-29T21:00:00Z"]
        );
        // Half an hour: Lord Howe, 2026-10-04 02:00 becomes 02:30, at 15:30 UTC the day before.
        let howe = timing("15 2 4 10 *", "Australia/Lord_Howe");
        assert_eq!(all(&howe, "2026-10-01T00:00:00Z", "2026-10-05T00:00:00Z"), ["2026-10-03T15:30:00Z"]);
        // A whole day: Samoa had no 30 December 2011.
        let samoa = timing("0 12 30 12 *", "Pacific/Apia");
        assert_eq!(all(&samoa, "2011-12-01T00:00:00Z", "2012-01-15T00:00:00Z"), ["2011-12-30T10:00:00Z"]);
    }

    #[test]
    fn a_time_that_exists_twice_comes_once() {
        // Zurich, 25 October 2026: 03:00 becomes 02:00, at 01:00 UTC.
        let daily = timing("30 2 * * *", "Europe/Zurich");
        assert_eq!(
            all(&daily, "2026-10-24T12:00:00Z", "2026-10-26T12:00:00Z"),
            ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
        );
        let every_other_hour = timing("0 */2 * * *", "Europe/Zurich");
        assert_eq!(
            all(&every_other_hour, "2026-10-24T22:00:00Z", "2026-10-25T04:00:00Z"),
            ["2026-10-25T00:00:00Z", "2026-10-25T03:00:00Z"]
        );
        // New York, 1 November 2026: 02:00 becomes 01:00, at 06:00 UTC.
        let york = timing("30 1 * * *", "America/New_York");
        assert_eq!(all(&york, "2026-11-01T00:00:00Z", "2026-11-02T00:00:00Z"), ["2026-11-01T05:30:00Z"]);
        // Over midnight: Santiago, 5 April 2026 00:00 becomes 4 April 23:00, at 03:00 UTC.
        let late = timing("30 23 4 4 *", "America/Santiago");
        assert_eq!(all(&late, "2026-04-01T00:00:00Z", "2026-04-07T00:00:00Z"), ["2026-04-05T02:30:00Z"]);
    }

    #[test]
    fn what_goes_on_all_day_follows_real_time() {
        let hourly = timing("0 * * * *", "Europe/Zurich");
        let forward = all(&hourly, "2026-03-28T23:30:00Z", "2026-03-29T03:30:00Z");
        assert_eq!(
            forward,
            ["2026-03-29T00:00:00Z", "2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z", "2026-03-29T03:00:00Z"]
        );
        let back = all(&hourly, "2026-10-24T23:30:00Z", "2026-10-25T03:30:00Z");
        assert_eq!(
            back,
            ["2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z", "2026-10-25T03:00:00Z"]
        );
        let half = timing("30 * * * *", "Europe/Zurich");
        assert_eq!(
            all(&half, "2026-03-29T00:00:00Z", "2026-03-29T02:00:00Z"),
            ["2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z"]
        );
        let rhythm = timing("*/30 2 * * *", "Europe/Zurich");
        assert_eq!(
            all(&rhythm, "2026-10-24T23:30:00Z", "2026-10-25T03:30:00Z"),
            ["2026-10-25T00:00:00Z", "2026-10-25T00:30:00Z", "2026-10-25T01:00:00Z", "2026-10-25T01:30:00Z"]
        );
        for zone in ["Europe/Zurich", "America/St_Johns", "Australia/Lord_Howe", "America/Santiago", "UTC"] {
            let minutely = timing("* * * * *", zone);
            let mut last = at("2026-04-04T22:00:00Z");
            for _ in 0..600 {
                let next = minutely.next(last).unwrap();
                assert_eq!(next - last, 60_000, "{zone} after {}", shown(last));
                last = next;
            }
        }
    }

    #[test]
    fn an_interval_keeps_its_rhythm_and_counts_what_it_missed() {
        let timing = Timing::every(Duration::from_secs(10));
        assert_eq!(timing.due(1_000, 10_999), None);
        assert_eq!(timing.due(1_000, 11_000), Some(Due { slot: 11_000, missed: 0 }));
        assert_eq!(timing.due(1_000, 47_123), Some(Due { slot: 41_000, missed: 3 }));
        assert_eq!(timing.due(50_000, 1_000), None, "the clock was put back");
        assert_eq!(timing.next(41_000), Some(51_000));
    }

    #[test]
    fn many_missed_times_are_counted_up_to_a_bound() {
        let minutely = timing("* * * * *", "UTC");
        let due = minutely.due(at("2020-01-01T00:00:00Z"), at("2026-01-01T00:00:30Z")).unwrap();
        assert_eq!(shown(due.slot), "2026-01-01T00:00:00Z");
        assert!((COUNTED - 1..COUNTED + 1_440).contains(&due.missed));
        let never = minutely.due(at("2026-01-01T00:00:30Z"), at("2026-01-01T00:00:59Z"));
        assert_eq!(never, None);
    }
}
