//! `beacon worker`: tasks without the edge.

use std::path::PathBuf;
use std::time::Duration;

use super::Error;
use crate::config::Loaded;
use crate::secret::Secret;

/// What the command line says, over the configuration and a Celery application's settings.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The Celery application.
    pub application: Option<String>,
    /// The broker's URL.
    pub broker: Option<Secret>,
    /// The results' URL.
    pub results: Option<Secret>,
    /// The folder to work in.
    pub folder: Option<PathBuf>,
    /// The module with the application's settings.
    pub settings: Option<String>,
    /// The node name.
    pub name: Option<String>,
    /// Tasks at once.
    pub concurrency: Option<usize>,
    /// Queues; none leaves it to the configuration and the application.
    pub queues: Vec<String>,
    /// Queues that are left out.
    pub exclude: Vec<String>,
    /// Modules to import besides.
    pub include: Vec<String>,
    /// A file for the log.
    pub log: Option<PathBuf>,
    /// A file for the process's number.
    pub pid: Option<PathBuf>,
    /// Publishes events about tasks.
    pub events: bool,
    /// Publishes the worker's own.
    pub heartbeat: bool,
    /// Hard limit of all tasks.
    pub time_limit: Option<Duration>,
    /// Soft limit of all tasks.
    pub soft_time_limit: Option<Duration>,
    /// Tasks until a process is replaced.
    pub max_tasks: Option<u32>,
    /// Bytes of memory until a process is replaced.
    pub max_memory: Option<u64>,
    /// Empties the queues first.
    pub purge: bool,
    /// Sends scheduled tasks.
    pub schedules: bool,
    /// Where /metrics is served.
    pub operations: Option<String>,
    /// It is beacon-worker.service: there may be nothing to do.
    pub unit: bool,
}

/// Runs tasks until it is asked to stop.
///
/// # Errors
/// What cannot be built or started.
pub fn run(_loaded: Loaded, _options: Options) -> Result<(), Error> {
    Ok(())
}
