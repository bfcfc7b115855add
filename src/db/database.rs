//! The database as a whole: its two pools, and how it is prepared.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use include_dir::Dir;
use tokio::sync::watch;

use super::address::Address;
use super::connect::{Connector, Login};
use super::listen::Listener;
use super::migrate::{self, Migration, Progress, Set};
use super::{Config, Error, Pool, TlsMode, login};
use crate::secret::Secret;

/// The database. Clones share it.
#[derive(Clone)]
pub struct Database {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    database: String,
    owner: Pool,
    requests: Pool,
    listening: Arc<Connector>,
    migrations: Vec<Migration>,
    /// Roles that requests change to besides those of the contract.
    roles: Vec<String>,
    ready: watch::Sender<bool>,
    absence: Mutex<Option<Arc<str>>>,
}

impl Database {
    /// A database at `url`, without going there. `own` holds Beacon's migrations; `roles` are those that the
    /// configuration names and that requests change to.
    ///
    /// # Errors
    /// A URL that cannot be used, unreadable certificates, or a bad name among the migrations.
    pub fn new(config: &Config, url: &Secret, own: &Dir<'_>, roles: Vec<String>) -> Result<Self, Error> {
        let address = Address::parse(url, config)?;
        let database = address.database().to_owned();
        let connector = || -> Result<Connector, Error> {
            let login = if config.password_command.is_empty() {
                Login::Url
            } else {
                Login::Command { command: config.password_command.clone(), last: std::sync::Mutex::default() }
            };
            Connector::new(address.clone(), login, config)
        };
        let owner = Pool::new(connector()?, config.own_connections, config);
        let requests = if config.request_url.is_empty() {
            let login = Login::Made { owner: owner.clone(), last: std::sync::Mutex::default() };
            Connector::new(address.clone(), login, config)?
        } else {
            Connector::new(Address::parse(&config.request_url, config)?, Login::Url, config)?
        };
        let requests = Pool::new(requests, config.request_connections(), config);
        let mut migrations = Vec::new();
        for file in own.files() {
            let name = file.path().file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            let sql = file.contents_utf8().unwrap_or_default().to_owned();
            migrations.push(Migration { version: migrate::version(&name)?, name, sql });
        }
        let inner = Inner {
            config: config.clone(),
            database,
            owner,
            requests,
            listening: Arc::new(connector()?),
            migrations: migrate::in_order(migrations)?,
            roles,
            ready: watch::Sender::new(false),
            absence: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Connections of the login that owns Beacon's schemas.
    #[must_use]
    pub fn owner(&self) -> &Pool {
        &self.inner.owner
    }

    /// Connections of the login that clients' requests run with.
    #[must_use]
    pub fn requests(&self) -> &Pool {
        &self.inner.requests
    }

    /// The configuration it was made of.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// Which database it is, for messages.
    #[must_use]
    pub fn place(&self) -> &str {
        self.inner.owner.place()
    }

    /// The database's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.database
    }

    /// How the connection is protected; never `Auto`.
    #[must_use]
    pub fn protection(&self) -> TlsMode {
        self.inner.listening.protection()
    }

    /// Whether the way to it never leaves this host.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.inner.listening.is_local()
    }

    /// A connection of its own, as the owner, to another database of the same server.
    ///
    /// # Errors
    /// It cannot be opened.
    pub async fn elsewhere(&self, name: &str) -> Result<tokio_postgres::Client, Error> {
        self.inner.listening.elsewhere(name).await
    }

    /// What PostgreSQL's own programs need to come here as the owner: variables of their environment. One is the password.
    ///
    /// # Errors
    /// The password or the authorities cannot be had.
    pub async fn libpq(&self) -> Result<Vec<(&'static str, String)>, Error> {
        self.inner.listening.libpq().await
    }

    /// Hears notifications.
    #[must_use]
    pub fn listen(&self, channels: &[&str]) -> Listener {
        Listener::new(self.inner.listening.clone(), channels)
    }

    /// Prepares the database: Beacon's own migrations, the login of requests, and the application's migrations when
    /// the configuration says so. May be called by many Beacons at once, and again at any time.
    ///
    /// # Errors
    /// The database is away, or a migration fails.
    pub async fn prepare(&self) -> Result<(), Error> {
        let session = self.inner.owner.get().await?;
        migrate::lock(&session).await?;
        let result = async {
            migrate::refuse_foreign(&session).await?;
            migrate::prepare(&session).await?;
            migrate::up(&session, Set::Own, &self.inner.migrations).await?;
            login::look_into_public(&session).await?;
            if self.inner.config.request_url.is_empty() {
                login::ensure(&session, &self.inner.database, &self.inner.roles).await?;
            }
            if self.inner.config.migrate_on_start {
                let own = migrate::read_folder(&self.inner.config.migrations)?;
                migrate::up(&session, Set::Application, &own).await?;
            }
            Ok(())
        }
        .await;
        // A connection that is lost has lost its lock too.
        let unlocked = migrate::unlock(&session).await;
        result.and(unlocked)?;
        self.inner.ready.send_replace(true);
        Ok(())
    }

    /// Prepares the database for as long as it takes, and returns when it is ready. `report` hears why it is not.
    pub async fn prepare_until_ready(&self, mut report: impl FnMut(&Error)) {
        let mut pause = Duration::from_millis(100);
        while let Err(error) = self.prepare().await {
            report(&error);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(15));
        }
    }

    /// Tells why there is no database to ask, as known by whoever keeps its server; none when there is one.
    pub fn tell_absence(&self, reason: Option<Arc<str>>) {
        *self.inner.absence.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }

    /// Why there is no database to ask, if that was told. For people: it names no secret.
    #[must_use]
    pub fn absence(&self) -> Option<Arc<str>> {
        self.inner.absence.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until the database has been prepared.
    pub async fn ready(&self) {
        let mut ready = self.inner.ready.subscribe();
        // The sender lives as long as we do.
        let _ = ready.wait_for(|ready| *ready).await;
    }

    /// Whether the database has been prepared.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        *self.inner.ready.borrow()
    }

    /// Beacon's own migrations and the application's, with what the database has of them.
    ///
    /// # Errors
    /// The database is away, or the folder cannot be read.
    pub async fn progress(&self) -> Result<(Vec<Progress>, Vec<Progress>), Error> {
        let session = self.inner.owner.get().await?;
        let own = migrate::progress(&session, Set::Own, &self.inner.migrations).await?;
        let application = migrate::progress(&session, Set::Application, &self.application()?).await?;
        Ok((own, application))
    }

    /// Applies the application's migrations, and gives the names of those that were missing.
    ///
    /// # Errors
    /// As [`Database::prepare`].
    pub async fn migrate(&self) -> Result<Vec<String>, Error> {
        self.prepare().await?;
        let application = self.application()?;
        let session = self.inner.owner.get().await?;
        migrate::lock(&session).await?;
        let result = migrate::up(&session, Set::Application, &application).await;
        let unlocked = migrate::unlock(&session).await;
        let done = result?;
        unlocked?;
        session.batch_execute("notify beacon_schema").await?;
        Ok(done)
    }

    fn application(&self) -> Result<Vec<Migration>, Error> {
        let folder = &self.inner.config.migrations;
        if folder.as_os_str().is_empty() { Ok(Vec::new()) } else { migrate::read_folder(folder) }
    }

    /// Gives out no connection any more, and closes those that idle.
    pub fn close(&self) {
        self.inner.requests.close();
        self.inner.owner.close();
    }
}
