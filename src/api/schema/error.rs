//! What can go wrong while the catalogue is read.

/// Why the catalogue could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A query failed.
    #[error("cannot read {what} from the database's catalogue")]
    Query {
        /// What was read.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The database cannot be reached, or has no connection free.
    #[error("the schema cannot be read")]
    Database(#[from] crate::db::Error),
}
