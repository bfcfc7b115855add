//! What remote control, the API and the command line may ask of a worker, and tell it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::runner::Spec;
use super::wire::Envelope;

/// A task that a worker has.
#[derive(Clone, Debug)]
pub struct Held {
    /// Its message.
    pub envelope: Arc<Envelope>,
    /// The queue that it came from.
    pub queue: Arc<str>,
    /// When its body began, in seconds since 1970; `None` if it waits.
    pub started: Option<f64>,
    /// The process that runs it, if it is another one.
    pub pid: Option<u32>,
    /// Whether it counts as acknowledged for Celery's eyes (it began, and is not acks_late).
    pub acknowledged: bool,
    /// When it is due, in seconds since 1970, if it waits for its time.
    pub eta: Option<f64>,
}

/// What becomes of the places.
#[derive(Clone, Debug, Default)]
pub struct Pool {
    /// Places for tasks at once.
    pub places: usize,
    /// Processes that run bodies.
    pub pids: Vec<u32>,
    /// Processes are replaced after so many tasks; 0 is never.
    pub max_tasks: u32,
    /// Hard and soft limit of all tasks, in seconds.
    pub timeouts: (Option<f64>, Option<f64>),
}

/// A worker.
pub trait Desk: Send + Sync + 'static {
    /// Its node name.
    fn node(&self) -> Arc<str>;
    /// When it started, in seconds since 1970.
    fn since(&self) -> f64;
    /// Tasks whose body runs.
    fn active(&self) -> Vec<Held>;
    /// Tasks that it has, and whose body does not run.
    fn reserved(&self) -> Vec<Held>;
    /// Tasks that wait for their time: those that this worker put aside, the next ones first, so many at most.
    fn scheduled(&self, most: usize) -> BoxFuture<'_, Vec<Held>>;
    /// How many runs each task's type has had here.
    fn totals(&self) -> BTreeMap<Arc<str>, u64>;
    /// What it can run.
    fn specs(&self) -> Vec<Arc<Spec>>;
    /// The queues that it works on, in their order.
    fn queues(&self) -> Vec<Arc<str>>;
    /// Works on one more.
    fn add_queue(&self, queue: &str);
    /// No longer works on it; false if it did not.
    fn remove_queue(&self, queue: &str) -> bool;
    /// Its places.
    fn pool(&self) -> Pool;
    /// Changes their number.
    fn resize(&self, by: isize);
    /// Sets or ends a rate limit, in runs a second; false if the task is unknown.
    fn set_rate(&self, task: &str, rate: Option<f64>) -> bool;
    /// Sets the limits of a task's runs from now on; false if the task is unknown.
    fn set_time_limits(&self, task: &str, soft: Option<Duration>, hard: Option<Duration>) -> bool;
    /// Forgets these tasks wherever they wait, here and in every later worker; those that run are ended by the signal,
    /// if there is one. Gives those that ran.
    fn revoke(&self, ids: Vec<String>, signal: Option<i32>) -> BoxFuture<'_, Vec<String>>;
    /// The same for all tasks with one of these stamps: name and values.
    fn revoke_stamped(&self, stamps: Vec<(String, Vec<String>)>, signal: Option<i32>) -> BoxFuture<'_, Vec<String>>;
    /// What has been revoked and not been forgotten yet.
    fn revoked(&self) -> BoxFuture<'_, Vec<String>>;
    /// Begins the stop, as SIGTERM does.
    fn shut_down(&self);
}
