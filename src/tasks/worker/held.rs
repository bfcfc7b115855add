//! The tasks that a worker has: each from its claim until its settlement.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::JoinHandle;

use crate::tasks::broker::{ClaimId, Claimed};
use crate::tasks::desk;
use crate::tasks::limits::Shared;
use crate::tasks::runner::{Cancel, Spec};
use crate::tasks::wire::Envelope;

/// One task that is here.
#[derive(Debug)]
pub struct Held {
    /// Its claim.
    pub claim: ClaimId,
    /// Its message.
    pub envelope: Arc<Envelope>,
    /// The queue that it came from.
    pub queue: Arc<str>,
    /// What is known of its type.
    pub spec: Arc<Spec>,
    /// Which of the runners has it.
    pub runner: usize,
    /// How often it was begun, this time included.
    pub attempt: u32,
    /// How it is ended from outside.
    pub cancel: Cancel,
    /// The place of a shared limit that it holds: the limit and its key.
    pub shared: Option<(Arc<Shared>, String)>,
    /// It is to go back to its queue, whatever comes of it, unless it is done: the worker stops.
    pub back: AtomicBool,
    /// It was revoked before its body began.
    pub revoked: AtomicBool,
    /// When and where its body began.
    begun: Mutex<Option<Begun>>,
    /// STARTED is being stored.
    storing: Mutex<Option<JoinHandle<()>>>,
}

/// A body's beginning.
#[derive(Clone, Copy, Debug)]
pub struct Begun {
    /// In seconds since 1970.
    pub at: f64,
    /// The process, if it is another one.
    pub pid: Option<u32>,
}

impl Held {
    /// A task that was taken and goes to a runner.
    #[must_use]
    pub fn new(claimed: &Claimed, envelope: Arc<Envelope>, spec: Arc<Spec>, runner: usize) -> Self {
        Self {
            claim: claimed.claim.clone(),
            envelope,
            queue: claimed.queue.clone(),
            spec,
            runner,
            attempt: claimed.attempts_before + 1,
            cancel: Cancel::default(),
            shared: None,
            back: AtomicBool::new(false),
            revoked: AtomicBool::new(false),
            begun: Mutex::new(None),
            storing: Mutex::new(None),
        }
    }

    /// The body begins. False if it has begun already.
    pub fn begin(&self, pid: Option<u32>) -> bool {
        let mut begun = lock(&self.begun);
        if begun.is_some() {
            return false;
        }
        *begun = Some(Begun { at: crate::tasks::wire::now(), pid });
        true
    }

    /// When the body began, if it has.
    pub fn begun(&self) -> Option<Begun> {
        *lock(&self.begun)
    }

    /// STARTED is being stored: [`Held::stored`] waits for it.
    pub fn storing(&self, storing: JoinHandle<()>) {
        *lock(&self.storing) = Some(storing);
    }

    /// Nothing is being stored any more that was to be stored before the end.
    pub async fn stored(&self) {
        let storing = lock(&self.storing).take();
        if let Some(storing) = storing {
            let _ = storing.await;
        }
    }

    /// Revokes it, if its body has not begun.
    pub fn revoke(&self, signal: i32) {
        if self.begun().is_none() {
            self.revoked.store(true, Ordering::Release);
            self.end(signal);
        }
    }

    /// The task's identifier.
    pub fn id(&self) -> &str {
        &self.envelope.headers.id
    }

    /// As others see it.
    pub fn shown(&self) -> desk::Held {
        let begun = self.begun();
        desk::Held {
            envelope: self.envelope.clone(),
            queue: self.queue.clone(),
            started: begun.map(|begun| begun.at),
            pid: begun.and_then(|begun| begun.pid),
            acknowledged: begun.is_some() && !self.spec.acks_late,
            eta: None,
        }
    }

    /// Ends it from outside, by this signal.
    pub fn end(&self, signal: i32) {
        self.cancel.signal.store(signal, Ordering::Relaxed);
        self.cancel.token.cancel();
    }
}

/// All that is here.
#[derive(Debug, Default)]
pub struct Table(Mutex<HashMap<String, Arc<Held>>>);

impl Table {
    /// One more.
    pub fn insert(&self, held: Arc<Held>) -> usize {
        let mut all = lock(&self.0);
        all.insert(held.claim.as_str().to_owned(), held);
        all.len()
    }

    /// One less.
    pub fn remove(&self, claim: &ClaimId) -> usize {
        let mut all = lock(&self.0);
        all.remove(claim.as_str());
        all.len()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        lock(&self.0).len()
    }

    /// How many of this type there are.
    pub fn of_type(&self, task: &str) -> usize {
        lock(&self.0).values().filter(|held| *held.spec.name == *task).count()
    }

    /// All, those that began first in front.
    pub fn all(&self) -> Vec<Arc<Held>> {
        let mut all: Vec<Arc<Held>> = lock(&self.0).values().cloned().collect();
        all.sort_by(|one, two| {
            let began = |held: &Held| held.begun().map_or(f64::MAX, |begun| begun.at);
            began(one).total_cmp(&began(two))
        });
        all
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
