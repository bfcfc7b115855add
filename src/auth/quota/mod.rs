//! Limits on the rate of requests by who makes them, shared by all Beacons that use one Redis.
//!
//! A request counts once, for whoever acts: a user, an API key, or the address of an anonymous client. Without Redis, and
//! while Redis is away, each Beacon counts by itself: a client that reaches several may then have its limit at each.
//! Limits protect, and must not be what fails: nothing waits for Redis longer than `PATIENCE`.

mod bucket;
mod config;
mod standing;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::Caller;
use super::throttle::Origin;
use crate::clock;
use crate::error::chain;
use crate::redis::Client;
use bucket::{Counted, Local, Subject};
pub use config::{Allowance, Config};
pub use standing::Standing;

/// The longest a request waits for Redis before it is counted here.
const PATIENCE: Duration = Duration::from_millis(100);
/// After a failure Redis is left alone for so long, in milliseconds.
const REST: u64 = 1_000;

/// Counts requests. A cheap clone.
#[derive(Clone)]
pub struct Quota(Arc<Inner>);

struct Inner {
    config: Config,
    redis: Option<Client>,
    local: Local,
    /// Redis is not asked before this moment, in milliseconds of the monotonic clock.
    rests_until: AtomicU64,
    failing: AtomicBool,
}

/// Who a request counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who<'a> {
    User(&'a str),
    Key(uuid::Uuid),
    /// Somebody with a role and no name: a token that was made to be a key. It counts by address, as a key.
    Role(&'a str, Origin),
    Anonymous(Origin),
}

impl Quota {
    /// What counts requests, if there is a limit. Takes 768 KiB.
    #[must_use]
    pub fn new(config: &Config, redis: Option<Client>) -> Option<Self> {
        config.is_on().then(|| {
            Self(Arc::new(Inner {
                config: config.clone(),
                redis,
                local: Local::new(),
                rests_until: AtomicU64::new(0),
                failing: AtomicBool::new(false),
            }))
        })
    }

    /// Counts one request of `caller`, who comes from `client`; none if there is no limit for such callers. A request
    /// that is one too many ([`Standing::is_over`]) is not counted.
    pub async fn take(&self, caller: &Caller, client: IpAddr) -> Option<Standing> {
        let who = Who::of(caller, client);
        let (name, allowance) = match who {
            Who::User(_) => ("user", self.0.config.user),
            Who::Key(_) | Who::Role(..) => ("key", self.0.config.key),
            Who::Anonymous(_) => ("anonymous", self.0.config.anonymous),
        };
        if !allowance.is_limited() {
            return None;
        }
        let counted = self.count(&who.subject(), allowance).await;
        Some(Standing::new(name, allowance, counted))
    }

    async fn count(&self, subject: &Subject, allowance: Allowance) -> Counted {
        let now = clock::millis();
        if let Some(redis) = self.0.redis.as_ref().filter(|_| now >= self.0.rests_until.load(Ordering::Relaxed)) {
            match bucket::take_shared(redis, subject, allowance, PATIENCE).await {
                Ok(counted) => {
                    if self.0.failing.swap(false, Ordering::Relaxed) {
                        tracing::info!("requests are counted in Redis again");
                    }
                    return counted;
                }
                Err(error) => {
                    self.0.rests_until.store(clock::millis() + REST, Ordering::Relaxed);
                    if !self.0.failing.swap(true, Ordering::Relaxed) {
                        let error = chain(&error).to_string();
                        tracing::warn!(%error, "Redis does not count requests; each host counts alone meanwhile");
                    }
                }
            }
        }
        self.0.local.take(subject, allowance, clock::millis() * 1_000)
    }
}

impl<'a> Who<'a> {
    fn of(caller: &'a Caller, client: IpAddr) -> Self {
        match (&caller.subject, caller.key) {
            (Some(user), _) => Self::User(user),
            (None, _) if !caller.authenticated => Self::Anonymous(Origin::of(client)),
            (None, Some(key)) => Self::Key(key),
            (None, None) => Self::Role(&caller.role, Origin::of(client)),
        }
    }

    /// What it is counted under: of one length, and without an address or a name for who looks into Redis.
    fn subject(&self) -> Subject {
        let hash = match self {
            Self::User(user) => Sha256::new().chain_update(b"user\0").chain_update(user),
            Self::Key(key) => Sha256::new().chain_update(b"key\0").chain_update(key),
            Self::Role(role, origin) => {
                Sha256::new().chain_update(b"role\0").chain_update(origin.bytes()).chain_update(role)
            }
            Self::Anonymous(origin) => Sha256::new().chain_update(b"anonymous\0").chain_update(origin.bytes()),
        };
        let mut subject = Subject::default();
        subject.copy_from_slice(&hash.finalize()[..16]);
        subject
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota() -> Quota {
        let two = Allowance { per_minute: 1, burst: 2 };
        Quota::new(&Config { key: two, user: two, anonymous: two }, None).unwrap()
    }

    fn caller(subject: Option<&str>, key: Option<u128>, authenticated: bool) -> Caller {
        Caller {
            subject: subject.map(Into::into),
            key: key.map(uuid::Uuid::from_u128),
            authenticated,
            ..Caller::anonymous(if authenticated { "service_role" } else { "anon" })
        }
    }

    #[tokio::test]
    async fn a_request_counts_for_who_acts_and_for_nobody_else() {
        let (quota, here, there) = (quota(), "192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let callers = [
            (caller(Some("ann"), Some(1), true), here),
            (caller(Some("bob"), Some(1), true), here),
            (caller(None, Some(1), true), here),
            (caller(None, Some(2), true), here),
            (caller(None, Some(1), false), here),
            (caller(None, Some(1), false), there),
            (caller(None, None, true), here),
        ];
        for _ in 0..2 {
            for (caller, client) in &callers {
                assert!(!quota.take(caller, *client).await.unwrap().is_over(), "{caller:?} {client}");
            }
        }
        for (caller, client) in &callers {
            assert!(quota.take(caller, *client).await.unwrap().is_over(), "{caller:?} {client}");
        }
        // From elsewhere and with another key it is the same user, and the same key.
        assert!(quota.take(&caller(Some("ann"), None, true), there).await.unwrap().is_over());
        assert!(quota.take(&caller(None, Some(2), true), there).await.unwrap().is_over());
        // With another key it is the same anonymous client.
        assert!(quota.take(&caller(None, None, false), here).await.unwrap().is_over());
    }

    #[tokio::test]
    async fn who_has_no_limit_is_not_counted() {
        let config = Config { user: Allowance { per_minute: 1, burst: 1 }, ..Config::default() };
        let (quota, here) = (Quota::new(&config, None).unwrap(), "192.0.2.1".parse().unwrap());
        for _ in 0..3 {
            assert!(quota.take(&caller(None, None, false), here).await.is_none());
            assert!(quota.take(&caller(None, Some(1), true), here).await.is_none());
        }
        assert!(quota.take(&caller(Some("ann"), None, true), here).await.is_some());
        assert!(Quota::new(&Config::default(), None).is_none());
    }
}
