//! What remote control, the API and the command line ask of a worker.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::Value;

use super::{Worker, lock};
use crate::error::chain;
use crate::tasks::broker::{Parked, Why};
use crate::tasks::canvas::blank;
use crate::tasks::desk::{Desk, Held, Pool};
use crate::tasks::event::Happening;
use crate::tasks::results::Write;
use crate::tasks::runner::{Recorded, Spec};
use crate::tasks::wire::{self, Envelope, Headers};

/// Takes tasks out that have not begun.
const TERM: i32 = 15;
/// Messages that wait for their time and are looked through for revoked stamps.
const PARKED: usize = 50_000;

impl Desk for Worker {
    fn node(&self) -> Arc<str> {
        self.0.options.node.clone()
    }

    fn since(&self) -> f64 {
        self.0.since
    }

    fn active(&self) -> Vec<Held> {
        self.0.held.all().iter().filter(|held| held.begun().is_some()).map(|held| held.shown()).collect()
    }

    fn reserved(&self) -> Vec<Held> {
        self.0.held.all().iter().filter(|held| held.begun().is_none()).map(|held| held.shown()).collect()
    }

    fn scheduled(&self, most: usize) -> BoxFuture<'_, Vec<Held>> {
        Box::pin(async move {
            let parked = self.0.options.broker.parked(most).await.unwrap_or_default();
            let node = &*self.0.options.node;
            parked.iter().filter(|one| one.node == node && one.why != Why::Rate).filter_map(shown).collect()
        })
    }

    fn totals(&self) -> BTreeMap<Arc<str>, u64> {
        lock(&self.0.totals).clone()
    }

    fn specs(&self) -> Vec<Arc<Spec>> {
        let mut all: BTreeMap<Arc<str>, Arc<Spec>> = BTreeMap::new();
        for spec in self.0.options.runners.iter().flat_map(|runner| runner.specs()) {
            all.entry(spec.name.clone()).or_insert(spec);
        }
        all.into_values().map(|spec| self.effective(spec)).collect()
    }

    fn queues(&self) -> Vec<Arc<str>> {
        self.0.queues.named()
    }

    fn add_queue(&self, queue: &str) {
        if self.0.queues.add(queue) {
            tracing::info!(queue, "tasks of one more queue are taken");
        }
    }

    fn remove_queue(&self, queue: &str) -> bool {
        let removed = self.0.queues.remove(queue);
        if removed {
            tracing::info!(queue, "tasks of a queue are no longer taken");
            self.0.options.figures.forget_queue(queue);
        }
        removed
    }

    fn pool(&self) -> Pool {
        let options = &self.0.options;
        let limit = |limit: Duration| (!limit.is_zero()).then_some(limit.as_secs_f64());
        Pool {
            places: options.runners.first().map_or(0, |runner| runner.places()),
            pids: options.runners.first().map(|runner| runner.pids()).unwrap_or_default(),
            max_tasks: 0,
            timeouts: (limit(options.time_limit), limit(options.soft_time_limit)),
        }
    }

    fn resize(&self, by: isize) {
        if let Some(runner) = self.0.options.runners.first() {
            runner.resize(by);
        }
    }

    fn set_rate(&self, task: &str, rate: Option<f64>) -> bool {
        let Some((_, spec)) = self.runner_of(task) else { return false };
        lock(&self.0.overrides).entry(spec.name.clone()).or_default().rate = Some(rate.unwrap_or(0.0));
        // Who waits by the old rate is asked again.
        let waiting = self.0.rates.reset(task);
        let broker = self.0.options.broker.clone();
        tokio::spawn(async move {
            if let Err(error) = broker.unpark(&waiting).await {
                tracing::warn!(error = %chain(&error), "tasks wait on by their old rate");
            }
        });
        true
    }

    fn set_time_limits(&self, task: &str, soft: Option<Duration>, hard: Option<Duration>) -> bool {
        let Some((_, spec)) = self.runner_of(task) else { return false };
        lock(&self.0.overrides).entry(spec.name.clone()).or_default().limits = Some((soft, hard));
        true
    }

    fn revoke(&self, ids: Vec<String>, signal: Option<i32>) -> BoxFuture<'_, Vec<String>> {
        Box::pin(async move {
            let broker = &self.0.options.broker;
            if let Err(error) = broker.revoke(&ids).await {
                tracing::warn!(error = %chain(&error), "revocations could not be stored");
            }
            let ran = self.end_held(signal, |headers| ids.contains(&headers.id));
            let mut gone = self.forget(&ids).await;
            let here: Vec<String> = self.0.held.all().iter().map(|held| held.id().to_owned()).collect();
            gone.extend(here);
            gone.extend(ran.iter().cloned());
            // What waits in a queue somewhere: its client need not wait until it is reached.
            for id in ids.iter().filter(|id| !gone.contains(id)) {
                self.answer_revoked(id).await;
            }
            ran
        })
    }

    fn revoke_stamped(&self, stamps: Vec<(String, Vec<String>)>, signal: Option<i32>) -> BoxFuture<'_, Vec<String>> {
        Box::pin(async move {
            let broker = &self.0.options.broker;
            let pairs: Vec<(String, String)> = stamps
                .iter()
                .flat_map(|(name, values)| values.iter().map(|value| (name.clone(), value.clone())))
                .collect();
            if let Err(error) = broker.revoke_stamps(&pairs).await {
                tracing::warn!(error = %chain(&error), "revocations could not be stored");
            }
            let stamps: BTreeMap<String, Vec<String>> = stamps.into_iter().collect();
            let stamped = |headers: &Headers| super::revocations::stamped(&stamps, &headers.stamps);
            let ran = self.end_held(signal, stamped);
            let parked = broker.parked(PARKED).await.unwrap_or_default();
            let ids: Vec<String> = parked
                .iter()
                .filter(|one| one.envelope().is_some_and(|envelope| stamped(&envelope.headers)))
                .map(|one| one.id.clone())
                .collect();
            self.forget(&ids).await;
            ran
        })
    }

    fn revoked(&self) -> BoxFuture<'_, Vec<String>> {
        Box::pin(async move { self.0.options.broker.revoked().await.unwrap_or_default() })
    }

    fn shut_down(&self) {
        self.0.stop.cancel();
    }
}

