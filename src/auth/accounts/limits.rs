//! How much one client address may ask for in an hour, and how often an account's password may be wrong, in memory of a
//! fixed size.
//!
//! The limits are this process's own: with several hosts a client has as many times as much. What must not be guessed
//! (codes in mails) is counted in the database besides.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::net::IpAddr;
use std::time::Duration;

use crate::clock;
use crate::http::{Buckets, Pace, subject};

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// A new account.
    Signup,
    /// A new anonymous account.
    Anonymous,
    /// A sign-in.
    SignIn,
    /// A session refreshed.
    Refresh,
    /// A link followed or a code tried.
    Verify,
    /// A mail asked for.
    Mail,
    /// A code of a second factor tried.
    Factor,
    /// A change to an account.
    User,
    /// A mail sent, whoever asked.
    MailSent,
    /// A wrong password for one account, whoever tried.
    WrongPassword,
}

/// So many an hour.
#[derive(Clone, Copy, Debug)]
pub struct Hourly(Option<Pace>);

impl Hourly {
    /// A limit; 0 is none.
    #[must_use]
    pub fn new(an_hour: u32) -> Self {
        // A sixth at once: whoever comes first thing in the morning with the whole team passes.
        let burst = (an_hour / 6).max(10).min(an_hour);
        Self((an_hour > 0).then(|| Pace::new(Duration::from_hours(1) / an_hour, burst)))
    }
}

/// The limits of all classes.
pub struct Limits {
    paces: [Hourly; 10],
    buckets: Buckets,
    hasher: RandomState,
}

impl Limits {
    /// Limits in the order of [`Class`]. Takes 512 KiB.
    #[must_use]
    pub fn new(paces: [Hourly; 10]) -> Self {
        Self { paces, buckets: Buckets::default(), hasher: RandomState::new() }
    }

    /// Counts one request of `client`.
    ///
    /// # Errors
    /// How long to wait, when it is one too many.
    pub fn take(&self, class: Class, client: IpAddr) -> Result<(), Duration> {
        self.count(class, subject(client))
    }

    /// Counts one of a class that is limited for everybody together.
    ///
    /// # Errors
    /// How long to wait, when it is one too many.
    pub fn take_shared(&self, class: Class) -> Result<(), Duration> {
        self.count(class, 0)
    }

    fn count(&self, class: Class, subject: u64) -> Result<(), Duration> {
        self.count_key(class, self.hasher.hash_one((class, subject)))
    }

    fn count_key(&self, class: Class, key: u64) -> Result<(), Duration> {
        let Hourly(Some(pace)) = self.paces[class as usize] else { return Ok(()) };
        self.buckets.take(key, pace, clock::millis() * 1_000)
    }

    /// Counts a password for an account, named by its address or number, as wrong before it is looked at: of many guesses
    /// at the same time none is free. Whether there is such an account makes no difference; "" is nobody's.
    ///
    /// # Errors
    /// How long to wait, when too many were wrong.
    pub fn guess(&self, account: &str) -> Result<(), Duration> {
        if account.is_empty() {
            return Ok(());
        }
        self.count_key(Class::WrongPassword, self.hasher.hash_one((Class::WrongPassword, account)))
    }

    /// The password was right, or could not be looked at.
    pub fn guessed(&self, account: &str) {
        if let Hourly(Some(pace)) = self.paces[Class::WrongPassword as usize] {
            self.buckets.give(self.hasher.hash_one((Class::WrongPassword, account)), pace);
        }
    }

    /// Counts one mail to an address that nobody has an account with, so that the answer is the same as for others:
    /// one in `interval`.
    ///
    /// # Errors
    /// How long to wait.
    pub fn take_address(&self, kind: &str, address: &str, interval: Duration) -> Result<(), Duration> {
        if interval.is_zero() {
            return Ok(());
        }
        self.buckets.take(self.hasher.hash_one((kind, address)), Pace::new(interval, 1), clock::millis() * 1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::accounts::config;

    fn client(last: u8) -> IpAddr {
        IpAddr::from([203, 0, 113, last])
    }

    #[test]
    fn each_class_and_client_has_its_own_limit() {
        let limits = Limits::new(config::Limits { signup: 12, verify: 0, ..config::Limits::default() }.table());
        for _ in 0..10 {
            limits.take(Class::Signup, client(1)).unwrap();
        }
        let wait = limits.take(Class::Signup, client(1)).unwrap_err();
        assert!(wait > Duration::from_secs(290) && wait <= Duration::from_mins(5), "{wait:?}");
        limits.take(Class::Signup, client(2)).unwrap();
        limits.take(Class::Anonymous, client(1)).unwrap();
        for _ in 0..1_000 {
            limits.take(Class::Verify, client(1)).unwrap();
        }
    }

    #[test]
    fn wrong_passwords_count_by_account_and_right_ones_do_not() {
        let limits = Limits::new(config::Limits { wrong_passwords: 12, ..config::Limits::default() }.table());
        for _ in 0..100 {
            limits.guess("ann@example.org").unwrap();
            limits.guessed("ann@example.org");
        }
        for _ in 0..10 {
            limits.guess("ann@example.org").unwrap();
        }
        let wait = limits.guess("ann@example.org").unwrap_err();
        assert!(wait > Duration::from_secs(290) && wait <= Duration::from_mins(5), "{wait:?}");
        limits.guess("bob@example.org").unwrap();
    }

    #[test]
    fn an_unknown_address_waits_like_a_known_one() {
        let limits = Limits::new(config::Limits::default().table());
        let minute = Duration::from_mins(1);
        limits.take_address("recovery", "a@example.org", minute).unwrap();
        assert!(limits.take_address("recovery", "a@example.org", minute).unwrap_err() > Duration::from_secs(58));
        limits.take_address("magic_link", "a@example.org", minute).unwrap();
        limits.take_address("recovery", "b@example.org", minute).unwrap();
        limits.take_address("recovery", "c@example.org", Duration::ZERO).unwrap();
        limits.take_address("recovery", "c@example.org", Duration::ZERO).unwrap();
    }
}
