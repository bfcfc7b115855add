//! The catalogue in force, and the task that keeps it so.
//!
//! It is read again when somebody says so (`NOTIFY pgrst, 'reload schema'` or `NOTIFY beacon_schema`), and when a look at
//! a fingerprint every few seconds finds the schema changed. A request works with the catalogue that it began with. When
//! a reading fails, the catalogue before it stays in force and the reading is tried again.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, sleep_until, timeout};

use super::catalog::Catalog;
use super::error::Error;
use super::figures::Figures;
use super::fingerprint::{fingerprint, written};
use super::load::{Scope, load};
use super::overrides::Overrides;
use super::service_role;
use crate::db::{Database, Notice};
use crate::error::chain;
use crate::telemetry::Component;

/// The channels that are listened to: upstream's and ours.
const CHANNELS: [&str; 2] = ["pgrst", "beacon_schema"];

/// How long changes are gathered before they are read: migrations come in bursts.
const CALM: Duration = Duration::from_millis(100);

/// The pauses between failed readings.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The longest that a reading or a look may take before it counts as failed.
const LONGEST_READING: Duration = Duration::from_mins(1);

/// A fingerprint is taken at every look if that takes less than this part of the time between looks. In large schemas
/// it is taken when the catalogue's statistics have moved, and at every twelfth look in case they are switched off.
const CHEAP: u32 = 100;
const SELDOM: u32 = 12;

/// What the cache reads.
#[derive(Clone, Debug)]
pub struct Options {
    /// Schemas that are exposed, unless the database says otherwise.
    pub schemas: Vec<String>,
    /// Schemas where computed fields are found besides, unless the database says otherwise.
    pub extra_search_path: Vec<String>,
    /// Time between looks for a change; zero: never.
    pub poll: Duration,
}

/// A catalogue, and what the database says of its use.
#[derive(Debug)]
pub struct Snapshot {
    /// What the database has.
    pub catalog: Arc<Catalog>,
    /// Configuration from the database.
    pub overrides: Arc<Overrides>,
    /// The schemas that are exposed, the first one is the default.
    pub schemas: Vec<String>,
    /// Counts the catalogues from 1, so that what was derived from one can be told from another's.
    pub number: u64,
    /// How long the reading took.
    pub took: Duration,
}

/// The schema cache. Clones share it.
#[derive(Clone)]
pub struct Cache {
    inner: Arc<Inner>,
}

struct Inner {
    database: Database,
    options: Options,
    health: Component,
    figures: Figures,
    current: ArcSwapOption<Snapshot>,
    wanted: Notify,
    number: watch::Sender<u64>,
    /// The role that requests log in with, once it is known.
    login: Mutex<Option<String>>,
}

/// What the task remembers between looks.
#[derive(Default)]
struct Seen {
    fingerprint: String,
    written: i64,
    cost: Duration,
    looks: u32,
}

impl Cache {
    /// A cache that is empty until [`Cache::run`] has read the schema. `health` hears how it goes.
    #[must_use]
    pub fn new(database: Database, options: Options, health: Component) -> Self {
        Self::counted(database, options, health, Figures::default())
    }