impl Worker {
    /// What is known of a task, with what remote control has set.
    fn effective(&self, spec: Arc<Spec>) -> Arc<Spec> {
        let over = self.overridden(&spec.name);
        if over.rate.is_none() && over.limits.is_none() {
            return spec;
        }
        let mut spec = (*spec).clone();
        if let Some(rate) = over.rate {
            spec.rate = Some(rate).filter(|rate| *rate > 0.0);
        }
        if let Some((soft, hard)) = over.limits {
            (spec.soft_time_limit, spec.time_limit) = (soft, hard);
        }
        Arc::new(spec)
    }

    /// Ends tasks that are here: those whose body runs if there is a signal for them, the others in any case. Gives those
    /// that were found running.
    fn end_held(&self, signal: Option<i32>, which: impl Fn(&Headers) -> bool) -> Vec<String> {
        let mut ran = Vec::new();
        for held in self.0.held.all().iter().filter(|held| which(&held.envelope.headers)) {
            if held.begun().is_some() {
                ran.push(held.id().to_owned());
            }
            match signal {
                Some(signal) => held.end(signal),
                None => held.revoke(TERM),
            }
        }
        ran
    }

    /// Removes messages that wait for their time, and answers their clients. Gives their identifiers.
    async fn forget(&self, ids: &[String]) -> Vec<String> {
        let parked = match self.0.options.broker.forget_parked(ids).await {
            Ok(parked) => parked,
            Err(error) => {
                tracing::warn!(error = %chain(&error), "tasks that wait for their time could not be revoked");
                return Vec::new();
            }
        };
        let mut gone = Vec::with_capacity(parked.len());
        for envelope in parked {
            let envelope = Arc::new(envelope);
            self.record(&envelope, Recorded::Revoked("revoked")).await;
            let queue: Arc<str> = envelope.routing_key.as_str().into();
            let happening = Happening::Revoked { terminated: false, signal: None, expired: false };
            let spec = self.runner_of(&envelope.headers.task).map(|(_, spec)| spec);
            self.tell(&envelope, &queue, spec.as_deref(), happening);
            gone.push(envelope.headers.id.clone());
        }
        gone
    }

    /// REVOKED for a task that has no end yet.
    async fn answer_revoked(&self, id: &str) {
        let results = &self.0.options.results;
        let waits = match results.get(id).await {
            Ok(None) => true,
            Ok(Some(meta)) => matches!(meta.status.as_str(), "PENDING" | "RECEIVED" | "RETRY" | "REJECTED"),
            Err(_) => false,
        };
        if waits {
            let envelope: Envelope = blank(Headers { id: id.to_owned(), ..Headers::default() });
            let value = self.0.options.canvas.meta(&envelope, &wire::Result::Revoked("revoked"), &Value::Null);
            if let Err(error) = results.store(&[Write { id: id.to_owned(), value }]).await {
                tracing::warn!(id, error = %chain(&error), "REVOKED could not be stored");
            }
        }
    }
}

fn shown(parked: &Parked) -> Option<Held> {
    let envelope = parked.envelope()?;
    Some(Held {
        // As it was asked for: Redis knows it to the millisecond only, and counts what expires before by its end.
        eta: envelope.headers.eta.or(Some(parked.until_ms as f64 / 1e3)),
        envelope: Arc::new(envelope),
        queue: parked.queue.as_str().into(),
        started: None,
        pid: None,
        acknowledged: false,
    })
}
