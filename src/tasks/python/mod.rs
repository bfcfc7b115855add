//! A Celery application, unmodified: its task bodies run in child processes of its own interpreter, by Celery's own tracer;
//! queueing, leases, results, schedules, events and control are ours.
//!
//! The processes run assets/python/beacon_worker, which they get over their standard input: nothing is installed in the
//! application's environment. One of them, the clerk, knows the application and runs no bodies.

mod application;
mod body;
mod clerk;
mod config;
mod error;
mod exported;
mod frame;
mod launch;
mod line;
mod link;
mod pool;
#[cfg(test)]
mod tests;

pub use application::Application;
pub use config::{Config, RunsIn};
pub use error::Error;
pub use exported::{Broker, Exported, Queue, Results, Schedule, Task, Timing};
pub use launch::Options;
