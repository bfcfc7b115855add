//! What a worker does beside its tasks: signs of life, the claims of dead workers, messages whose time has come, and a look
//! at itself.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::task::AbortOnDropHandle;

use super::settle::{self, Item};
use super::{Worker, lock};
use crate::clock;
use crate::error::chain;
use crate::tasks::limits;
use crate::tasks::wire::{self, Envelope, Limits};

/// Between two signs of life; a worker is dead after three that were missed.
const BEAT: Duration = Duration::from_secs(2);
/// Between two looks at the queues' lengths.
const LOOK: Duration = Duration::from_secs(5);
/// The longest sleep until messages are looked for whose time has come: another worker may put one aside that comes first.
const NEXT: Duration = Duration::from_secs(1);
/// Nothing was taken for so long although there is something, and a place for it.
const STUCK: Duration = Duration::from_secs(10);
/// Looks that fail in a row although Redis counts as connected, before the connection is given up.
const UNANSWERED: u32 = 2;
/// Keys of shared limits that are looked after in a beat.
const KEYS: usize = 100;

/// What runs beside the tasks.
pub(super) struct Keepers {
    /// Settles; ends by itself when everything is settled.
    pub settling: tokio::task::JoinHandle<()>,
    /// Until the worker has left.
    pub beat: AbortOnDropHandle<()>,
    /// Until nothing is taken any more.
    pub others: Vec<AbortOnDropHandle<()>>,
}

impl Worker {
    pub(super) fn keep(&self, ends: UnboundedReceiver<Item>) -> Keepers {
        let options = &self.0.options;
        let settling = settle::run(options.broker.clone(), options.results.clone(), self.0.id.clone(), ends);
        let (beat, release, look, revoked) = (self.clone(), self.clone(), self.clone(), self.clone());
        let spawn = |future: futures_util::future::BoxFuture<'static, ()>| AbortOnDropHandle::new(tokio::spawn(future));
        Keepers {
            settling: tokio::spawn(settling),
            beat: spawn(Box::pin(async move { beat.beat().await })),
            others: vec![
                spawn(Box::pin(async move { release.release().await })),
                spawn(Box::pin(async move { look.look().await })),
                spawn(Box::pin(async move {
                    let broker = revoked.0.options.broker.clone();
                    revoked.0.revocations.keep(broker).await;
                })),
            ],
        }
    }

    /// Signs of life, and after the dead is looked in turn.
    async fn beat(&self) {
        let broker = &self.0.options.broker;
        let mut missed = 0_u32;
        loop {
            let began = tokio::time::Instant::now();
            let alive = async {
                let renewed = broker.renew(&self.0.id, &self.described()).await?;
                let places: Vec<(String, String)> = self
                    .0
                    .held
                    .all()
                    .iter()
                    .filter_map(|held| {
                        let (_, key) = held.shared.as_ref()?;
                        Some((key.clone(), held.claim.as_str().to_owned()))
                    })
                    .collect();
                limits::renew(broker, &places).await.map(|()| renewed)
            };
            match alive.await {
                Ok(_) => {
                    if missed > 1 {
                        tracing::info!(worker = self.0.id, "the worker's leases are renewed again");
                    }
                    missed = 0;
                    self.look_after().await;
                }
                Err(error) => {
                    // One may fall into the moment in which a connection is opened; a lease outlives two.
                    missed += 1;
                    if missed == 2 {
                        tracing::warn!(worker = self.0.id, error = %chain(&error), "leases cannot be renewed; trying again");
                    }
                }
            }
            // Not all at once, when all were started at once.
            let jitter = Duration::from_millis(u64::from(wire::now().to_bits() as u8));
            tokio::time::sleep_until(began + BEAT - jitter).await;
        }
    }

