//! Logs, the access log, metrics and health.

mod config;

pub use config::{Access, AccessFormat, Config, Format};
