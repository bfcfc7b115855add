//! What runs tasks, as the worker sees it: what it knows of a task before it runs, what it hands over, and what it gets.
//!
//! The worker owns queues, leases, time of arrival, expiry, revocations, rate limits, acknowledgements, the writing of
//! results, and events. A runner owns the body, its time limits, and what follows from the body: callbacks, chains,
//! chords and new messages of a retry are published before [`Runner::run`] returns, so that a client that sees the
//! result also finds the children.

use std::sync::Arc;
use std::sync::atomic::AtomicI32;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::limits::Shared;
use super::wire::Envelope;
use super::wire::repr;

/// What is known of a task's type.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// Its name, as in "myapp.tasks.add".
    pub name: Arc<str>,
    /// When it is ended by force.
    pub time_limit: Option<Duration>,
    /// When it is asked to end.
    pub soft_time_limit: Option<Duration>,
    /// Runs a second that this worker may begin (Celery's rate_limit).
    pub rate: Option<f64>,
    /// How many may run at once on this worker; `None` is no limit of its own.
    pub concurrency: Option<usize>,
    /// How many may run at once and begin in a time over all workers, by key.
    pub shared: Option<Arc<Shared>>,
    /// No result is stored for a success.
    pub ignore_result: bool,
    /// Failures are stored all the same.
    pub store_errors_even_if_ignored: bool,
    /// The state STARTED is stored.
    pub track_started: bool,
    /// Events are sent about it.
    pub send_events: bool,
    /// Celery's acks_late: shown in the request's "acknowledged", and decides what follows a lost child.
    pub acks_late: bool,
    /// After a failure: acknowledged (true) or rejected without requeue.
    pub acks_on_failure: bool,
    /// After a hard time limit: acknowledged (true) or requeued.
    pub acks_on_timeout: bool,
    /// After a lost child: requeued, within the limit of attempts.
    pub reject_on_worker_lost: bool,
    /// Runs concurrently with others in one place (async def, native).
    pub concurrent: bool,
}

impl Spec {
    /// A task with the defaults of Celery.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            time_limit: None,
            soft_time_limit: None,
            rate: None,
            concurrency: None,
            shared: None,
            ignore_result: false,
            store_errors_even_if_ignored: false,
            track_started: false,
            send_events: true,
            acks_late: false,
            acks_on_failure: true,
            acks_on_timeout: true,
            reject_on_worker_lost: false,
            concurrent: false,
        }
    }
}

/// One delivery of a task.
#[derive(Clone, Debug)]
pub struct Job {
    /// The message.
    pub envelope: Arc<Envelope>,
    /// What is known of its type.
    pub spec: Arc<Spec>,
    /// The queue that it came from.
    pub queue: Arc<str>,
    /// The worker's node name.
    pub hostname: Arc<str>,
    /// How often it was begun, this time included: more than one after a worker or child was lost.
    pub attempt: u32,
    /// Whether it was delivered before.
    pub redelivered: bool,
    /// When it is ended by force, counted from its start; the message's own limit goes before the type's.
    pub time_limit: Option<Duration>,
    /// When it is asked to end.
    pub soft_time_limit: Option<Duration>,
    /// Whether the state STARTED is stored and told.
    pub track_started: bool,
    /// To be called once, when the body begins.
    pub start: Start,
    /// Cancelled when the task is to be ended (revoke with terminate, a stop whose grace is over).
    pub cancel: Cancel,
}

/// How a task that runs is ended from outside.
#[derive(Clone, Debug, Default)]
pub struct Cancel {
    /// Cancelled when it is to end.
    pub token: CancellationToken,
    /// The signal for a child process; 15 if none was set.
    pub signal: Arc<AtomicI32>,
}

/// Tells the worker that the body begins: it stores STARTED, tells of it, and counts the time from here.
#[derive(Clone)]
pub struct Start(Arc<dyn Fn(Option<u32>) + Send + Sync>);

impl Start {
    /// What is called with the process that runs the body, if it is another one.
    pub fn new(told: impl Fn(Option<u32>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(told))
    }

    /// The body begins.
    pub fn begin(&self, pid: Option<u32>) {
        (self.0)(pid);
    }
}

impl std::fmt::Debug for Start {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Start")
    }
}

/// What became of a delivery.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub outcome: Outcome,
    /// What is to be stored before the acknowledgement.
    pub stored: Stored,
    /// How long the body ran.
    pub runtime: Duration,
}

