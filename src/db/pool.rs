//! Pools of connections, and one connection in use.
//!
//! A connection goes back to its pool only when nothing of its user can be left on it: one whose transaction was cut
//! short is closed, and what it ran is cancelled.

use std::collections::HashMap;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use deadpool::Runtime;
use deadpool::managed::{self, Metrics, PoolError, QueueMode, RecycleError, RecycleResult};
use tokio::task::AbortHandle;
use tokio_postgres::{Client, Statement, Transaction};

use super::connect::Connector;
use super::error::goes_away;
use super::{Config, Error};

/// Statements that a connection keeps prepared.
const STATEMENTS: usize = 256;

/// A pool of connections. Clones share it.
#[derive(Clone)]
pub struct Pool {
    inner: managed::Pool<Manager>,
    shared: Arc<Shared>,
}

/// What the connections of a pool have in common.
pub(super) struct Shared {
    pub(super) connector: Connector,
    pub(super) prepare: bool,
    pub(super) request_timeout: Duration,
    /// Settings that a transaction begins with, where a session cannot keep them.
    pub(super) each_time: Vec<(&'static str, String)>,
    acquire_timeout: Duration,
    max_lifetime: Duration,
    /// Raised when connections that were opened before are not to be used again.
    generation: AtomicU64,
    /// Raised when prepared statements may no longer fit the schema.
    schema: AtomicU64,
}

pub(super) struct Manager(Arc<Shared>);

/// A connection of the pool.
pub(super) struct Connected {
    client: Client,
    driver: AbortHandle,
    opened: Instant,
    generation: u64,
    statements: Mutex<Statements>,
}

#[derive(Default)]
struct Statements {
    schema: u64,
    clock: u64,
    known: HashMap<Box<str>, (Statement, u64)>,
}

impl managed::Manager for Manager {
    type Type = Connected;
    type Error = Error;

    // Of a named type, because opening a connection of one pool may read the password through another pool.
    #[expect(refining_impl_trait, reason = "nobody sees this implementation but the pool")]
    fn create(&self) -> Pin<Box<dyn Future<Output = Result<Connected, Error>> + Send + '_>> {
        Box::pin(async {
            let generation = self.0.generation.load(Ordering::Acquire);
            let (client, driver) = self.0.connector.connect().await?;
            Ok(Connected { client, driver, opened: Instant::now(), generation, statements: Mutex::default() })
        })
    }

    async fn recycle(&self, connected: &mut Connected, _: &Metrics) -> RecycleResult<Error> {
        let stale = connected.client.is_closed()
            || connected.opened.elapsed() > self.0.max_lifetime
            || connected.generation != self.0.generation.load(Ordering::Acquire);
        if stale { Err(RecycleError::message("the connection is closed or too old")) } else { Ok(()) }
    }
}

impl Pool {
    pub(super) fn new(connector: Connector, size: usize, config: &Config) -> Self {
        let each_time = if config.prepared_statements {
            Vec::new()
        } else {
            super::connect::timeouts(config).into_iter().collect()
        };
        let shared = Arc::new(Shared {
            connector,
            prepare: config.prepared_statements,
            request_timeout: config.request_timeout,
            each_time,
            acquire_timeout: config.acquire_timeout,
            max_lifetime: config.max_lifetime,
            generation: AtomicU64::new(0),
            schema: AtomicU64::new(0),
        });
        let inner = managed::Pool::builder(Manager(shared.clone()))
            .max_size(size)
            .wait_timeout(Some(config.acquire_timeout))
            // The connection that was used last is the one whose memory is warm, here and in the server.
            .queue_mode(QueueMode::Lifo)
            .runtime(Runtime::Tokio1)
            .build();
        // Building fails only without a runtime, which was named.
        #[expect(clippy::expect_used, reason = "a runtime is named in the line above")]
        let inner = inner.expect("a pool with a runtime");
        Self { inner, shared }
    }

