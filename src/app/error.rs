//! What can go wrong in building and running the whole.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::exit;
use crate::lifecycle::Ended;
use crate::{auth, config, db, docs, jobs, mail, net, redis, site, tasks, telemetry, tls};

/// Why Beacon cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no folder to keep state in.
    #[error(
        "there is no folder to keep state in: STATE_DIRECTORY, server.state_dir, XDG_STATE_HOME and HOME are not set"
    )]
    NoState,
    /// The state folder cannot be used.
    #[error("cannot use the state folder {}", .path.display())]
    State {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The configuration cannot be loaded again.
    #[error("cannot load the configuration")]
    Config(#[source] config::Error),
    /// Certificates cannot be used.
    #[error("TLS cannot be set up")]
    Tls(#[source] tls::Error),
    /// A listening socket cannot be used.
    #[error("{source}. {}", .source.fix())]
    Net {
        /// Why.
        source: net::Error,
    },
    /// The auth wall cannot be built.
    #[error("wall: the auth wall cannot be set up")]
    Wall(#[source] auth::Error),
    /// A mount's folder cannot be served.
    #[error("mounts.{mount}.site: the folder cannot be served")]
    Site {
        /// The mount.
        mount: String,
        /// Why.
        source: site::Error,
    },
    /// A mount's documentation cannot be served.
    #[error("mounts.{mount}.docs: the documentation cannot be served")]
    Docs {
        /// The mount.
        mount: String,
        /// Why.
        source: docs::Error,
    },
    /// Two mounts stand at the same place.
    #[error("mounts.{second} and mounts.{first} have the same host and path. Change one of them")]
    Conflict {
        /// The one that was there.
        first: Arc<str>,
        /// The one that came later.
        second: String,
    },
    /// The database cannot be used.
    #[error("database: the database cannot be used")]
    Database(#[source] db::Error),
    /// A key for tokens cannot be used.
    #[error("auth: a key cannot be used")]
    Keys(#[source] auth::jwt::KeyError),
    /// Redis cannot be used.
    #[error("redis: Redis cannot be used")]
    Redis(#[source] redis::Error),
    /// A Celery application cannot be loaded.
    #[error("tasks.python: the Celery application cannot be loaded")]
    Application(#[source] tasks::python::Error),
    /// A handler cannot be made.
    #[error("handlers: a task cannot be made")]
    Handlers(#[source] jobs::Error),
    /// A file that the command line names cannot be used.
    #[error("{} cannot be used", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An address for /metrics that is none.
    #[error("--operations: {problem}")]
    Operations {
        /// Why.
        problem: String,
    },
    /// Mail cannot be sent.
    #[error("mail: mail cannot be sent with these settings")]
    Mail(#[source] mail::Error),
    /// Identity providers and hooks cannot be asked.
    #[error("auth: TLS to identity providers and hooks cannot be set up")]
    Outbound(#[source] rustls::Error),
    /// There is no database.
    #[error("no database is configured: set DATABASE_URL or database.url")]
    NoDatabase,
    /// There is a private database, and nobody keeps it running.
    #[error(
        "no database is configured (DATABASE_URL), and the private one does not run: start Beacon (`beacon serve`, or \
         `systemctl start beacon-managed`), and try again"
    )]
    Asleep,
    /// There is no Redis for tasks.
    #[error("no Redis is configured for tasks: set REDIS_URL, redis.url or tasks.broker_url")]
    NoRedis,
    /// There is a private Redis, and nobody keeps it running.
    #[error(
        "no Redis is configured (REDIS_URL), and the private one does not run: start Beacon (`beacon serve`, or \
         `systemctl start beacon-managed`), and try again"
    )]
    NoPrivateRedis,
    /// Tasks cannot be reached.
    #[error("tasks: Redis cannot be used")]
    Tasks(#[source] tasks::Error),
    /// Logs cannot be written.
    #[error("log: the logs cannot be set up")]
    Log(#[source] telemetry::Error),
    /// The runtime cannot be started.
    #[error("cannot start")]
    Runtime(#[source] io::Error),
    /// A task without which nothing goes on has ended.
    #[error("Beacon stops because {0}")]
    Critical(#[source] Ended),
}

impl Error {
    /// The exit code of a process that ends with this.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Runtime(_) | Self::Critical(_) => exit::FAILURE,
            Self::Net { source: net::Error::Bind { .. } } | Self::Asleep | Self::NoPrivateRedis => exit::UNAVAILABLE,
            Self::Tasks(source) if source.is_unavailable() => exit::UNAVAILABLE,
            _ => exit::CONFIG,
        }
    }
}
