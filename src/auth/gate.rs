//! Decides whether a request may pass.
//!
//! In this order: a good cookie, credentials that were right lately, the pause of an origin that failed too often,
//! the plain password, the hashes. So the pause never locks out who already got in from the same address, and
//! nobody can guess during it. All but the hashes is decided at once, without an allocation for who may pass.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::HeaderValue;
use http::header::AUTHORIZATION;
use tokio::sync::Semaphore;

use super::cookie::{self, Cookies};
use super::credentials::{Authorization, Credentials};
use super::guard::Guard;
use super::mac::{Key, Tag};
use super::proofs::Proofs;
use super::throttle::{Origin, Throttle};
use super::users::Users;
use super::{Error, Mode, Wall};
use crate::http::{Context, Handler, Request};

/// So many hashes are computed at a time; each takes the memory that it asks for, 19 MiB as we make them.
const HASHING: usize = 2;
/// So many attempts wait for their turn; at two per 50 ms the last waits less than two seconds.
const WAITING: usize = 64;

/// The wall: stands in front of handlers and lets pass who proves to be one of its users. A cheap clone.
#[derive(Clone)]
pub struct Gate(Option<Arc<Parts>>);

/// What a standing wall is made of.
pub struct Parts {
    users: Users,
    cookies: Cookies,
    proofs: Proofs,
    throttle: Throttle,
    hashing: Arc<Semaphore>,
    waiting: Semaphore,
    key: Key,
    exempt: Vec<String>,
    /// The value of WWW-Authenticate.
    pub challenge: HeaderValue,
}

/// What becomes of a request.
pub enum Decision {
    /// It may pass.
    Pass(Pass),
    /// It brings no good credentials.
    Refuse,
    /// Its origin failed too often and may try again after so long.
    Hold(Duration),
    /// Too many attempts are waiting for their hash.
    Busy,
    /// A hash has to be computed first.
    Prove(Attempt),
}

/// Who passes, and what is to be done about it.
pub struct Pass {
    /// The name of the user.
    pub user: Arc<str>,
    /// The value of Set-Cookie that goes with the response.
    pub cookie: Option<HeaderValue>,
    /// Whether the Authorization header was meant for the wall and ends here.
    pub consumed: bool,
}

/// Credentials that only a hash can judge.
pub struct Attempt {
    credentials: Credentials,
    origin: Origin,
    secure: bool,
}

impl Gate {
    /// The wall of `config`; none if it is off. `key` signs cookies: as long as it stays the same they stay good,
    /// so take it from the state folder, or from [`getrandom`] to forget them at each start.
    ///
    /// # Errors
    /// A hash or a realm that cannot be used.
    pub fn new(config: &Wall, key: [u8; 32]) -> Result<Self, Error> {
        let key = Key::new(&key);
        // Also of a wall that is off, so that turning it on is no surprise.
        let (users, challenge) = (Users::new(config, &key)?, challenge(&config.realm).ok_or(Error::Realm)?);
        if config.mode == Mode::Off || !config.is_on() {
            return Ok(Self(None));
        }
        Ok(Self(Some(Arc::new(Parts {
            cookies: Cookies::new(&key),
            proofs: Proofs::default(),
            throttle: Throttle::default(),
            hashing: Arc::new(Semaphore::new(HASHING)),
            waiting: Semaphore::new(WAITING),
            key: key.derive("beacon wall proofs"),
            exempt: config.exempt.iter().map(|path| path.trim_end_matches('/').to_owned()).collect(),
            users,
            challenge,
        }))))
    }

    /// Puts the wall in front of `inner`; gives `inner` itself if the wall is off.
    #[must_use]
    pub fn protect(&self, inner: Arc<dyn Handler>) -> Arc<dyn Handler> {
        match &self.0 {
            Some(parts) => Arc::new(Guard::new(parts.clone(), inner)),
            None => inner,
        }
    }

    /// Whether the wall stands.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// The parts, for tests that look at a decision.
    #[cfg(test)]
    #[must_use]
    pub fn parts(&self) -> Option<&Parts> {
        self.0.as_deref()
    }
}