    /// A connection, as soon as one is free.
    ///
    /// # Errors
    /// [`Error::Busy`] when none became free in time, or the reason why none can be opened.
    pub async fn get(&self) -> Result<Session, Error> {
        match self.inner.get().await {
            Ok(object) => Ok(Session { object: Some(object), shared: self.shared.clone(), open: false }),
            Err(PoolError::Timeout(_)) => Err(Error::Busy(self.shared.acquire_timeout)),
            Err(PoolError::Backend(error)) => Err(error),
            Err(PoolError::Closed | PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_)) => {
                Err(Error::Absent("the pool of connections is closed".into()))
            }
        }
    }

    /// How long a request's transaction may take.
    pub(super) fn request_timeout(&self) -> Duration {
        self.shared.request_timeout
    }

    /// Forgets prepared statements: the schema has changed, and their parameters' types may have too.
    pub fn schema_changed(&self) {
        self.shared.schema.fetch_add(1, Ordering::AcqRel);
    }

    /// Stops giving out connections, and closes those that idle.
    pub fn close(&self) {
        self.inner.close();
    }

    /// Connections that are open, and those of them that idle.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        let status = self.inner.status();
        (status.size, status.available)
    }

    /// Which database the pool leads to, for messages.
    #[must_use]
    pub fn place(&self) -> &str {
        self.shared.connector.place()
    }
}

/// A connection in use. It goes back to its pool when it is dropped.
pub struct Session {
    object: Option<managed::Object<Manager>>,
    pub(super) shared: Arc<Shared>,
    /// Whether a transaction may be open that nobody will end.
    pub(super) open: bool,
}

impl Session {
    /// The statement, prepared on this connection. The types of its parameters are PostgreSQL's choice.
    ///
    /// # Errors
    /// What PostgreSQL finds wrong with it.
    pub async fn prepared(&self, sql: &str) -> Result<Statement, Error> {
        if let Some(known) = self.known(sql) {
            return Ok(known);
        }
        let statement = self.prepare(sql).await?;
        let mut statements = self.statements();
        if statements.known.len() >= STATEMENTS
            && let Some(oldest) = statements.known.iter().min_by_key(|(_, (_, used))| *used).map(|(sql, _)| sql.clone())
        {
            statements.known.remove(&oldest);
        }
        let now = statements.clock;
        statements.known.insert(sql.into(), (statement.clone(), now));
        Ok(statement)
    }

    /// The statement, if it is prepared already.
    pub(super) fn known(&self, sql: &str) -> Option<Statement> {
        let mut statements = self.statements();
        let schema = self.shared.schema.load(Ordering::Acquire);
        if statements.schema != schema {
            statements.known.clear();
            statements.schema = schema;
        }
        statements.clock += 1;
        let now = statements.clock;
        statements.known.get_mut(sql).map(|(statement, used)| {
            *used = now;
            statement.clone()
        })
    }

    /// Forgets a statement that no longer fits.
    pub(super) fn forget(&self, sql: &str) {
        self.statements().known.remove(sql);
    }

    /// A transaction, which is rolled back when it is dropped without a commit.
    ///
    /// # Errors
    /// The connection is lost.
    pub async fn begin(&mut self) -> Result<Transaction<'_>, Error> {
        match &mut self.object {
            Some(object) => Ok(object.client.transaction().await?),
            None => Err(Error::Absent("the connection was given back".into())),
        }
    }

    /// Whether an error means that this and all older connections lead to a server that is going away.
    pub(super) fn note(&self, error: &tokio_postgres::Error) {
        let Some(code) = error.code() else { return };
        if goes_away(code) {
            self.renew();
        }
    }

    /// Lets no connection that was opened until now be used again.
    pub(super) fn renew(&self) {
        if let Some(object) = &self.object {
            let current = self.shared.generation.load(Ordering::Acquire);
            if object.generation == current {
                let _ =
                    self.shared.generation.compare_exchange(current, current + 1, Ordering::AcqRel, Ordering::Acquire);
            }
        }
    }

    fn statements(&self) -> std::sync::MutexGuard<'_, Statements> {
        self.connected().statements.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[expect(clippy::expect_used, reason = "the object leaves in drop alone")]
    fn connected(&self) -> &Connected {
        self.object.as_ref().expect("a session has its connection until it is dropped")
    }
}

impl Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.connected().client
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.open
            && let Some(object) = self.object.take()
        {
            let connected = managed::Object::take(object);
            let (token, shared) = (connected.client.cancel_token(), self.shared.clone());
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(async move {
                    shared.connector.cancel(token).await;
                    // The driver would wait for the statement's end, which may not care about being cancelled; without
                    // the connection the server ends it.
                    connected.driver.abort();
                });
            }
        }
    }
}
