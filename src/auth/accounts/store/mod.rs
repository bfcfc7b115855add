//! The SQL of accounts; no other file of theirs has any.
//!
//! Statements go out with the types of their parameters (`query_typed`), which takes one round trip and leaves nothing
//! behind on the connection. Values of the schema's own types pass as text. A flow that reads a user to change it locks
//! the row first, so that [`users::save`] can write the row whole.

pub mod audit;
pub mod factors;
pub mod flows;
pub mod identities;
pub mod sessions;
pub mod tokens;
pub mod users;

use tokio_postgres::GenericClient;

/// A connection, in a transaction or not.
pub trait Db: GenericClient + Sync {}
impl<T: GenericClient + Sync> Db for T {}

/// What the database says.
pub type Result<T> = std::result::Result<T, tokio_postgres::Error>;
