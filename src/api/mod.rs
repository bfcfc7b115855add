//! The native API over PostgreSQL: rows and functions at /rest/v1, in the dialect of PostgREST.
//!
//! A request is read into a query, the query and the catalogue make one SQL statement, and the statement makes the
//! response's body. It runs in a transaction of its own as the caller's role.

mod address;
mod call;
mod config;
mod csv;
mod database_error;
mod error;
mod execute;
mod exposure;
mod force;
mod handler;
mod negotiate;
pub mod openapi;
mod payload;
mod plan;
mod query;
mod read;
pub mod reference;
mod request;
mod respond;
mod root;
mod schema;
mod settings;
mod shape;
mod timing;
mod write;

pub use config::{Config, OpenApiMode, TxEnd};
pub use error::Error;
pub use handler::Api;
pub use schema::{Cache, Figures, Options, Snapshot};
