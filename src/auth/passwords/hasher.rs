//! Computes password hashes on a bounded number of threads.
//!
//! Beyond the waiting room callers get [`Error::Busy`] at once. A wrong password takes as long as the slowest kind of
//! hash that was met so far, by waiting and not by computing: otherwise the time would tell who has an account with an
//! old hash from who has none.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use argon2::{Algorithm, Argon2, Params, PasswordHasher as _, Version};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::stored::{LANES, LONGEST, MEMORY, PASSES};
use super::{Error, Stored, Verdict};

/// How much is computed and waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// So many hashes are computed at a time; each takes 19 MiB, an imported one up to 256 MiB.
    pub at_once: usize,
    /// So many callers wait for their turn.
    pub waiting: usize,
    /// A caller who waited so long gets [`Error::Busy`].
    pub patience: Duration,
}

impl Default for Limits {
    /// One hash a core.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { at_once: cores, waiting: 32 * cores, patience: Duration::from_secs(5) }
    }
}

/// Hashes and verifies passwords. A cheap clone.
#[derive(Clone)]
pub struct Hasher(Arc<Inner>);

struct Inner {
    computing: Arc<Semaphore>,
    waiting: Semaphore,
    patience: Duration,
    params: Params,
    /// Verified in place of a hash that is not there.
    decoy: Arc<Stored>,
    times: Mutex<Times>,
}

/// How long each kind of hash takes: a running mean by its cost.
#[derive(Default)]
struct Times(Vec<(u64, Duration)>);

/// Kinds that are told apart; what an attacker could add needs the right to write hashes.
const KINDS: usize = 32;

impl Hasher {
    /// A hasher that makes hashes of 19 MiB, two passes, one lane.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self::with_params(limits, Params::new(MEMORY, PASSES, LANES, None).unwrap_or_default())
    }

    fn with_params(limits: Limits, params: Params) -> Self {
        // What nobody can enter: longer than any password.
        let decoy = make(&params, &"x".repeat(LONGEST + 1)).and_then(|hash| Stored::parse(&hash));
        Self(Arc::new(Inner {
            computing: Arc::new(Semaphore::new(limits.at_once.max(1))),
            waiting: Semaphore::new(limits.waiting),
            patience: limits.patience,
            params,
            decoy: Arc::new(decoy.unwrap_or_else(|_| Stored::none())),
            times: Mutex::default(),
        }))
    }

    /// A hash of a new password, in PHC form with a salt of its own.
    ///
    /// # Errors
    /// [`Error::Busy`], [`Error::TooLong`], [`Error::Failed`].
    pub async fn hash(&self, password: &str) -> Result<String, Error> {
        if password.len() > LONGEST {
            return Err(Error::TooLong);
        }
        let (password, params) = (Zeroizing::new(password.to_owned()), self.0.params.clone());
        self.compute(move || make(&params, &password)).await?
    }

    /// What `password` is, measured by a stored hash; "" and Django's unusable ones take the usual time too.
    ///
    /// # Errors
    /// [`Error::Busy`]; [`Error::Unsupported`] and [`Error::Malformed`] speak of the stored hash and come after the
    /// usual time: tell the client the same as for a wrong password, and the log what is wrong.
    pub async fn verify(&self, password: &str, stored: &str) -> Result<Verdict, Error> {
        match Stored::parse(stored) {
            Ok(stored) if stored.is_usable() => self.measure(password, Arc::new(stored)).await,
            Ok(_) => self.verify_nobody(password).await,
            Err(error) => self.verify_nobody(password).await.and(Err(error)),
        }
    }

    /// Takes the time of a wrong password: for a user who does not exist. The verdict is always wrong.
    ///
    /// # Errors
    /// [`Error::Busy`], [`Error::Failed`].
    pub async fn verify_nobody(&self, password: &str) -> Result<Verdict, Error> {
        self.measure(password, self.0.decoy.clone()).await.map(|_| Verdict::Wrong)
    }

    async fn measure(&self, password: &str, stored: Arc<Stored>) -> Result<Verdict, Error> {
        let fits = password.len() <= LONGEST;
        // What is too long is wrong, and takes as long.
        let password = Zeroizing::new(if fits { password.to_owned() } else { String::new() });
        let cost = stored.cost();
        let (verdict, took) = self
            .compute(move || {
                let begin = Instant::now();
                (stored.verify(&password), begin.elapsed())
            })
            .await?;
        let longest = self.0.times.lock().unwrap_or_else(PoisonError::into_inner).add(cost, took);
        let verdict = if fits { verdict? } else { Verdict::Wrong };
        if verdict == Verdict::Wrong {
            tokio::time::sleep(longest.saturating_sub(took)).await;
        }
        Ok(verdict)
    }

    async fn compute<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
        let permit = if let Ok(permit) = self.0.computing.clone().try_acquire_owned() {
            permit
        } else {
            let _place = self.0.waiting.try_acquire().map_err(|_| Error::Busy)?;
            let turn = tokio::time::timeout(self.0.patience, self.0.computing.clone().acquire_owned()).await;
            turn.map_err(|_| Error::Busy)?.map_err(|_| Error::Failed)?
        };
        // The permit goes with the work: a client that hangs up does not make room before the thread is free.
        tokio::task::spawn_blocking(move || {
            let done = work();
            drop(permit);
            done
        })
        .await
        .map_err(|_| Error::Failed)
    }
}

