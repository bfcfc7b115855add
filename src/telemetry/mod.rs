//! Logs, the access log, metrics and health.
//!
//! Three promises hold throughout: nothing here makes a request wait for whoever reads the logs (what cannot be written
//! is dropped and counted; the one exception is tracing-journald, which waits for a journald that stands still), nothing
//! here grows without bound, and nothing that a client sends can forge a line.

mod access;
mod config;
mod error;
mod escape;
mod health;
mod line;
mod log;
mod metrics;
mod pretty;
mod process_metrics;
mod queue;
mod sink;
mod stderr;

pub use access::AccessLog;
pub use config::{Access, AccessFormat, Config, Format};
pub use error::Error;
pub use health::{Component, ComponentReport, Health, State};
pub use line::AccessLine;
pub use log::{init, set_level};
pub use metrics::{Listener, Metrics, MountMetrics};
