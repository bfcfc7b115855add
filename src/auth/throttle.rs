//! Holds off an address that fails too often.
//!
//! IPv6 counts by /64, the least that one customer is given (RFC 6177). The table is bounded: when it is full, what
//! has run out goes first, then addresses that only fail now and then, then everything. Whoever has ten thousand
//! networks to fill it with is not stopped by counting addresses anyway.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So many failures within [`WINDOW`] hold an address off for [`PAUSE`].
pub const FAILURES: u32 = 10;
const WINDOW: Duration = Duration::from_mins(1);
const PAUSE: Duration = Duration::from_mins(1);
const LARGEST: usize = 10_000;

/// Where a request comes from: an IPv4 address or an IPv6 /64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Origin(u128);

impl Origin {
    /// The origin of `client`.
    #[must_use]
    pub fn of(client: IpAddr) -> Self {
        match client.to_canonical() {
            IpAddr::V4(address) => Self(Ipv6Addr::to_bits(address.to_ipv6_mapped())),
            IpAddr::V6(address) => Self(address.to_bits() >> 64 << 64),
        }
    }

    /// The bytes that stand for it.
    #[must_use]
    pub fn bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

/// Counts failures.
#[derive(Default)]
pub struct Throttle(Mutex<HashMap<Origin, Count>>);

struct Count {
    since: Instant,
    failures: u32,
    held_until: Option<Instant>,
}

impl Count {
    fn is_over(&self, now: Instant) -> bool {
        match self.held_until {
            Some(until) => until <= now,
            None => self.since + WINDOW <= now,
        }
    }
}

impl Throttle {
    /// How long `origin` is still held off.
    #[must_use]
    pub fn held(&self, origin: Origin, now: Instant) -> Option<Duration> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = counts.get(&origin)?.held_until?.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }

    /// Counts a failure; says whether it is the one from which on `origin` is held off.
    pub fn fail(&self, origin: Origin, now: Instant) -> bool {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() >= LARGEST && !counts.contains_key(&origin) {
            make_room(&mut counts, now);
        }
        let fresh = Count { since: now, failures: 0, held_until: None };
        let count = counts.entry(origin).or_insert_with(|| Count { ..fresh });
        if count.is_over(now) {
            *count = fresh;
        }
        count.failures += 1;
        let held = count.failures >= FAILURES && count.held_until.is_none();
        if held {
            count.held_until = Some(now + PAUSE);
        }
        held
    }
}

/// Each step frees at least a quarter or gives way to the next, so that room is not made again at every failure.
fn make_room(counts: &mut HashMap<Origin, Count>, now: Instant) {
    counts.retain(|_, count| !count.is_over(now));
    if counts.len() > LARGEST / 4 * 3 {
        counts.retain(|_, count| count.held_until.is_some());
    }
    if counts.len() > LARGEST / 4 * 3 {
        counts.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &str) -> Origin {
        Origin::of(text.parse().unwrap())
    }

    #[test]
    fn ten_failures_within_a_minute_hold_an_address_off_for_a_minute() {
        let (throttle, start, who) = (Throttle::default(), Instant::now(), origin("192.0.2.1"));
        for _ in 1..FAILURES {
            assert!(!throttle.fail(who, start));
        }
        assert_eq!(throttle.held(who, start), None);
        assert!(throttle.fail(who, start + Duration::from_secs(30)));
        assert_eq!(throttle.held(who, start + Duration::from_secs(40)), Some(Duration::from_secs(50)));
        assert_eq!(throttle.held(origin("192.0.2.2"), start), None);
        assert_eq!(throttle.held(who, start + Duration::from_secs(90)), None);
        assert!(!throttle.fail(who, start + Duration::from_secs(90)), "the count starts again");
    }

    #[test]
    fn failures_that_are_far_apart_are_forgiven() {
        let (throttle, start, who) = (Throttle::default(), Instant::now(), origin("192.0.2.1"));
        for attempt in 0..FAILURES * 3 {
            assert!(!throttle.fail(who, start + Duration::from_secs(10) * attempt), "{attempt}");
        }
    }

    #[test]
    fn a_network_of_ipv6_is_one_origin_and_a_mapped_address_is_ipv4() {
        assert_eq!(origin("2001:db8:1:2::1"), origin("2001:db8:1:2:ffff::9"));
        assert_ne!(origin("2001:db8:1:2::1"), origin("2001:db8:1:3::1"));
        assert_eq!(origin("::ffff:192.0.2.1"), origin("192.0.2.1"));
    }

    #[test]
    fn the_table_is_bounded_and_prefers_to_keep_who_is_held_off() {
        let (throttle, now, held) = (Throttle::default(), Instant::now(), origin("192.0.2.1"));
        for _ in 0..FAILURES {
            throttle.fail(held, now);
        }
        for number in 0..LARGEST as u128 * 3 {
            throttle.fail(Origin(number << 64), now);
            assert!(throttle.0.lock().unwrap().len() <= LARGEST);
        }
        assert!(throttle.held(held, now).is_some());
    }
}
