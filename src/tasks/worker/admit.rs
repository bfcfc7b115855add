//! What becomes of a message that was taken.
//!
//! The order is the facts': what cannot be read is a dead letter; what is revoked or too late is REVOKED; what is not due
//! waits in Redis; what nobody knows or may not be read is a FAILURE, so that its client is answered; what took its
//! worker down too often is a dead letter and a FAILURE; limits come last, right before the body.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::held::Held;
use super::{Worker, lock};
use crate::error::chain;
use crate::tasks::broker::{Claimed, Fate, Why};
use crate::tasks::event::Happening;
use crate::tasks::limits::Entry;
use crate::tasks::results::Write;
use crate::tasks::runner::{Exception, Job, Recorded, Spec, Start};
use crate::tasks::wire::{self, Body, Envelope, Headers, Malformed};

/// How long a message waits at most that found its task's places on this worker taken; one that ends lets the next in.
const LONG: Duration = Duration::from_mins(1);
/// Of those that wait for a place so many are remembered.
const REMEMBERED: usize = 10_000;
/// What has no content type, and is always taken.
const UNTYPED: &str = "application/data";

/// What happened to a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admitted {
    /// A runner has it, or it has an end.
    Placed,
    /// This runner has no place for it.
    Full(usize),
}

impl Worker {
    /// Decides about messages that were taken, in their order. What finds no place goes back to the heads of its queues.
    pub(super) async fn admit(&self, claimed: Vec<Claimed>) {
        let mut read = Vec::with_capacity(claimed.len());
        for one in claimed {
            match Envelope::parse(one.raw.clone(), &self.0.options.limits) {
                Ok(envelope) => read.push((one, Arc::new(envelope))),
                Err(malformed) => self.bury_letter(&one, malformed),
            }
        }
        let envelopes: Vec<&Envelope> = read.iter().map(|(_, envelope)| &**envelope).collect();
        let revoked = self.0.revocations.ask(&self.0.options.broker, &envelopes).await;
        let mut back = Vec::new();
        for ((one, envelope), revoked) in read.into_iter().zip(revoked) {
            if let Admitted::Full(runner) = self.place(&one, &envelope, revoked).await {
                self.0.queues.wait_for(&one.queue, runner);
                back.push((one, envelope));
            }
        }
        // The first one is to be the next to run: it goes last.
        for (one, envelope) in back.into_iter().rev() {
            self.give_back(&one, &envelope);
        }
        // A place may have fallen free between its claim and here.
        self.0.queues.resume(|runner| self.0.options.runners[runner].free() > 0);
    }

    async fn place(&self, one: &Claimed, envelope: &Arc<Envelope>, revoked: bool) -> Admitted {
        let headers = &envelope.headers;
        let now = wire::now();
        let known = self.runner_of(&headers.task);
        if revoked {
            return self.refuse(one, envelope, Recorded::Revoked("revoked"));
        }
        if headers.expires.is_some_and(|expires| expires <= now) {
            return self.refuse(one, envelope, Recorded::Revoked("expired"));
        }
        if let Some(eta) = headers.eta.filter(|eta| *eta > now) {
            let why = if headers.retries > 0 { Why::Retry } else { Why::Eta };
            // Who expires before its time is told so when it expires.
            let until = headers.expires.map_or(eta, |expires| expires.min(eta));
            self.tell(envelope, &one.queue, known.as_ref().map(|(_, spec)| &**spec), Happening::Received);
            self.park(one, envelope, until, why);
            return Admitted::Placed;
        }
        let Some((runner, spec)) = known else {
            let exception = Exception::of("celery.exceptions", "NotRegistered", headers.task.clone());
            return self.refuse(one, envelope, Recorded::Failed(exception));
        };
        let accept = &self.0.options.accept;
        if envelope.content_type != UNTYPED && !accept.contains(&envelope.content_type) {
            let why = format!("Refusing to deserialize untrusted content of type {}", envelope.content_type);
            let exception = Exception::of("kombu.exceptions", "ContentDisallowed", why);
            return self.refuse(one, envelope, Recorded::Failed(exception));
        }
        let most = self.0.options.max_attempts;
        if one.attempts_before >= most {
            let why = format!("it was begun {most} times, and each time its worker or process was lost");
            return self.dead(one, envelope, why);
        }
        if self.0.options.runners[runner].free() == 0 {
            return Admitted::Full(runner);
        }
        let mut held = Held::new(one, envelope.clone(), spec.clone(), runner);
        if let Some(limit) = spec.concurrency
            && self.0.held.of_type(&spec.name) >= limit
        {
            self.wait_here(one, envelope, &spec, now);
            return Admitted::Placed;
        }
        if let Some(rate) = self.overridden(&spec.name).rate.map_or(spec.rate, Some).filter(|rate| *rate > 0.0)
            && let Err(wait) = self.0.rates.take(&spec.name, rate, &headers.id, Instant::now())
        {
            self.park(one, envelope, now + wait.as_secs_f64(), Why::Rate);
            return Admitted::Placed;
        }
        if let Some(shared) = &spec.shared {
            let body = Body::parse(&envelope.body).unwrap_or_default();
            let key = shared.key_of(headers, &one.queue, &body.args, &body.kwargs);
            match shared.enter(&self.0.options.broker, &key, one.claim.as_str()).await {
                Ok(Entry::Enter) => held.shared = Some((shared.clone(), key)),
                Ok(Entry::Full) => {
                    let fate = Fate::Hold {
                        raw: one.raw.clone(),
                        queue: one.queue.clone(),
                        priority: envelope.priority,
                        key,
                        most: shared.concurrency.unwrap_or_default(),
                    };
                    self.settle(&one.claim, None, fate);
                    return Admitted::Placed;
                }
                Ok(Entry::After(wait)) => {
                    self.park(one, envelope, now + wait.as_secs_f64(), Why::Rate);
                    return Admitted::Placed;
                }
                Err(error) => {
                    tracing::warn!(task = headers.task, error = %chain(&error), "a limit could not be asked for");
                    self.give_back(one, envelope);
                    return Admitted::Placed;
                }
            }
        }
        self.begin(Arc::new(held)).await;
        Admitted::Placed
    }