impl Times {
    /// Adds a measurement and gives the mean of the slowest kind, an eighth added so that most waits reach it.
    fn add(&mut self, cost: u64, took: Duration) -> Duration {
        if let Some((_, mean)) = self.0.iter_mut().find(|(kind, _)| *kind == cost) {
            *mean = (*mean * 7 + took) / 8;
        } else if self.0.len() < KINDS {
            self.0.push((cost, took));
        }
        let slowest = self.0.iter().map(|(_, mean)| *mean).max().unwrap_or_default();
        slowest + slowest / 8
    }
}

fn make(params: &Params, password: &str) -> Result<String, Error> {
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
    argon2.hash_password(password.as_bytes()).map(|hash| hash.to_string()).map_err(|_| Error::Failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hasher(waiting: usize) -> Hasher {
        let limits = Limits { at_once: 1, waiting, patience: Duration::from_secs(5) };
        Hasher::with_params(limits, Params::new(64, 1, 1, None).unwrap())
    }

    #[tokio::test]
    async fn a_new_hash_is_argon2id_with_a_salt_of_its_own_and_right() {
        let hasher = Hasher::new(Limits::default());
        let (one, two) = (hasher.hash("pässword").await.unwrap(), hasher.hash("pässword").await.unwrap());
        assert!(one.starts_with("$argon2id$v=19$m=19456,t=2,p=1$") && one != two, "{one} {two}");
        assert_eq!(hasher.verify("pässword", &one).await.unwrap(), Verdict::Right);
        assert_eq!(hasher.verify("passwörd", &one).await.unwrap(), Verdict::Wrong);
        assert!(matches!(hasher.hash(&"x".repeat(LONGEST + 1)).await, Err(Error::TooLong)));
        assert_eq!(hasher.verify(&"x".repeat(LONGEST + 1), &one).await.unwrap(), Verdict::Wrong);
    }

    #[tokio::test]
    async fn nobody_has_a_password() {
        let hasher = hasher(1);
        for password in [String::new(), "x".repeat(LONGEST), "x".repeat(LONGEST + 1)] {
            assert_eq!(hasher.verify_nobody(&password).await.unwrap(), Verdict::Wrong);
            assert_eq!(hasher.verify(&password, "").await.unwrap(), Verdict::Wrong);
            assert!(matches!(hasher.verify(&password, "md5$a$b").await, Err(Error::Unsupported("MD5"))));
        }
    }

    #[tokio::test]
    async fn beyond_the_waiting_room_callers_are_sent_away() {
        let hasher = hasher(1);
        let (release, held) = std::sync::mpsc::channel::<()>();
        let busy = tokio::spawn({
            let hasher = hasher.clone();
            async move { hasher.compute(move || held.recv()).await }
        });
        while hasher.0.computing.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let second = tokio::spawn({
            let hasher = hasher.clone();
            async move { hasher.hash("x").await }
        });
        while hasher.0.waiting.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert!(matches!(hasher.hash("x").await, Err(Error::Busy)));
        release.send(()).unwrap();
        busy.await.unwrap().unwrap().unwrap();
        assert!(second.await.unwrap().is_ok());
        assert!(hasher.hash("x").await.is_ok());
    }

    #[tokio::test]
    async fn a_caller_that_gives_up_makes_no_room_before_its_thread_is_free() {
        let hasher = hasher(0);
        let (release, held) = std::sync::mpsc::channel::<()>();
        let busy = tokio::spawn({
            let hasher = hasher.clone();
            async move { hasher.compute(move || held.recv()).await }
        });
        while hasher.0.computing.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        busy.abort();
        let _ = busy.await;
        assert!(matches!(hasher.hash("x").await, Err(Error::Busy)));
        release.send(()).unwrap();
        while hasher.hash("x").await.is_err() {
            tokio::task::yield_now().await;
        }
    }

    #[test]
    fn the_slowest_kind_sets_the_time_of_a_wrong_password() {
        let mut times = Times::default();
        let ms = Duration::from_millis;
        assert_eq!(times.add(1, ms(80)), ms(90));
        assert_eq!(times.add(2, ms(800)), ms(900));
        assert_eq!(times.add(1, ms(80)), ms(900));
        for kind in 3..1_000 {
            times.add(kind, ms(1));
        }
        assert!(times.0.len() <= KINDS);
        assert_eq!(times.add(1, ms(80)), ms(900));
    }
}