/// How a delivery ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// SUCCESS, with Python's or JSON's short form of the value for events (1,024 characters at most).
    Succeeded(String),
    /// FAILURE.
    Failed(Exception),
    /// FAILURE because the hard time limit was over.
    TimedOut(Exception),
    /// FAILURE because the process that ran it ended.
    Lost(Exception),
    /// RETRY: the runner has published the message of the next try.
    Retried(Exception),
    /// REVOKED while it ran, by this signal.
    Terminated(i32),
    /// Neither result nor event (Celery's Ignore).
    Ignored,
    /// The same, and the runner has published a task with the same identifier in its place (Celery's `Task.replace`).
    Replaced,
    /// Celery's Reject.
    Rejected {
        /// Goes to the end of its queue again.
        requeue: bool,
    },
    /// It was not begun: it goes back to the head of its queue, and its attempt does not count.
    NotBegun,
}

/// An exception as clients and events see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exception {
    /// "ValueError".
    pub class: String,
    /// "builtins"; for our own, "beacon".
    pub module: String,
    /// Its arguments' text, usually one.
    pub message: String,
    /// Its arguments, if they are something else than the one text.
    pub args: Option<Vec<Value>>,
    /// As Python shows it, `ValueError('bad')`, for events and logs.
    pub repr: String,
    /// Where it came from.
    pub traceback: Option<String>,
}

impl Exception {
    /// One of ours, in the module "beacon".
    #[must_use]
    pub fn own(class: &str, message: impl Into<String>) -> Self {
        Self::of("beacon", class, message.into())
    }

    /// One of Python's own, in "builtins".
    #[must_use]
    pub fn python(class: &str, message: impl Into<String>) -> Self {
        Self::of("builtins", class, message.into())
    }

    /// One of another module of Python's, as in "celery.exceptions".
    #[must_use]
    pub fn of(module: &str, class: &str, message: String) -> Self {
        let repr = format!("{class}({})", repr::text(&message));
        Self { class: class.to_owned(), module: module.to_owned(), message, args: None, repr, traceback: None }
    }

    /// The hard time limit was over, as billiard has it: its argument is the number of seconds.
    #[must_use]
    pub fn time_limit(limit: Duration) -> Self {
        let seconds = limit.as_secs_f64();
        // Python has 5 where somebody has set 5.
        let number = if seconds.fract() == 0.0 { Value::from(seconds as u64) } else { Value::from(seconds) };
        let message = number.to_string();
        Self {
            repr: format!("TimeLimitExceeded({message})"),
            args: Some(vec![number]),
            ..Self::of("billiard.exceptions", "TimeLimitExceeded", message)
        }
    }
}

/// What is to be stored of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// Nothing: ignored, or the runner has stored it itself.
    Nothing,
    /// This value of the key `celery-task-meta-<id>`, encoded, to be written and published by the worker.
    Meta {
        /// The whole value.
        value: Bytes,
        /// Its state: SUCCESS FAILURE RETRY REVOKED.
        state: &'static str,
    },
}

/// An end that the worker decides without running the body: it must reach the result, the chord and the errbacks alike.
#[derive(Clone, Debug, PartialEq)]
pub enum Recorded {
    /// REVOKED: "revoked", "expired" or "terminated".
    Revoked(&'static str),
    /// FAILURE with this exception: an unknown task, refused content, too many attempts, a child that was lost.
    Failed(Exception),
}

/// What runs tasks of some types. Implementations take care of their own processes, and outlive none of their jobs:
/// every [`Runner::run`] returns.
pub trait Runner: Send + Sync + 'static {
    /// What it knows of a task of this name; `None` if it is not one of its own.
    fn spec(&self, name: &str) -> Option<Arc<Spec>>;

    /// Everything that it knows, in the order of the names.
    fn specs(&self) -> Vec<Arc<Spec>>;

    /// How many jobs it would take at this moment. It may say more than it has places, when jobs are short: those wait
    /// within it, and come back as [`Outcome::NotBegun`] when they would wait long.
    fn free(&self) -> usize;

    /// How many places it has in all.
    fn places(&self) -> usize;

    /// Completes when `free` may have become more than it was.
    fn freed(&self) -> BoxFuture<'_, ()>;

    /// Runs a job to its end.
    fn run(&self, job: Job) -> BoxFuture<'_, Finished>;

    /// Makes an end known that was decided outside the body: stores the result, counts the chord's part, calls the
    /// errbacks. False if this runner cannot (none of its processes answers).
    fn record(&self, envelope: Arc<Envelope>, recorded: Recorded) -> BoxFuture<'_, bool>;

    /// Processes that run bodies.
    fn pids(&self) -> Vec<u32>;

    /// Changes the number of places by so many.
    fn resize(&self, by: isize);

    /// Takes no more, and ends when everything that ran has ended.
    fn drain(&self) -> BoxFuture<'_, ()>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_are_shown_as_python_shows_them() {
        assert_eq!(Exception::python("ValueError", "bad").repr, "ValueError('bad')");
        assert_eq!(Exception::python("KeyError", "it's").repr, "KeyError(\"it's\")");
        assert_eq!(Exception::own("Odd", "a'b\"c\\\n\u{1}").repr, r#"Odd('a\'b"c\\\n\x01')"#);
    }
}