    /// The first runner that knows a task.
    pub(super) fn runner_of(&self, task: &str) -> Option<(usize, Arc<Spec>)> {
        let mut runners = self.0.options.runners.iter().enumerate();
        runners.find_map(|(at, runner)| Some((at, runner.spec(task)?)))
    }

    /// Hands a task to its runner.
    async fn begin(&self, held: Arc<Held>) {
        let headers = &held.envelope.headers;
        let spec = &held.spec;
        let options = &self.0.options;
        let (soft, hard) = self.overridden(&spec.name).limits.unwrap_or((spec.soft_time_limit, spec.time_limit));
        let seconds = |seconds: f64| Duration::try_from_secs_f64(seconds).ok();
        let or_all = |all: Duration| (!all.is_zero()).then_some(all);
        let ignored = headers.ignore_result.unwrap_or(spec.ignore_result);
        let job = Job {
            envelope: held.envelope.clone(),
            spec: spec.clone(),
            queue: held.queue.clone(),
            hostname: options.node.clone(),
            attempt: held.attempt,
            redelivered: held.envelope.redelivered || held.attempt > 1,
            time_limit: headers.time_limit.and_then(seconds).or(hard).or(or_all(options.time_limit)),
            soft_time_limit: headers.soft_time_limit.and_then(seconds).or(soft).or(or_all(options.soft_time_limit)),
            track_started: spec.track_started && !ignored,
            start: self.start(&held),
            cancel: held.cancel.clone(),
        };
        self.tell(&held.envelope, &held.queue, Some(spec), Happening::Received);
        let active = self.0.held.insert(held.clone());
        options.figures.active(active);
        let runner = options.runners[held.runner].clone();
        let mut run = Box::pin(async move { runner.run(job).await });
        // Looked at once here, so that the runner knows of it before it is asked for free places again.
        let worker = self.clone();
        match poll_fn(|context| Poll::Ready(run.as_mut().poll(context))).await {
            Poll::Ready(finished) => {
                tokio::spawn(async move { worker.finish(held, finished).await });
            }
            Poll::Pending => {
                tokio::spawn(async move {
                    let finished = run.await;
                    worker.finish(held, finished).await;
                });
            }
        }
    }

