//! What commands that work on the database have in common.

use std::fmt::Write as _;

use tokio::runtime::Runtime;

use super::Failure;
use crate::app;
use crate::config::{Sources, load};
use crate::db::{Database, Error};
use crate::error::chain;

/// The database of the configuration, and what runs the work on it.
pub(super) fn open(sources: &Sources) -> Result<(Database, Runtime), Failure> {
    let loaded = load(sources)?;
    let database = app::database(&loaded.config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok((database, runtime))
}

/// What to tell of an error of the database.
pub(super) fn failed(database: &Database, error: &Error) -> Failure {
    // Undefined table, invalid schema; a migration that says so means its own.
    if matches!(error, Error::Query(_)) && matches!(error.sqlstate(), Some("42P01" | "3F000")) {
        return Failure::Other(format!(
            "database {}: Beacon's tables are not there yet: run `beacon migrate up`, or start `beacon serve` once.",
            database.place()
        ));
    }
    let mut text = chain(error).to_string();
    if let Some(said) = error.database() {
        let hint = said.hint().map(|hint| format!(" Hint: {hint}")).unwrap_or_default();
        let _ = write!(text, " ({}){hint}", said.code().code());
    }
    match error {
        _ if error.is_unavailable() || matches!(error, Error::Timeout(_) | Error::Busy(_)) => {
            Failure::Unavailable(text)
        }
        Error::History(_) | Error::File { .. } => Failure::Refused(text),
        _ => Failure::Other(format!("database {}: {text}", database.place())),
    }
}
