//! Celery's events: what Flower and `celery events` are told of a worker and its tasks, over Redis's PUBLISH.
//!
//! A worker tells that it is there, every two seconds that it still is, and at the very end that it goes. Of tasks it
//! tells only while somebody has asked for it. Nothing waits for Redis: events that it cannot take are dropped, and
//! counted.

mod body;
mod clock;
mod feed;
mod follow;
mod line;
mod sender;
mod zone;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

#[cfg(test)]
pub(in crate::tasks) use body::tests as testing;
pub(in crate::tasks) use body::{arguments, content, name as task_name};
pub use clock::Clock;
pub use feed::{Feed, Told};
pub(in crate::tasks) use line::channel;

use self::body::Origin;
use self::line::Line;
use crate::tasks::broker::Broker;
use crate::tasks::{Desk, Event, Witness};

/// How many events may wait to be sent.
const WAITING: usize = 10_000;
/// How many calls of remote control may.
const CALLS: usize = 64;

/// What a worker tells of itself. Clones are the same.
#[derive(Clone)]
pub struct Events(Arc<Inner>);

struct Inner {
    origin: Origin,
    clock: Clock,
    feed: Feed,
    /// Events about tasks are wanted.
    wanted: AtomicBool,
    dropped: AtomicU64,
    tasks: mpsc::Sender<Event>,
    calls: mpsc::Sender<Call>,
    /// Until the sender takes them.
    waiting: Mutex<Option<Waiting>>,
}

struct Waiting {
    tasks: mpsc::Receiver<Event>,
    calls: mpsc::Receiver<Call>,
}

/// What remote control wants to be told at once.
enum Call {
    /// A heartbeat.
    Beat,
    /// An election is acknowledged.
    Elect(Value),
}

impl Events {
    /// Events of the worker with this node name; those of tasks are `wanted` from the start, or when somebody asks.
    #[must_use]
    pub fn new(node: Arc<str>, wanted: bool) -> Self {
        let (tasks, tasks_waiting) = mpsc::channel(WAITING);
        let (calls, calls_waiting) = mpsc::channel(CALLS);
        Self(Arc::new(Inner {
            origin: Origin { node, pid: std::process::id(), west: 0.0 },
            clock: Clock::default(),
            feed: Feed::default(),
            wanted: AtomicBool::new(wanted),
            dropped: AtomicU64::new(0),
            tasks,
            calls,
            waiting: Mutex::new(Some(Waiting { tasks: tasks_waiting, calls: calls_waiting })),
        }))
    }

    /// The worker's logical clock.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// The same events inside the process.
    #[must_use]
    pub fn feed(&self) -> &Feed {
        &self.0.feed
    }

    /// Whether events about tasks are published.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.0.wanted.load(Ordering::Relaxed)
    }

    /// Publishes events about tasks from now on, or no longer; whether that is a change.
    #[must_use]
    pub fn enable(&self, wanted: bool) -> bool {
        self.0.wanted.swap(wanted, Ordering::Relaxed) != wanted
    }

    /// Sends a heartbeat at once.
    pub fn beat(&self) {
        // When that many calls wait, one heartbeat more says nothing.
        let _ = self.0.calls.try_send(Call::Beat);
    }

    /// Acknowledges an election of workers.
    pub(in crate::tasks) fn elect(&self, id: Value) {
        let _ = self.0.calls.try_send(Call::Elect(id));
    }

    /// Publishes at the broker until `stop`, which is to come when the worker has ended: the last event says that it goes.
    /// To be started once.
    pub async fn run(&self, broker: &Broker, desk: &dyn Desk, stop: CancellationToken) {
        let line = Line { broker: broker.clone(), node: self.0.origin.node.to_string() };
        self.send(&line, desk, stop).await;
    }

    /// How many events could not be sent.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }
}

impl Witness for Events {
    fn tell(&self, event: &Event) {
        if !self.is_wanted() && !self.0.feed.is_followed() {
            return;
        }
        if self.0.tasks.try_send(event.clone()).is_err() {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}
