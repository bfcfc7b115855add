//! The worker: takes messages when there is a place for them, decides what becomes of each, and ends each claim with its
//! result.
//!
//! A message is claimed in one script and stays claimed, under a lease that is renewed, until its end is in Redis: its
//! result first, then the acknowledgement. Whatever ends the worker in between, another one begins the task again.

mod admit;
mod desk;
mod fetch;
mod figures;
mod finish;
mod held;
mod keep;
mod options;
mod queues;
mod revocations;
mod settle;
mod stop;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use figures::Figures;
pub use options::Options;

use self::held::Table;
use self::queues::Queues;
use self::revocations::Revocations;
use self::settle::{Item, Settler};
use super::broker::{ClaimId, Fate, Settled};
use super::event::{Event, Happening};
use super::limits::Rates;
use super::results::Write;
use super::runner::Spec;
use super::wire::{self, Envelope};

/// A worker. Clones are the same one.
#[derive(Clone)]
pub struct Worker(Arc<Inner>);

struct Inner {
    options: Options,
    /// `<node name>#<uuid>`: another one in each life.
    id: String,
    /// When it was made, in seconds since 1970.
    since: f64,
    queues: Queues,
    held: Table,
    rates: Rates,
    revocations: Revocations,
    settler: Settler,
    /// Until [`Worker::run`] takes it.
    ends: Mutex<Option<UnboundedReceiver<Item>>>,
    /// Limits that remote control has set, by task.
    overrides: Mutex<HashMap<Arc<str>, Override>>,
    /// How many of a task that has a limit here wait for a place, and who.
    waiting: Mutex<HashMap<Arc<str>, Vec<String>>>,
    totals: Mutex<BTreeMap<Arc<str>, u64>>,
    /// Asked for by remote control.
    stop: CancellationToken,
    /// Nothing is taken any more.
    stopping: AtomicBool,
    /// When something was last taken, on the monotonic clock in ms.
    taken: AtomicU64,
}

/// What remote control has set about a task.
#[derive(Clone, Copy, Debug, Default)]
struct Override {
    /// Runs a second; 0 is no limit.
    rate: Option<f64>,
    /// Soft and hard.
    limits: Option<(Option<Duration>, Option<Duration>)>,
}

impl Worker {
    /// A worker that does nothing until it runs.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let (settler, ends) = Settler::new();
        Self(Arc::new(Inner {
            id: format!("{}#{}", options.node, Uuid::new_v4()),
            since: wire::now(),
            queues: Queues::new(&options.queues),
            held: Table::default(),
            rates: Rates::default(),
            revocations: Revocations::default(),
            settler,
            ends: Mutex::new(Some(ends)),
            overrides: Mutex::default(),
            waiting: Mutex::default(),
            totals: Mutex::default(),
            stop: CancellationToken::new(),
            stopping: AtomicBool::new(false),
            taken: AtomicU64::new(0),
            options,
        }))
    }

    /// Its identifier in Redis.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// Works until `stop`, then waits for what runs, as long as the options say or until `hurry`, gives back what is left
    /// and leaves. Events about tasks are told until the end. To be called once.
    pub async fn run(&self, stop: CancellationToken, hurry: CancellationToken) {
        let Some(ends) = lock(&self.0.ends).take() else { return };
        let keepers = self.keep(ends);
        tokio::select! {
            () = self.fetch() => {}
            () = stop.cancelled() => {}
            () = self.0.stop.cancelled() => {}
        }
        self.leave(hurry, keepers).await;
    }

    /// Ends a claim with nothing to be told.
    fn settle(&self, claim: &ClaimId, stored: Option<Write>, fate: Fate) {
        self.0.settler.end(Settled { claim: claim.clone(), stored, fate, line: None }, |_| {});
    }

    fn tell(&self, envelope: &Arc<Envelope>, queue: &Arc<str>, spec: Option<&Spec>, what: Happening) {
        if spec.is_some_and(|spec| !spec.send_events) {
            return;
        }
        let event = Event { envelope: envelope.clone(), queue: queue.clone(), at: wire::now(), what };
        for witness in &self.0.options.witnesses {
            witness.tell(&event);
        }
    }

    fn overridden(&self, task: &str) -> Override {
        lock(&self.0.overrides).get(task).copied().unwrap_or_default()
    }
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Worker").field(&self.0.id).finish()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
