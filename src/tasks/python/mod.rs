//! A Celery application, unmodified: its task bodies run in child processes of its own interpreter, by Celery's own tracer;
//! queueing, leases, results, schedules, events and control are ours.

mod config;

pub use config::Config;
