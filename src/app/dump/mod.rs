//! The data of the servers, the database's and the private Redis's, on their way into an archive and back.
//!
//! The database goes as PostgreSQL's own dump in one snapshot, streamed, so that neither memory nor disk is taken for it. It
//! comes back into a new database beside the one that is there, which is renamed away when everything else is done: a
//! restore that fails leaves what was there untouched.

mod about;
mod incoming;
mod outgoing;
mod servers;

pub use about::{About, Role};
pub use incoming::{Incoming, Restored, Terms};
pub use outgoing::{Outgoing, Part};

use crate::db;
use crate::error::chain;
use crate::process::Fault;

/// Why data cannot be taken or given.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A server that has or gets the data does not answer, or is not installed.
    #[error("{0}")]
    Unavailable(String),
    /// It must not, or cannot, be done as things are.
    #[error("{0}")]
    Refused(String),
    /// It went wrong.
    #[error("{0}")]
    Failed(String),
}

impl From<Fault> for Error {
    fn from(Fault(text): Fault) -> Self {
        Self::Unavailable(text)
    }
}

impl From<db::Error> for Error {
    fn from(error: db::Error) -> Self {
        let text = format!("the database: {}", chain(&error));
        if error.is_unavailable() { Self::Unavailable(text) } else { Self::Failed(text) }
    }
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        db::Error::Query(error).into()
    }
}

impl From<super::Error> for Error {
    fn from(error: super::Error) -> Self {
        Self::Unavailable(chain(&error).to_string())
    }
}

/// A name as SQL writes it.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as SQL writes it, whatever standard_conforming_strings says.
fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}