impl Parts {
    /// Whether `path` passes without a password: it is an exempt path, or below one.
    #[must_use]
    pub fn is_exempt(&self, path: &str) -> bool {
        self.exempt.iter().any(|exempt| {
            path.strip_prefix(exempt.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }

    /// Decides what can be decided at once.
    #[must_use]
    pub fn decide(&self, request: &Request) -> Decision {
        let (headers, Context { client, secure, .. }) = (&request.parts.headers, &request.context);
        let authorization = Authorization::of(headers);
        if let Some(found) = self.cookies.find(&self.users, headers, *secure, SystemTime::now()) {
            let consumed = matches!(&authorization, Authorization::Basic(credentials) if self.is_for_us(credentials));
            return self.pass(found.user, found.is_old, *secure, consumed);
        }
        let Authorization::Basic(credentials) = authorization else { return Decision::Refuse };
        let attempt = Attempt { credentials, origin: Origin::of(*client), secure: *secure };
        let now = Instant::now();
        if let Some(decision) = self.recall(&attempt, now) {
            return decision;
        }
        for reading in attempt.credentials.readings() {
            if let Some(user) = self.users.match_plain(&reading) {
                self.proofs.add(self.proof_of(&attempt, &reading.user, &reading.password), user, now);
                return self.pass(user, true, *secure, true);
            }
        }
        if self.users.need_hashing() {
            return Decision::Prove(attempt);
        }
        self.fail(attempt.origin, now);
        Decision::Refuse
    }

    /// Decides what takes a hash. Who waits in the queue looks again when it is their turn, so that the requests of
    /// one page that come at once cost one hash, and that many guesses at once are no way around the pause.
    pub async fn prove(self: &Arc<Self>, attempt: Attempt) -> Decision {
        let Ok(_place) = self.waiting.try_acquire() else { return Decision::Busy };
        let Ok(permit) = self.hashing.clone().acquire_owned().await else { return Decision::Busy };
        if let Some(decision) = self.recall(&attempt, Instant::now()) {
            return decision;
        }
        let parts = self.clone();
        // The permit and the count of failures go along: a client that hangs up frees no room and is not forgiven.
        let judged = tokio::task::spawn_blocking(move || {
            let decision = parts.compute(&attempt);
            drop(permit);
            decision
        });
        judged.await.unwrap_or(Decision::Refuse)
    }

    fn compute(&self, attempt: &Attempt) -> Decision {
        for reading in attempt.credentials.readings() {
            if let Some(user) = self.users.match_hash(&reading) {
                self.proofs.add(self.proof_of(attempt, &reading.user, &reading.password), user, Instant::now());
                return self.pass(user, true, attempt.secure, true);
            }
        }
        self.fail(attempt.origin, Instant::now());
        Decision::Refuse
    }

    /// What is known of these credentials and of where they come from.
    fn recall(&self, attempt: &Attempt, now: Instant) -> Option<Decision> {
        for reading in attempt.credentials.readings() {
            if let Some(user) = self.proofs.find(&self.proof_of(attempt, &reading.user, &reading.password), now) {
                return Some(self.pass(user, true, attempt.secure, true));
            }
        }
        self.throttle.held(attempt.origin, now).map(Decision::Hold)
    }

    fn proof_of(&self, attempt: &Attempt, user: &str, password: &str) -> Tag {
        self.key.tag(&[&attempt.origin.bytes(), user.as_bytes(), password.as_bytes()])
    }

    fn pass(&self, user: usize, give_cookie: bool, secure: bool, consumed: bool) -> Decision {
        let Some(found) = self.users.get(user) else { return Decision::Refuse };
        let cookie = if give_cookie { self.cookies.make(&self.users, user, secure, SystemTime::now()) } else { None };
        Decision::Pass(Pass { user: found.name.clone(), cookie, consumed })
    }

    fn fail(&self, origin: Origin, now: Instant) {
        if self.throttle.fail(origin, now) {
            // Without the address, which is personal; the access log has it beside the 401s.
            tracing::warn!("the auth wall holds an address off for a minute: too many wrong passwords");
        }
    }

    /// Whether the credentials name a user of the wall, so that they are not the application's.
    fn is_for_us(&self, credentials: &Credentials) -> bool {
        credentials.readings().any(|reading| self.users.number(&reading.user).is_some())
    }
}

impl Pass {
    /// Makes the request that of the user, without what opens the wall.
    pub fn apply(&self, request: &mut Request) {
        if self.consumed {
            request.parts.headers.remove(AUTHORIZATION);
        }
        cookie::remove(&mut request.parts.headers, request.context.secure);
        request.context.user = Some(self.user.clone());
    }
}

/// The value of WWW-Authenticate, in Latin-1 where it can be, as Django writes it and browsers read it; else UTF-8.
fn challenge(realm: &str) -> Option<HeaderValue> {
    let escaped = realm.replace('\\', "\\\\").replace('"', "\\\"");
    let text = format!("Basic realm=\"{escaped}\"");
    let latin1: Option<Vec<u8>> = text.chars().map(|character| u8::try_from(character).ok()).collect();
    HeaderValue::from_bytes(&latin1.unwrap_or_else(|| text.into_bytes())).ok()
}
