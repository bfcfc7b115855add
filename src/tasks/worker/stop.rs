//! The end of a worker: nothing is taken any more, what runs may end, and what is left goes back to its queue, next to run.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Worker;
use super::keep::Keepers;
use crate::error::chain;
use crate::tasks::broker::{Fate, Settled};

/// Signal for what runs when the stop's patience is over.
const TERM: i32 = 15;
/// How long it may take to end then.
const ENDING: Duration = Duration::from_secs(5);
/// How long the last ends may take to reach Redis.
const SETTLING: Duration = Duration::from_secs(5);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

impl Worker {
    pub(super) async fn leave(&self, hurry: CancellationToken, keepers: Keepers) {
        self.0.stopping.store(true, Ordering::Relaxed);
        let Keepers { settling, beat, others } = keepers;
        drop(others);
        let running = self.0.held.len();
        if running > 0 {
            tracing::info!(running, "no more tasks are taken; waiting for those that run");
        }
        let patience = self.0.options.drain;
        tokio::select! {
            () = self.emptied() => {}
            () = tokio::time::sleep(patience) => {}
            () = hurry.cancelled() => {}
        }
        let left = self.0.held.all();
        if !left.is_empty() {
            tracing::warn!(running = left.len(), "tasks still run; they go back to their queues");
            for held in &left {
                held.back.store(true, Ordering::Release);
                held.end(TERM);
            }
            let _ = tokio::time::timeout(ENDING, self.emptied()).await;
            for held in self.0.held.all() {
                let fate = Fate::Requeue {
                    raw: held.envelope.raw.clone(),
                    queue: held.queue.clone(),
                    priority: held.envelope.priority,
                    head: true,
                    redelivered: true,
                    lost: None,
                };
                let worker = self.clone();
                let claim = held.claim.clone();
                self.0.settler.end(Settled { claim, stored: None, fate, line: None }, move |_| {
                    worker.0.held.remove(&held.claim);
                });
            }
        }
        for runner in &self.0.options.runners {
            let _ = tokio::time::timeout(ENDING, runner.drain()).await;
        }
        // What was decided last is on its way.
        let (told, settled) = tokio::sync::oneshot::channel();
        self.0.settler.flush(move || {
            let _ = told.send(());
        });
        if tokio::time::timeout(SETTLING, settled).await.is_err() {
            tracing::warn!("the ends of tasks did not reach Redis; another worker begins them again");
        }
        settling.abort();
        drop(beat);
        match tokio::time::timeout(SETTLING, self.0.options.broker.leave(&self.0.id)).await {
            Ok(Ok(0)) => {}
            Ok(Ok(back)) => tracing::info!(back, "claims went back to their queues"),
            Ok(Err(error)) if left.is_empty() => {
                tracing::debug!(error = %chain(&error), "the worker leaves without a word");
            }
            Ok(Err(error)) => tracing::warn!(error = %chain(&error), "the worker's claims come back by themselves"),
            Err(_) => tracing::warn!("Redis does not answer; the worker's claims come back by themselves"),
        }
    }

    async fn emptied(&self) {
        while self.0.held.len() > 0 {
            tokio::time::sleep(LOOK).await;
        }
    }
}
