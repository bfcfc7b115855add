//! How many requests are served, by who makes them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::Fault;

/// The most requests that are let through. All are off by default.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Of each API key that acts for itself: a secret key, or one with a role of its own. Requests of users count for
    /// the user and those of anonymous clients for the address, whatever key comes with them.
    pub key: Allowance,
    /// Of each user.
    pub user: Allowance,
    /// Of each address (each /64 network of IPv6) from which anonymous clients come.
    pub anonymous: Allowance,
}

/// A rate and how far one may be ahead of it.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Allowance {
    /// Requests a minute in the long run; 0 is without a limit.
    pub per_minute: u32,
    /// Requests at once, after a pause; 0 is a tenth of `per_minute`, at least 1.
    pub burst: u32,
}

/// The most of both; a larger number is a typing error.
const MOST: u32 = 10_000_000;

impl Allowance {
    /// Whether there is a limit.
    #[must_use]
    pub fn is_limited(self) -> bool {
        self.per_minute > 0
    }

    /// Requests at once.
    #[must_use]
    pub fn burst(self) -> u32 {
        if self.burst == 0 { (self.per_minute / 10).max(1) } else { self.burst }
    }

    /// Between two requests in the long run, in microseconds, at least 1.
    pub(super) fn interval(self) -> u64 {
        (60_000_000 / u64::from(self.per_minute.max(1))).max(1)
    }

    /// How far ahead of time one may be, in microseconds.
    pub(super) fn tolerance(self) -> u64 {
        self.interval() * u64::from(self.burst() - 1)
    }

    /// How long it takes to have the whole burst again.
    pub(super) fn window(self) -> Duration {
        Duration::from_micros(self.interval() * u64::from(self.burst()))
    }
}

impl Config {
    /// Whether anybody is limited.
    #[must_use]
    pub fn is_on(&self) -> bool {
        [self.key, self.user, self.anonymous].into_iter().any(Allowance::is_limited)
    }

    /// What is wrong with the values.
    #[must_use]
    pub fn validate(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        for (name, allowance) in [("key", self.key), ("user", self.user), ("anonymous", self.anonymous)] {
            if allowance.burst > 0 && !allowance.is_limited() {
                let (problem, fix) = ("has no effect without per_minute", "Set per_minute, or remove burst.");
                faults.push(Fault::new(format!("{name}.burst"), problem, fix));
            }
            for (key, value) in [("per_minute", allowance.per_minute), ("burst", allowance.burst)] {
                if value > MOST {
                    let fix = "Use a smaller number; 0 is without a limit.";
                    faults.push(Fault::new(format!("{name}.{key}"), format!("is more than {MOST}"), fix));
                }
            }
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_that_limits_nothing_and_nonsense_are_faults() {
        assert!(Config::default().validate().is_empty());
        let config = Config {
            user: Allowance { per_minute: 0, burst: 5 },
            key: Allowance { per_minute: u32::MAX, burst: 0 },
            anonymous: Allowance { per_minute: 60, burst: 5 },
        };
        let faults: Vec<String> = config.validate().into_iter().map(|fault| fault.key).collect();
        assert_eq!(faults, ["key.per_minute", "user.burst"]);
    }

    #[test]
    fn the_numbers_of_the_bucket() {
        let allowance = Allowance { per_minute: 60, burst: 5 };
        assert_eq!((allowance.interval(), allowance.tolerance()), (1_000_000, 4_000_000));
        assert_eq!(allowance.window(), Duration::from_secs(5));
        assert_eq!(Allowance { per_minute: 600, burst: 0 }.burst(), 60);
        assert_eq!(Allowance { per_minute: 5, burst: 0 }.burst(), 1);
        assert!(Allowance { per_minute: MOST, burst: 1 }.interval() > 0);
    }
}
