//! What can go wrong between Beacon and its database.

use std::path::PathBuf;
use std::time::Duration;

use tokio_postgres::error::{DbError, SqlState};

/// An error of the database or of the way to it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL is not usable; never quotes it.
    #[error("{0}")]
    Url(String),
    /// All connections were taken for as long as a request waits.
    #[error("no connection to the database became free within {}", humantime::format_duration(*.0))]
    Busy(Duration),
    /// There is no way to the database.
    #[error("the database {place} does not answer")]
    Unreachable {
        /// Which.
        place: String,
        /// Why.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The server did not answer in time.
    #[error("the database did not answer within {}", humantime::format_duration(*.0))]
    Timeout(Duration),
    /// No database is there yet: the reason is for people.
    #[error("{0}")]
    Absent(String),
    /// The certificates cannot be read or used.
    #[error("{path}: the database's certificate authorities cannot be used: {why}")]
    Authorities {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The command that prints the password failed.
    #[error("database.password_command: {0}")]
    Password(String),
    /// PostgreSQL refused a statement, or the connection broke while it ran.
    #[error("a statement failed")]
    Query(#[from] tokio_postgres::Error),
    /// A statement of ours returned something else than it was written for.
    #[error("a statement returned {0} rows where one was expected")]
    Rows(usize),
    /// A migration failed; nothing of it is left behind unless it ran outside of a transaction.
    #[error("migration {name} failed")]
    Migration {
        /// The file.
        name: String,
        /// Why.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The migrations and the database do not fit.
    #[error("{0}")]
    History(String),
    /// A folder or file of migrations cannot be read.
    #[error("{path} cannot be read")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    /// What PostgreSQL itself says of the error, if it said something.
    #[must_use]
    pub fn database(&self) -> Option<&DbError> {
        match self {
            Self::Query(error) | Self::Unreachable { source: error, .. } | Self::Migration { source: error, .. } => {
                error.as_db_error()
            }
            _ => None,
        }
    }

    /// PostgreSQL's code (SQLSTATE) of the error.
    #[must_use]
    pub fn sqlstate(&self) -> Option<&str> {
        self.database().map(|error| error.code().code())
    }

    /// Whether the database is not there, or not now: the same request may succeed later.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Absent(_) | Self::Password(_) | Self::Authorities { .. } => true,
            Self::Query(error) => match error.code() {
                Some(code) => goes_away(code),
                None => error.is_closed() || is_io(error),
            },
            _ => false,
        }
    }
}

/// Whether the server that says this is going away, or is no longer the one to ask.
pub(super) fn goes_away(code: &SqlState) -> bool {
    let text = code.code();
    text.starts_with("08")
        || [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN, SqlState::CANNOT_CONNECT_NOW].contains(code)
}

fn is_io(error: &tokio_postgres::Error) -> bool {
    use std::error::Error as _;
    error.source().is_some_and(<dyn std::error::Error + 'static>::is::<std::io::Error>)
}
