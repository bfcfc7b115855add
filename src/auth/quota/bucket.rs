//! The generic cell rate algorithm (ITU-T I.371) twice: in Redis, for all Beacons together, and in memory.
//!
//! One time stamp a subject says when its bucket would be full again. Both forms must count alike; a test compares them.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::Allowance;
use crate::redis::{Client, Error, Script};

/// Who is counted: the start of a SHA-256.
pub(super) type Subject = [u8; 16];

/// How a subject stands after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counted {
    /// Requests that would pass at once.
    pub(super) remaining: u32,
    /// Until the bucket is full.
    pub(super) full_in: Duration,
    /// Until the next request would pass, if this one is one too many.
    pub(super) wait: Option<Duration>,
}

/// Keys of Beacon in a Redis that others use too.
const PREFIX: &str = "beacon:quota:";

/// KEYS: the bucket. ARGV: interval and tolerance, in microseconds. Redis's clock counts, so that the hosts' clocks
/// need not agree. A time stamp that is further ahead than the limit allows is of another limit, or of a clock that was
/// set back.
static TAKE: Script = Script::new(
    "local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval, tolerance = tonumber(ARGV[1]), tonumber(ARGV[2])
local arrival = tonumber(redis.call('GET', KEYS[1]) or '') or now
arrival = math.min(math.max(arrival, now), now + tolerance + interval)
local ahead = arrival - now
if ahead > tolerance then return {ahead, ahead - tolerance} end
ahead = ahead + interval
redis.call('SET', KEYS[1], string.format('%.0f', now + ahead), 'PX', math.ceil(ahead / 1000))
return {ahead, 0}",
);

/// Counts a request in Redis.
pub(super) async fn take_shared(
    redis: &Client,
    subject: &Subject,
    allowance: Allowance,
    within: Duration,
) -> Result<Counted, Error> {
    let key = subject.iter().fold(String::from(PREFIX), |mut key, byte| {
        for digit in [byte >> 4, byte & 15] {
            key.push(char::from_digit(digit.into(), 16).unwrap_or_default());
        }
        key
    });
    let arguments = [allowance.interval() as i64, allowance.tolerance() as i64];
    let answer = redis.run(&TAKE, &[&key], &arguments, within).await?;
    match answer[..] {
        [ahead, wait] if ahead >= 0 && wait >= 0 => Ok(counted(ahead as u64, wait as u64, allowance)),
        _ => Err(Error::Refused("the script answered with something else".into())),
    }
}

/// `ahead` is how far the bucket is from full, in microseconds; a `wait` of 0 lets the request through.
fn counted(ahead: u64, wait: u64, allowance: Allowance) -> Counted {
    let room = (allowance.tolerance() + allowance.interval()).saturating_sub(ahead);
    Counted {
        remaining: (room / allowance.interval()).try_into().unwrap_or(u32::MAX),
        full_in: Duration::from_micros(ahead),
        wait: (wait > 0).then(|| Duration::from_micros(wait)),
    }
}

const SETS: usize = 4_096;
const WAYS: usize = 8;

/// Buckets in memory of a fixed size, 768 KiB: time stamps stand in sets of eight, and in a full set the fullest bucket
/// gives way, so that a flood of subjects can make the limit forget somebody for a moment but never grow memory.
pub(super) struct Local(Box<[Mutex<[Slot; WAYS]>]>);

#[derive(Clone, Copy, Default)]
struct Slot {
    subject: Subject,
    /// When the bucket would be full, in microseconds; 0 is an empty slot.
    arrival: u64,
}

impl Local {
    pub(super) fn new() -> Self {
        Self((0..SETS).map(|_| Mutex::default()).collect())
    }

    /// Counts a request at `now`, in microseconds on a clock that never goes back.
    pub(super) fn take(&self, subject: &Subject, allowance: Allowance, now: u64) -> Counted {
        // The subject is a hash that nobody can steer to many values of one set without as many accounts or addresses.
        let set = usize::from(u16::from_le_bytes([subject[0], subject[1]])) % SETS;
        let mut slots = self.0[set].lock().unwrap_or_else(PoisonError::into_inner);
        let index = slots.iter().position(|slot| slot.subject == *subject).unwrap_or_else(|| {
            let oldest = (0..WAYS).min_by_key(|index| slots[*index].arrival).unwrap_or(0);
            slots[oldest] = Slot { subject: *subject, arrival: 0 };
            oldest
        });
        let (interval, tolerance) = (allowance.interval(), allowance.tolerance());
        let ahead = slots[index].arrival.saturating_sub(now).min(tolerance + interval);
        if ahead > tolerance {
            return counted(ahead, ahead - tolerance, allowance);
        }
        slots[index].arrival = now + ahead + interval;
        counted(ahead + interval, 0, allowance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIVE: Allowance = Allowance { per_minute: 600, burst: 5 };

    fn subject(number: u64) -> Subject {
        let mut subject = [0; 16];
        subject[..8].copy_from_slice(&number.to_le_bytes());
        subject[15] = 1;
        subject
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let (local, start) = (Local::new(), 1_000_000);
        for left in (0..5).rev() {
            let counted = local.take(&subject(1), FIVE, start);
            assert_eq!((counted.remaining, counted.wait), (left, None));
        }
        let over = local.take(&subject(1), FIVE, start);
        assert_eq!((over.remaining, over.wait), (0, Some(Duration::from_millis(100))));
        assert_eq!(over.full_in, Duration::from_millis(500));
        assert_eq!(local.take(&subject(1), FIVE, start + 100_000).wait, None);
        assert!(local.take(&subject(1), FIVE, start + 100_000).wait.is_some());
        assert_eq!(local.take(&subject(2), FIVE, start).remaining, 4, "another one is not held off");
        assert_eq!(local.take(&subject(1), FIVE, start + 10_000_000).remaining, 4);
    }

    #[test]
    fn a_smaller_limit_counts_from_the_next_request_on() {
        let local = Local::new();
        let large = Allowance { per_minute: 1, burst: 1_000 };
        for _ in 0..1_000 {
            assert_eq!(local.take(&subject(1), large, 1).wait, None);
        }
        let wait = local.take(&subject(1), FIVE, 1).wait.unwrap();
        assert!(wait <= Duration::from_millis(100), "not for the hours of the old one: {wait:?}");
    }

    #[test]
    fn a_flood_of_subjects_changes_nothing_for_one_in_debt() {
        let (local, now) = (Local::new(), 1_000_000);
        while local.take(&subject(1), FIVE, now).wait.is_none() {}
        for number in 2..200_000 {
            let _ = local.take(&subject(number), FIVE, now);
        }
        assert!(local.take(&subject(1), FIVE, now).wait.is_some());
    }
}