    /// What workers leave behind that are no longer there.
    async fn look_after(&self) {
        let broker = &self.0.options.broker;
        match broker.bury().await {
            Ok(reclaimed) => {
                for one in reclaimed {
                    let (id, queue, worker, attempts) = (one.id, one.queue, one.worker, one.attempts);
                    tracing::warn!(id, queue, worker, attempts, "a task of a lost worker goes back to its queue");
                }
            }
            Err(error) => tracing::debug!(error = %chain(&error), "lost workers could not be looked for"),
        }
        let keys = limits::waiting(broker, KEYS).await.unwrap_or_default();
        for key in keys {
            // Whoever knows the limit lets more in when one of them ends.
            let one = limits::Shared { key: String::new(), concurrency: Some(1), rate: None };
            let known =
                self.0.held.all().into_iter().find_map(|held| {
                    held.shared.as_ref().filter(|(_, of)| *of == key).map(|(shared, _)| shared.clone())
                });
            let let_in = match known {
                Some(shared) => shared.leave(broker, &key, "").await,
                None => one.leave(broker, &key, "").await,
            };
            if let Err(error) = let_in {
                tracing::debug!(key, error = %chain(&error), "who waits for a place was not let in");
            }
        }
    }

    /// Puts messages back whose time has come, for ever.
    async fn release(&self) {
        let broker = &self.0.options.broker;
        loop {
            let next = if broker.is_connected() { broker.release_due().await.ok().flatten() } else { None };
            tokio::time::sleep(next.unwrap_or(NEXT).clamp(Duration::from_millis(1), NEXT)).await;
        }
    }

    /// Looks how queues stand, for the figures; and whether this worker takes from them as it should.
    async fn look(&self) {
        let broker = &self.0.options.broker;
        let mut unanswered = 0;
        loop {
            tokio::time::sleep(LOOK).await;
            if !broker.is_connected() {
                unanswered = 0;
                continue;
            }
            let queues = self.0.queues.named();
            let names: Vec<&str> = queues.iter().map(|queue| &**queue).collect();
            let Ok(lengths) = broker.lengths(&names).await else {
                unanswered += 1;
                if unanswered >= UNANSWERED {
                    tracing::error!("Redis counts as connected and does not answer; connecting anew");
                    self.connect_anew().await;
                    unanswered = 0;
                }
                continue;
            };
            unanswered = 0;
            let figures = &self.0.options.figures;
            let mut waits = 0;
            for length in &lengths {
                let oldest = length.head.as_ref().and_then(age);
                figures.queue(&length.queue, length.total(), oldest);
                if !length.paused {
                    waits += length.total();
                }
            }
            if let (Ok(parked), Ok(dead)) = (broker.parked_count().await, broker.dead_count().await) {
                figures.kept(parked, dead);
            }
            let idle = Duration::from_millis(clock::millis().saturating_sub(self.0.taken.load(Ordering::Relaxed)));
            let free = self.0.options.runners.iter().all(|runner| runner.free() > 0);
            if waits > 0 && free && idle > STUCK && !self.0.queues.any_waits() {
                let seconds = idle.as_secs();
                tracing::error!(waits, seconds, "tasks wait and there are places, and none is taken; looking again");
                self.connect_anew().await;
            }
        }
    }

    /// Lets go of all connections that tasks come by: the one of the claims, and those that wait.
    pub(super) async fn connect_anew(&self) {
        self.0.taken.store(clock::millis(), Ordering::Relaxed);
        if let Err(error) = self.0.options.broker.client().renew().await {
            tracing::warn!(error = %chain(&error), "Redis could not be connected to anew; trying again");
        }
        self.0.queues.rebuild();
    }

    /// What people see of this worker, as JSON.
    fn described(&self) -> String {
        let options = &self.0.options;
        let active = self.0.held.all().iter().filter(|held| held.begun().is_some()).count();
        json!({
            "node": &*options.node,
            "pid": std::process::id(),
            "since": self.0.since,
            "version": env!("CARGO_PKG_VERSION"),
            "queues": self.0.queues.named().iter().map(|queue| &**queue).collect::<Vec<_>>(),
            "places": options.runners.iter().map(|runner| runner.places()).sum::<usize>(),
            "active": active,
            "ended": lock(&self.0.totals).values().sum::<u64>(),
            "stopping": self.0.stopping.load(Ordering::Relaxed),
        })
        .to_string()
    }
}

/// How old a message is, as far as it says: Celery's do not, but those that waited for their time do.
fn age(raw: &bytes::Bytes) -> Option<f64> {
    let envelope = Envelope::parse(raw.clone(), &Limits::new(usize::MAX)).ok()?;
    envelope.headers.eta.map(|eta| (wire::now() - eta).max(0.0))
}
