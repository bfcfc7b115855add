//! Background tasks on Redis, in Celery's own format: whoever sends tasks to a Celery worker can send them to Beacon, and
//! stock workers may stand beside it on the same queues.
//!
//! A producer (our API, SQL through the outbox, any Celery client) puts a message on a Redis list; a worker claims it in
//! one script, under a lease that it renews, so that a crash at any moment loses nothing; it looks the task up, runs it
//! under a time limit, stores the result and acknowledges. What a task does is a [`Runner`]'s to know: tasks in Rust,
//! and those of a Celery application in a child process.

pub mod broker;
pub mod canvas;
mod client;
mod config;
pub mod control;
mod desk;
mod error;
mod event;
pub mod events;
pub mod limits;
pub mod native;
pub mod outbox;
pub mod python;
pub mod results;
mod runner;
pub mod schedule;
#[cfg(test)]
pub(crate) mod server;
pub mod wire;
pub mod worker;

pub use client::{Client, Defaults, NewTask, Prepared, Sent, Unique, origin};
pub use config::{Config, Mode, Transport};
pub use desk::{Desk, Held, Pool};
pub use error::Error;
pub use event::{Event, Happening, Witness};
pub use runner::{Cancel, Exception, Finished, Job, Outcome, Recorded, Runner, Spec, Start, Stored};

/// The queue of tasks that are Beacon's own or of the configuration; those of a Celery application have their own.
pub const QUEUE: &str = "beacon";
