//! What happens to tasks, told to whoever wants to know: Celery's events, live streams of the API, figures.

use std::sync::Arc;
use std::time::Duration;

use super::runner::Exception;
use super::wire::Envelope;

/// Something happened to a task.
#[derive(Clone, Debug)]
pub struct Event {
    /// The task's message.
    pub envelope: Arc<Envelope>,
    /// The queue that it came from.
    pub queue: Arc<str>,
    /// When, in seconds since 1970.
    pub at: f64,
    /// What.
    pub what: Happening,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Happening {
    /// A worker has it.
    Received,
    /// Its body begins, in this process if it is another one.
    Started(Option<u32>),
    /// SUCCESS.
    Succeeded {
        /// The value's short form.
        result: String,
        /// The body's time.
        runtime: Duration,
    },
    /// FAILURE.
    Failed {
        /// Why.
        exception: Exception,
        /// The body's time; `None` if it never began.
        runtime: Option<Duration>,
    },
    /// It will be tried again.
    Retried(Exception),
    /// REVOKED.
    Revoked {
        /// It ran, and was ended.
        terminated: bool,
        /// By this signal.
        signal: Option<i32>,
        /// It came too late.
        expired: bool,
    },
    /// Celery's Reject, or content that is refused.
    Rejected {
        /// It goes to its queue again.
        requeue: bool,
    },
    /// It went to the dead letters, for this reason.
    Dead(String),
}

/// Who wants to know. Called on the worker's path: it must not block, and drops what it cannot take.
pub trait Witness: Send + Sync + 'static {
    /// Something happened.
    fn tell(&self, event: &Event);
}
