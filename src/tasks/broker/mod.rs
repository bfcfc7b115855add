//! Queues in Redis as kombu has them, and what kombu lacks: a claim that no crash can lose, leases that are renewed,
//! messages that are put aside until their time, dead letters.
//!
//! A queue is one list a priority step: `q`, `q<sep>3`, ... Producers push on the left; the right end is the head. What a
//! worker has claimed lies in `unacked` and `unacked_index`, where stock workers look, too, when their visibility timeout
//! is over. The fields there are our own claim ids, never the messages' delivery tags: a stock worker that acknowledges
//! late cannot remove what somebody else has by now.

mod bury;
mod claim;
mod dead;
mod find;
mod park;
mod publish;
mod queues;
mod revoked;
mod settle;
mod stray;
#[cfg(test)]
mod tests;
mod unique;
mod wait;

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub use bury::Reclaimed;
pub use claim::{ClaimId, Claimed};
pub use dead::DeadLetter;
pub use find::Taken;
pub use park::{Parked, Why};
pub use publish::Publish;
pub use queues::{Length, WorkerInfo};
pub use settle::{Fate, Settled};
pub use wait::Wait;

use super::config::Transport;
use super::error::Error;
use crate::redis::{self, Client};
use crate::secret::Secret;

/// How long Redis may take for an answer.
const CALL: Duration = Duration::from_secs(5);
/// A worker whose last heartbeat is older is dead.
pub const SILENCE: Duration = Duration::from_secs(6);

/// The broker. Clones share everything.
#[derive(Clone)]
pub struct Broker(Arc<Inner>);

struct Inner {
    client: Client,
    transport: Transport,
    keep_dead: Duration,
    /// Queues whose bindings this process has written.
    declared: Mutex<HashSet<String>>,
    /// The next claim's number.
    next: AtomicU64,
    /// What this process has claimed.
    known: Mutex<stray::Known>,
    /// When claims of silent stock workers were last looked for, on the monotonic clock in ms.
    swept: AtomicU64,
}

/// One list of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// The queue.
    pub queue: Arc<str>,
    /// The priority step: 0, 3, 6, 9.
    pub step: u8,
    /// Its name in Redis.
    pub key: String,
    /// What follows the message in `unacked`.
    tail: String,
}

impl Broker {
    /// The broker at this URL, without going there.
    ///
    /// # Errors
    /// A URL that cannot be used.
    pub fn new(url: &Secret, transport: &Transport) -> Result<Self, Error> {
        let client = Client::new(&redis::Config { url: url.clone() })?;
        Ok(Self(Arc::new(Inner {
            client,
            transport: transport.clone(),
            keep_dead: Duration::from_hours(24 * 14),
            declared: Mutex::default(),
            next: AtomicU64::new(1),
            known: Mutex::default(),
            swept: AtomicU64::new(0),
        })))
    }

    /// The same, with dead letters kept for so long. To be called before it is cloned: clones would go on as they are.
    #[must_use]
    pub fn keeping_dead_letters(mut self, keep: Duration) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            inner.keep_dead = keep;
        }
        self
    }

    /// Connects, and connects again whenever the connection is lost, until [`Broker::close`]. To be started once.
    pub async fn keep(self) {
        self.0.client.clone().keep().await;
    }

    /// Ends the connection.
    pub async fn close(&self) {
        self.0.client.close().await;
    }

    /// Whether there is a connection at this moment.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.0.client.is_connected()
    }

    /// For scripts and commands of one's own.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.0.client
    }

    /// How messages lie in Redis.
    #[must_use]
    pub fn transport(&self) -> &Transport {
        &self.0.transport
    }

    /// A name with the broker's prefix.
    #[must_use]
    pub fn key(&self, name: &str) -> String {
        format!("{}{name}", self.0.transport.global_keyprefix)
    }

    /// A queue's lists, the first priority first.
    #[must_use]
    pub fn lists(&self, queue: &str) -> Vec<Arc<List>> {
        let name: Arc<str> = queue.into();
        let tail = format!(", \"\", {}]", super::wire::json(queue));
        self.0
            .transport
            .priority_steps
            .iter()
            .map(|step| {
                Arc::new(List {
                    queue: name.clone(),
                    step: *step,
                    key: self.list_key(queue, *step),
                    tail: tail.clone(),
                })
            })
            .collect()
    }

    /// The list that a message of this priority goes to.
    #[must_use]
    pub fn list_for(&self, queue: &str, priority: u8) -> String {
        let steps = &self.0.transport.priority_steps;
        let step = steps.iter().rev().find(|step| **step <= priority.min(9)).copied().unwrap_or_default();
        self.list_key(queue, step)
    }

    fn list_key(&self, queue: &str, step: u8) -> String {
        let Transport { global_keyprefix: prefix, sep, .. } = &self.0.transport;
        if step == 0 { format!("{prefix}{queue}") } else { format!("{prefix}{queue}{sep}{step}") }
    }

    fn claims_key(&self, worker: &str) -> String {
        self.key(&format!("beacon:claims:{worker}"))
    }

    /// So many numbers for claims, that nobody else gets; the first of them.
    fn numbers(&self, count: usize) -> u64 {
        self.0.next.fetch_add(count as u64, Ordering::Relaxed)
    }

    /// Whether this process has yet to write a queue's bindings.
    fn is_new(&self, queue: &str) -> bool {
        /// Beyond it queues' names are no names but data: they are declared each time rather than remembered.
        const MOST: usize = 10_000;

        let mut declared = self.0.declared.lock().unwrap_or_else(PoisonError::into_inner);
        if declared.contains(queue) {
            return false;
        }
        if declared.len() < MOST {
            declared.insert(queue.to_owned());
        }
        true
    }

    /// The bindings of a queue could not be written after all.
    fn forget_declared(&self, queue: &str) {
        self.0.declared.lock().unwrap_or_else(PoisonError::into_inner).remove(queue);
    }
}