    /// What a runner calls when the body begins.
    fn start(&self, held: &Arc<Held>) -> Start {
        let (worker, held) = (self.clone(), Arc::downgrade(held));
        Start::new(move |pid| {
            let Some(held) = held.upgrade() else { return };
            if !held.begin(pid) {
                return;
            }
            *lock(&worker.0.totals).entry(held.spec.name.clone()).or_default() += 1;
            worker.tell(&held.envelope, &held.queue, Some(&held.spec), Happening::Started(pid));
            let ignored = held.envelope.headers.ignore_result.unwrap_or(held.spec.ignore_result);
            if held.spec.track_started && !ignored {
                let hostname = worker.0.options.node.to_string();
                let result = wire::Result::Started { pid: pid.unwrap_or_else(std::process::id), hostname };
                let value = worker.0.options.canvas.meta(&held.envelope, &result, &serde_json::json!([]));
                let write = [Write { id: held.id().to_owned(), value }];
                let results = worker.0.options.results.clone();
                let mut storing = Box::pin(async move {
                    if let Err(error) = results.store(&write).await {
                        tracing::debug!(error = %chain(&error), "STARTED could not be stored");
                    }
                });
                // It stands in the connection's line before anything that the body stores; and the end waits for it,
                // which may go another way.
                let mut context = std::task::Context::from_waker(std::task::Waker::noop());
                if storing.as_mut().poll(&mut context).is_pending() {
                    held.storing(tokio::spawn(storing));
                }
            }
        })
    }

    /// Puts a message aside until its time.
    fn park(&self, one: &Claimed, envelope: &Envelope, until: f64, why: Why) {
        let fate = Fate::Park {
            raw: one.raw.clone(),
            queue: one.queue.clone(),
            priority: envelope.priority,
            id: envelope.headers.id.clone(),
            until_ms: (until * 1e3).ceil() as i64,
            node: self.0.options.node.clone(),
            why,
        };
        self.settle(&one.claim, None, fate);
    }

    /// Puts a message aside until a task of its type has ended here.
    fn wait_here(&self, one: &Claimed, envelope: &Envelope, spec: &Spec, now: f64) {
        let mut all = lock(&self.0.waiting);
        let waiting = all.entry(spec.name.clone()).or_default();
        if waiting.len() < REMEMBERED {
            waiting.push(envelope.headers.id.clone());
        }
        // Asked again after a while in any case, and the later the more there are.
        let longest = (waiting.len() as f64 * 0.2).clamp(1.0, LONG.as_secs_f64());
        drop(all);
        self.park(one, envelope, now + longest, Why::Rate);
    }

    /// Back to the head of its queue, as it came.
    pub(super) fn give_back(&self, one: &Claimed, envelope: &Envelope) {
        let fate = Fate::Requeue {
            raw: one.raw.clone(),
            queue: one.queue.clone(),
            priority: envelope.priority,
            head: true,
            redelivered: false,
            lost: None,
        };
        self.settle(&one.claim, None, fate);
    }

    /// An end without a run: made known, then acknowledged.
    fn refuse(&self, one: &Claimed, envelope: &Arc<Envelope>, recorded: Recorded) -> Admitted {
        let (worker, claimed, envelope) = (self.clone(), one.clone(), envelope.clone());
        tokio::spawn(async move { worker.end_without_run(claimed, envelope, recorded, Fate::Ack).await });
        Admitted::Placed
    }

    /// Too many attempts: a dead letter, and a FAILURE.
    fn dead(&self, one: &Claimed, envelope: &Arc<Envelope>, why: String) -> Admitted {
        let fate = Fate::Dead {
            raw: one.raw.clone(),
            queue: one.queue.clone(),
            reason: why.clone(),
            id: Some(envelope.headers.id.clone()),
            task: Some(envelope.headers.task.clone()),
        };
        let recorded = Recorded::Failed(Exception::of("billiard.exceptions", "WorkerLostError", why));
        let (worker, claimed, envelope) = (self.clone(), one.clone(), envelope.clone());
        tokio::spawn(async move { worker.end_without_run(claimed, envelope, recorded, fate).await });
        Admitted::Placed
    }

    /// What is no task's message: a dead letter, and a FAILURE if it is known whose.
    fn bury_letter(&self, one: &Claimed, malformed: Malformed) {
        tracing::warn!(queue = %one.queue, id = malformed.id, task = malformed.task, why = malformed.why,
            "a message cannot be worked on");
        let stored = malformed.id.as_ref().map(|id| {
            let task = malformed.task.clone().unwrap_or_default();
            let headers = Headers { id: id.clone(), task, ..Headers::default() };
            let exception = Exception::of("kombu.exceptions", "DecodeError", malformed.why.clone());
            let value = wire::Result::Failure(exception).meta(
                &crate::tasks::canvas::blank(headers),
                &serde_json::json!([]),
                None,
            );
            Write { id: id.clone(), value }
        });
        let fate = Fate::Dead {
            raw: one.raw.clone(),
            queue: one.queue.clone(),
            reason: malformed.why,
            id: malformed.id,
            task: malformed.task,
        };
        self.settle(&one.claim, stored, fate);
        self.0.options.figures.ended(&Arc::from("other"), "dead", None);
    }
}