    /// The same, with figures that somebody reads.
    #[must_use]
    pub fn counted(database: Database, options: Options, health: Component, figures: Figures) -> Self {
        let inner = Inner {
            database,
            options,
            health,
            figures,
            current: ArcSwapOption::empty(),
            wanted: Notify::new(),
            number: watch::Sender::new(0),
            login: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The catalogue in force; nothing before the first one has been read.
    #[must_use]
    pub fn current(&self) -> Option<Arc<Catalog>> {
        self.inner.current.load().as_ref().map(|snapshot| snapshot.catalog.clone())
    }

    /// The catalogue in force with all that belongs to it.
    #[must_use]
    pub fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.inner.current.load_full()
    }

    /// Has the schema read again soon.
    pub fn reload(&self) {
        self.inner.wanted.notify_one();
    }

    /// Waits for a catalogue with a higher number than `number`, and gives it.
    pub async fn after(&self, number: u64) -> Arc<Snapshot> {
        let mut numbers = self.inner.number.subscribe();
        loop {
            // The sender lives as long as we do.
            let _ = numbers.wait_for(|current| *current > number).await;
            if let Some(snapshot) = self.snapshot()
                && snapshot.number > number
            {
                return snapshot;
            }
        }
    }

    /// Keeps the catalogue in force, for ever. Starts when the database has been prepared.
    pub async fn run(self) {
        self.inner.database.ready().await;
        let mut listener = self.inner.database.listen(&CHANNELS);
        let mut seen = Seen::default();
        let mut due = true;
        let mut pause = FIRST_PAUSE;
        loop {
            if due {
                due = !self.try_read(&mut seen).await;
                if due {
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    continue;
                }
                pause = FIRST_PAUSE;
            }
            let look = async {
                match self.inner.options.poll {
                    Duration::ZERO => std::future::pending().await,
                    poll => sleep(poll).await,
                }
            };
            tokio::select! {
                notice = listener.next() => match notice {
                    Notice::Notification { channel, payload } => due = asks_for_reading(&channel, &payload),
                    // What was said while nobody listened is lost.
                    Notice::Connected => due = self.look(&mut seen, true).await,
                },
                () = self.inner.wanted.notified() => due = true,
                () = look => due = self.look(&mut seen, false).await,
            }
            if due {
                let calm = tokio::time::Instant::now() + CALM;
                while let Ok(notice) = tokio::select! {
                    notice = listener.next() => Ok(notice),
                    () = sleep_until(calm) => Err(()),
                } {
                    tracing::debug!(?notice, "the schema is about to be read anyway");
                }
            }
        }
    }

    /// Reads the schema; says whether it could.
    async fn try_read(&self, seen: &mut Seen) -> bool {
        let read = timeout(LONGEST_READING, self.read(seen)).await;
        let reason = match &read {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => chain(error).to_string(),
            Err(_) => "reading the schema takes too long".to_owned(),
        };
        self.inner.figures.failed();
        if self.inner.current.load().is_some() {
            tracing::warn!(error = reason, "the schema cannot be read again; what was read before stays in force");
            self.inner.health.degraded(format!("the schema in force is old: {reason}"));
        } else {
            tracing::warn!(error = reason, "the schema cannot be read yet");
            self.inner.health.failed(reason);
        }
        false
    }

    async fn read(&self, seen: &mut Seen) -> Result<(), Error> {
        let inner = &self.inner;
        let started = Instant::now();
        let login = self.login().await?;
        let login = login.as_deref();
        let last = inner.current.load_full();
        let mut session = inner.database.owner().get().await?;
        let transaction = session.begin().await?;
        let overrides = Overrides::read(transaction.client(), login).await?;
        let schemas = overrides.schemas.clone().unwrap_or_else(|| inner.options.schemas.clone());
        let extra_search_path =
            overrides.extra_search_path.clone().unwrap_or_else(|| inner.options.extra_search_path.clone());
        let scope = Scope { schemas: &schemas, extra_search_path: &extra_search_path, login };
        drop(transaction);

        let transaction = session.begin().await?;
        let catalog = load(&transaction, &scope, last.as_ref().map(|last| &*last.catalog)).await?;
        let before = Instant::now();
        seen.fingerprint = fingerprint(transaction.client()).await?;
        seen.cost = before.elapsed();
        seen.written = written(transaction.client()).await?;
        transaction.commit().await.map_err(crate::db::Error::from)?;
        drop(session);

        let (number, took) = (last.map_or(1, |last| last.number + 1), started.elapsed());
        inner.figures.read(&catalog, took);
        tracing::info!(
            number,
            relations = catalog.relations.len(),
            functions = catalog.functions.len(),
            milliseconds = took.as_millis() as u64,
            "the schema has been read"
        );
        for fault in &overrides.faults {
            tracing::warn!(setting = fault, "a setting in the database changes nothing");
        }
        let catalog = Arc::new(catalog);
        let snapshot = Snapshot { catalog: catalog.clone(), overrides: Arc::new(overrides), schemas, number, took };
        inner.database.requests().schema_changed();
        inner.database.owner().schema_changed();
        let snapshot = Arc::new(snapshot);
        inner.current.store(Some(snapshot.clone()));
        inner.health.ok();
        inner.number.send_replace(number);
        if inner.database.config().service_role_policies {
            // The catalogue is good even if this fails; the next reading tries again.
            if let Err(error) = service_role::ensure(inner.database.owner(), &catalog, &snapshot.schemas).await {
                tracing::warn!(error = %chain(&error), "policies for service_role cannot be looked after");
            }
        }
        Ok(())
    }

    /// Whether the schema has changed since it was read. A look that fails says no: a database that is away has not
    /// changed, and what must not be missed comes with the listener's next connection.
    async fn look(&self, seen: &mut Seen, must: bool) -> bool {
        match timeout(LONGEST_READING, self.changed(seen, must)).await {
            Ok(Ok(changed)) => changed,
            Ok(Err(error)) => {
                tracing::debug!(error = %chain(&error), "the schema cannot be looked at");
                must
            }
            Err(_) => must,
        }
    }

    async fn changed(&self, seen: &mut Seen, must: bool) -> Result<bool, Error> {
        let session = self.inner.database.owner().get().await?;
        seen.looks += 1;
        let cheap = seen.cost * CHEAP < self.inner.options.poll;
        if !must && !cheap && !seen.looks.is_multiple_of(SELDOM) {
            let written = written(&session).await?;
            if written == seen.written {
                return Ok(false);
            }
            seen.written = written;
        }
        let started = Instant::now();
        let now = fingerprint(&session).await?;
        seen.cost = started.elapsed();
        Ok(now != seen.fingerprint)
    }

    /// The role that requests log in with.
    async fn login(&self) -> Result<Option<String>, Error> {
        let known = self.inner.login.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if known.is_some() {
            return Ok(known);
        }
        let session = self.inner.database.requests().get().await?;
        let rows = super::read::rows(&session, "the login of requests", "select session_user::text", &[]).await?;
        let login = super::read::decoded(&rows, "the login of requests", |row| row.try_get(0))?.pop();
        self.inner.login.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&login);
        Ok(login)
    }
}

/// Whether a notification asks for the schema or its settings to be read again.
fn asks_for_reading(channel: &str, payload: &str) -> bool {
    if channel != "pgrst" || matches!(payload, "" | "reload schema" | "reload config") {
        return true;
    }
    tracing::warn!(channel, payload, "a notification asks for something that is not known");
    false
}
