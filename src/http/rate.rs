//! Limits on the rate of requests by client address, in memory of a fixed size.
//!
//! The generic cell rate algorithm (ITU-T I.371): one time stamp a client says when its bucket would be full again. The
//! time stamps stand in a table of sets of eight; when a set is full, the client whose bucket is emptiest of debt
//! gives way, so that a flood of addresses can make the limit forget somebody for a moment but never grow memory.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Duration;

use super::Rate;
use crate::clock;

const SETS: usize = 4_096;
const WAYS: usize = 8;

/// A limit on the rate of requests.
pub struct Limiter {
    pace: Pace,
    buckets: Buckets,
    hasher: RandomState,
}

/// How often something may happen.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Between two times in the long run, in microseconds.
    interval: u64,
    /// How far ahead of time somebody may be, in microseconds.
    tolerance: u64,
}

impl Pace {
    /// Once in `interval` in the long run, and `burst` times at once.
    #[must_use]
    pub fn new(interval: Duration, burst: u32) -> Self {
        let interval = (interval.as_micros() as u64).max(1);
        Self { interval, tolerance: interval.saturating_mul(u64::from(burst.max(1) - 1)) }
    }
}

/// The table of time stamps. Takes 512 KiB.
pub struct Buckets(Box<[Mutex<[Slot; WAYS]>]>);

#[derive(Clone, Copy, Default)]
struct Slot {
    key: u64,
    /// The theoretical arrival time, in microseconds; 0 is an empty slot.
    arrival: u64,
}

impl Default for Buckets {
    fn default() -> Self {
        Self((0..SETS).map(|_| Mutex::default()).collect())
    }
}

impl Buckets {
    /// Counts once for `key`, which must be a hash that nobody outside can choose, at `now` in microseconds.
    ///
    /// # Errors
    /// How long to wait, when it is once too often.
    pub fn take(&self, key: u64, pace: Pace, now: u64) -> Result<(), Duration> {
        let key = key | 1;
        let set = &self.0[(key >> 32) as usize % SETS];
        let mut slots = set.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let index = slots.iter().position(|slot| slot.key == key).unwrap_or_else(|| {
            // The one with the earliest arrival has the least to lose.
            let oldest = (0..WAYS).min_by_key(|index| slots[*index].arrival).unwrap_or(0);
            slots[oldest] = Slot { key, arrival: 0 };
            oldest
        });
        let arrival = slots[index].arrival.max(now);
        let ahead = arrival - now;
        if ahead > pace.tolerance {
            return Err(Duration::from_micros(ahead - pace.tolerance));
        }
        slots[index].arrival = arrival.saturating_add(pace.interval);
        Ok(())
    }

    /// Takes back what was counted once for `key`.
    pub fn give(&self, key: u64, pace: Pace) {
        let key = key | 1;
        let set = &self.0[(key >> 32) as usize % SETS];
        let mut slots = set.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(slot) = slots.iter_mut().find(|slot| slot.key == key) {
            slot.arrival = slot.arrival.saturating_sub(pace.interval);
        }
    }
}

impl Limiter {
    /// A limiter, if `rate` limits anything. Takes 512 KiB.
    #[must_use]
    pub fn new(rate: &Rate) -> Option<Self> {
        if !rate.is_limited() {
            return None;
        }
        let burst = if rate.burst == 0 { rate.per_second.saturating_mul(2) } else { rate.burst };
        let pace = Pace::new(Duration::from_micros(1_000_000 / u64::from(rate.per_second)), burst);
        Some(Self { pace, buckets: Buckets::default(), hasher: RandomState::new() })
    }

    /// Counts one request of `client`.
    ///
    /// # Errors
    /// How long to wait, when it is one too many.
    pub fn take(&self, client: IpAddr) -> Result<(), Duration> {
        self.take_at(client, clock::millis() * 1_000)
    }

    fn take_at(&self, client: IpAddr, now: u64) -> Result<(), Duration> {
        self.buckets.take(self.hasher.hash_one(subject(client)), self.pace, now)
    }
}

/// What is counted together: an IPv4 address, or an IPv6 /64, which one client usually has whole.
#[must_use]
pub fn subject(client: IpAddr) -> u64 {
    match client.to_canonical() {
        IpAddr::V4(address) => u64::from(u32::from(address)),
        IpAddr::V6(address) => (u128::from(address) >> 64) as u64 | 1 << 63,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter() -> Limiter {
        Limiter::new(&Rate { per_second: 10, burst: 5 }).unwrap()
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let limiter = limiter();
        let client = "203.0.113.9".parse().unwrap();
        let start = 1_000_000;
        for _ in 0..5 {
            limiter.take_at(client, start).unwrap();
        }
        assert_eq!(limiter.take_at(client, start), Err(Duration::from_millis(100)));
        limiter.take_at(client, start + 100_000).unwrap();
        assert!(limiter.take_at(client, start + 100_000).is_err());
        limiter.take_at("203.0.113.10".parse().unwrap(), start).unwrap();
    }

    #[test]
    fn an_ipv6_network_counts_as_one_client() {
        let limiter = limiter();
        for host in 0..5 {
            limiter.take_at(format!("2001:db8::{host}").parse().unwrap(), 1).unwrap();
        }
        assert!(limiter.take_at("2001:db8::ffff".parse().unwrap(), 1).is_err());
        limiter.take_at("2001:db8:0:1::1".parse().unwrap(), 1).unwrap();
    }

    #[test]
    fn a_flood_of_addresses_changes_nothing_for_a_client_in_debt() {
        let limiter = limiter();
        let client = "203.0.113.9".parse().unwrap();
        let now = 1_000_000;
        while limiter.take_at(client, now).is_ok() {}
        for address in 0..200_000u32 {
            let _ = limiter.take_at(IpAddr::V4(address.into()), now);
        }
        assert!(limiter.take_at(client, now).is_err());
    }

    #[test]
    fn no_rate_is_no_limit() {
        assert!(Limiter::new(&Rate::default()).is_none());
    }
}
