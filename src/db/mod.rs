//! PostgreSQL: pools of connections, clients' transactions in one round trip, notifications, and migrations.
//!
//! There are two logins. The owner has Beacon's schemas and does Beacon's own work; clients' requests run with another
//! one that owns nothing and changes to a role for each transaction.

mod address;
mod config;
mod connect;
mod database;
mod error;
mod libpq;
mod listen;
mod login;
mod migrate;
mod pool;
mod tls;
mod transact;

pub use config::{Config, TlsMode};
pub use database::Database;
pub use error::Error;
pub use listen::{Listener, Notice};
pub use migrate::{Migration, Progress, read_folder};
pub use pool::{Pool, Session};
pub use tls::RDS_BUNDLE;
pub use transact::{Isolation, Parameter, Transaction};
