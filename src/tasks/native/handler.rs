//! What a task in Rust is: a body that gets a call and gives a value or a failure, and its settings.
//!
//! A body is a future that may be dropped at any await: at its hard time limit, and when a stop's patience is over. What
//! must not stay half done belongs into something that outlives the drop (a transaction that is rolled back, a child
//! process that is killed with its handle).

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use crate::tasks::limits::Shared;
use crate::tasks::runner::Exception;

/// A task's body.
pub trait Handler: Send + Sync + 'static {
    /// Runs the task once. The value becomes the result of SUCCESS. A panic counts as a failure for good.
    fn run(&self, call: Call) -> BoxFuture<'_, Result<Value, Failure>>;
}

/// One run.
#[derive(Clone, Debug)]
pub struct Call {
    /// The positional arguments, in plain JSON (Celery's typed values have become text, dates as ISO 8601).
    pub args: Vec<Value>,
    /// The named arguments.
    pub kwargs: Map<String, Value>,
    /// The task's identifier; the same in every try and redelivery, fit as an idempotency key.
    pub id: Arc<str>,
    /// The task's name.
    pub task: Arc<str>,
    /// Which begin of this delivery it is, from 1: more than 1 after a worker was lost.
    pub attempt: u32,
    /// Tries before this one that ended in a retry.
    pub retries: u32,
    /// The queue that it came from.
    pub queue: Arc<str>,
    /// Tells how far it is.
    pub progress: Progress,
    /// Cancelled at the soft time limit, when the task is revoked with termination, and when a stop's patience is over:
    /// the body should end soon; it is dropped otherwise, at the hard limit or a few seconds later.
    pub cancel: CancellationToken,
}

/// Stores the state PROGRESS while the task runs, as Celery's `update_state` does.
#[derive(Clone)]
pub struct Progress(Arc<Told>);

type Told = dyn Fn(&str, Value) + Send + Sync;

impl Progress {
    /// What is called with the state, which is PROGRESS, and the value. It must not block.
    pub fn new(told: impl Fn(&str, Value) + Send + Sync + 'static) -> Self {
        Self(Arc::new(told))
    }

    /// Goes nowhere.
    #[must_use]
    pub fn ignored() -> Self {
        Self::new(|_, _| {})
    }

    /// How far it is: any value. What is told faster than ten times a second is thinned out, and the last one before
    /// the end may be left out.
    pub fn tell(&self, value: Value) {
        (self.0)("PROGRESS", value);
    }
}

impl std::fmt::Debug for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Progress")
    }
}

/// Why a run failed, and whether another one may succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// As clients, events and logs see it.
    pub exception: Exception,
    /// What is to follow.
    pub again: Again,
}

/// Whether a task is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// No: it would fail every time.
    Never,
    /// Yes, after the back-off of the settings, as long as there are tries left.
    Backoff,
    /// Yes, not before so long, as long as there are tries left (a server's Retry-After).
    After(Duration),
}

impl Failure {
    /// A failure that every try would end in.
    #[must_use]
    pub fn permanent(class: &str, message: impl Into<String>) -> Self {
        Self { exception: Exception::own(class, message), again: Again::Never }
    }

    /// A failure that may pass.
    #[must_use]
    pub fn passing(class: &str, message: impl Into<String>) -> Self {
        Self { exception: Exception::own(class, message), again: Again::Backoff }
    }

    /// The same, with the time before which a try is of no use.
    #[must_use]
    pub fn after(mut self, wait: Duration) -> Self {
        self.again = Again::After(wait);
        self
    }

    /// Arguments that do not fit: a `TypeError`, as Python would have it.
    #[must_use]
    pub fn arguments(message: impl Into<String>) -> Self {
        Self { exception: Exception::python("TypeError", message), again: Again::Never }
    }
}

/// What is set about a task in Rust.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// When a run is dropped; zero is no limit.
    pub time_limit: Duration,
    /// When a run is asked to end; zero is never.
    pub soft_time_limit: Duration,
    /// How many run at once on this worker; 0 is as many as there are places.
    pub concurrency: usize,
    /// Tries after the first one; each is a message of its own with the same identifier.
    pub retries: u32,
    /// The pause before the first retry; doubled for each later one, and then a random part of it is taken.
    pub retry_delay: Duration,
    /// The longest pause.
    pub retry_delay_max: Duration,
    /// Runs a second that this worker may begin.
    pub rate: Option<f64>,
    /// Limits over all workers.
    pub shared: Option<Shared>,
    /// No result is stored for a success, unless the message asks for it.
    pub ignore_result: bool,
    /// The state STARTED is stored.
    pub track_started: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            time_limit: Duration::ZERO,
            soft_time_limit: Duration::ZERO,
            concurrency: 0,
            retries: 0,
            retry_delay: Duration::from_secs(1),
            retry_delay_max: Duration::from_mins(10),
            rate: None,
            shared: None,
            ignore_result: false,
            track_started: false,
        }
    }
}

impl Settings {
    /// The pause before the next try, when there were so many retries already: exponential, with full jitter, so that
    /// a thousand tasks that failed together do not come back together. `chance` is from 0 to 1.
    #[must_use]
    pub fn pause(&self, retries: u32, chance: f64) -> Duration {
        let doubled = self.retry_delay.saturating_mul(1_u32.checked_shl(retries).unwrap_or(u32::MAX));
        doubled.min(self.retry_delay_max).mul_f64(chance.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_are_spread_from_zero() {
        let settings = Settings {
            retry_delay: Duration::from_secs(2),
            retry_delay_max: Duration::from_secs(30),
            ..Settings::default()
        };
        let longest: Vec<u64> = (0..7).map(|retries| settings.pause(retries, 1.0).as_secs()).collect();
        assert_eq!(longest, [2, 4, 8, 16, 30, 30, 30]);
        assert_eq!(settings.pause(500, 1.0), Duration::from_secs(30));
        assert_eq!(settings.pause(2, 0.0), Duration::ZERO);
        assert_eq!(settings.pause(2, 0.5), Duration::from_secs(4));
    }

    #[test]
    fn failures_say_what_follows() {
        let failure = Failure::passing("Unavailable", "no answer").after(Duration::from_secs(3));
        assert_eq!(failure.again, Again::After(Duration::from_secs(3)));
        assert_eq!(failure.exception.repr, "Unavailable('no answer')");
        assert_eq!(failure.exception.module, "beacon");
        let failure = Failure::arguments("to is missing");
        assert_eq!((failure.exception.class.as_str(), failure.exception.module.as_str()), ("TypeError", "builtins"));
    }
}
