//! What commands that work on the database have in common.

use tokio::runtime::Runtime;

use super::{Failure, migrate};
use crate::app;
use crate::config::{Sources, load};
use crate::db::{Database, Error};

/// The database of the configuration, and what runs the work on it.
pub(super) fn open(sources: &Sources) -> Result<(Database, Runtime), Failure> {
    let loaded = load(sources)?;
    let database = app::database(&loaded.config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok((database, runtime))
}

/// What to tell of an error of the database.
pub(super) fn failed(database: &Database, error: &Error) -> Failure {
    match error.sqlstate() {
        // Undefined table, invalid schema.
        Some("42P01" | "3F000") => Failure::Other(format!(
            "database {}: Beacon's tables are not there yet: run `beacon migrate up`, or start `beacon serve` once.",
            database.place()
        )),
        _ => migrate::failed(database, error),
    }
}
