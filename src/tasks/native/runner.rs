//! Runs tasks in Rust.
//!
//! A body runs in a task of tokio's of its own, so that a panic ends it alone, and a body that does not give way holds up
//! nobody who waits for places. A place is taken when [`Runner::run`] is called, not when its future is first polled.
//!
//! While bodies are short, more is taken than there are places: the next ones wait here for some milliseconds, instead of
//! in Redis for a round trip each. What waits longer than that goes back.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use serde_json::Value;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::task::AbortOnDropHandle;

use super::handler::{Again, Call, Failure, Handler, Settings};
use super::{builtin, progress};
use crate::error::chain;
use crate::tasks::canvas::{Canvas, Unsent};
use crate::tasks::runner::{Exception, Finished, Job, Outcome, Recorded, Runner, Spec, Stored};
use crate::tasks::wire::repr;
use crate::tasks::wire::{self, Body, Embed, Envelope};

/// How long a body that was asked to end may go on, before it is dropped.
const PATIENCE: Duration = Duration::from_secs(3);
/// Bodies that run longer on average are not short, in ns.
const SHORT: u64 = 5_000_000;
/// So long may what is taken beyond the places have to wait for its turn, in ns.
const AHEAD: u64 = 10_000_000;
/// The most that is taken beyond the places.
const MOST: u64 = 128;
/// What nothing is known of counts as this slow, in ns.
const SLOW: u64 = 1_000_000_000;
/// After so long it goes back.
const WAIT: Duration = Duration::from_millis(50);
/// Between two attempts to reach a Redis that is away.
const PAUSE: Duration = Duration::from_millis(250);

/// Tasks in Rust. Cheap to clone.
#[derive(Clone)]
pub struct Native(Arc<Inner>);

struct Inner {
    canvas: Canvas,
    tasks: ArcSwap<BTreeMap<Arc<str>, Entry>>,
    places: AtomicUsize,
    running: AtomicUsize,
    freed: Notify,
    /// A permit for each place.
    turns: Arc<Semaphore>,
    /// How long bodies run, in ns: a mean in which later ones count for more.
    pace: AtomicU64,
}

/// A task that can be run.
#[derive(Clone)]
pub(super) struct Entry {
    pub handler: Arc<dyn Handler>,
    pub settings: Settings,
    pub spec: Arc<Spec>,
}

/// Which tasks there are.
#[derive(Clone, Default)]
pub struct Registry(BTreeMap<Arc<str>, Entry>);

impl Registry {
    /// Adds a task; a later one goes before an earlier one of the same name.
    pub fn register(&mut self, name: &str, handler: Arc<dyn Handler>, settings: Settings) {
        let limit = |limit: Duration| (!limit.is_zero()).then_some(limit);
        let spec = Spec {
            time_limit: limit(settings.time_limit),
            soft_time_limit: limit(settings.soft_time_limit),
            rate: settings.rate,
            concurrency: (settings.concurrency > 0).then_some(settings.concurrency),
            shared: settings.shared.clone().map(Arc::new),
            ignore_result: settings.ignore_result,
            track_started: settings.track_started,
            // What is in flight comes back when a worker is lost.
            acks_late: true,
            concurrent: true,
            ..Spec::new(name)
        };
        self.0.insert(name.into(), Entry { handler, settings, spec: Arc::new(spec) });
    }

    /// The names, in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(|name| &**name)
    }
}

impl Native {
    /// Runs these tasks, and those that every Celery worker has, in so many places.
    #[must_use]
    pub fn new(canvas: Canvas, registry: Registry, places: usize) -> Self {
        let native = Self(Arc::new(Inner {
            canvas,
            tasks: ArcSwap::default(),
            places: AtomicUsize::new(places.max(1)),
            running: AtomicUsize::new(0),
            freed: Notify::new(),
            turns: Arc::new(Semaphore::new(places.max(1))),
            pace: AtomicU64::new(SLOW),
        }));
        native.replace(registry);
        native
    }

    /// Runs these tasks from now on. Those that run end as what they began as.
    pub fn replace(&self, registry: Registry) {
        let mut tasks = registry;
        for (name, handler) in builtin::all(&Tasks::of(self)) {
            if !tasks.0.contains_key(name) {
                tasks.register(name, handler, Settings::default());
            }
        }
        self.0.tasks.store(Arc::new(tasks.0));
    }
}

/// The tasks, for those of them that run others; without keeping them alive.
#[derive(Clone)]
pub(super) struct Tasks(Weak<Inner>);

impl Tasks {
    pub fn of(native: &Native) -> Self {
        Self(Arc::downgrade(&native.0))
    }

    pub fn find(&self, name: &str) -> Option<Entry> {
        self.0.upgrade()?.tasks.load().get(name).cloned()
    }
}

/// A place that is taken, until it is dropped.
struct Place(Native);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.running.fetch_sub(1, Ordering::AcqRel);
        self.0.0.freed.notify_one();
    }
}

/// How a body ended.
enum End {
    Done(Value),
    Failed(Failure),
    TimedOut(Duration),
    Cancelled,
}

impl Native {
    /// Waits for a place, if there is none; not for long.
    async fn turn(&self, job: &Job) -> Option<OwnedSemaphorePermit> {
        if let Ok(turn) = self.0.turns.clone().try_acquire_owned() {
            return Some(turn);
        }
        tokio::select! {
            biased;
            turn = self.0.turns.clone().acquire_owned() => return turn.ok(),
            () = tokio::time::sleep(WAIT) => {}
            () = job.cancel.token.cancelled() => return None,
        }
        // No more of them until bodies are short again.
        self.0.pace.store(SLOW, Ordering::Relaxed);
        None
    }

    /// A body ran for so long.
    fn ran(&self, runtime: Duration) {
        let (pace, now) = (self.0.pace.load(Ordering::Relaxed), runtime.as_nanos().min(u128::from(SLOW)) as u64);
        self.0.pace.store((pace - pace / 8) + now / 8, Ordering::Relaxed);
    }

    async fn one(&self, job: Job) -> Finished {
        let began = Instant::now();
        let (headers, name) = (&job.envelope.headers, &job.envelope.headers.task);
        let finish = |outcome, stored| Finished { outcome, stored, runtime: began.elapsed() };
        let Some(entry) = self.0.tasks.load().get(name.as_str()).cloned() else {
            // A reload has taken it out after the worker asked.
            return finish(Outcome::NotBegun, Stored::Nothing);
        };
        let body = match Body::parse(&job.envelope.body) {
            Ok(body) => body,
            Err(why) => {
                job.start.begin(None);
                let exception = Exception::of("kombu.exceptions", "DecodeError", why);
                return self.failed(&job, &Embed::default(), exception, began).await;
            }
        };
        job.start.begin(None);
        let embed = body.embed.clone();
        let end = self.body(&job, &entry, body).await;
        let runtime = began.elapsed();
        self.ran(runtime);
        let ignored = headers.ignore_result.unwrap_or(job.spec.ignore_result);
        match end {
            End::Done(value) => {
                let followed = if builtin::sends(name) {
                    self.sent(&job, &embed, value).await
                } else {
                    self.followed(&job, &embed, &value).await.map(|children| (value, children))
                };
                let (value, children) = match followed {
                    Ok(followed) => followed,
                    Err(exception) => return self.failed(&job, &embed, exception, began).await,
                };
                let short = repr::short(&value);
                let result = wire::Result::Success(value);
                let stored = self.stored(&job, &embed, &result, &children, ignored).await;
                Finished { outcome: Outcome::Succeeded(short), stored, runtime }
            }
            End::Failed(failure) => {
                let again = failure.again != Again::Never && headers.retries < entry.settings.retries;
                if !again {
                    return self.failed(&job, &embed, failure.exception, began).await;
                }
                let pause = match failure.again {
                    Again::After(wait) => wait.max(entry.settings.pause(headers.retries, chance())),
                    _ => entry.settings.pause(headers.retries, chance()),
                };
                if self.again(&job, pause).await.is_err() {
                    return finish(Outcome::NotBegun, Stored::Nothing);
                }
                let result = wire::Result::Retry(failure.exception.clone());
                let stored = if ignored {
                    Stored::Nothing
                } else {
                    self.0.canvas.stored(&job.envelope, &result, &Value::Array(Vec::new()))
                };
                Finished { outcome: Outcome::Retried(failure.exception), stored, runtime }
            }
            // What follows is the worker's to record: it knows whether the task was revoked or goes back.
            End::TimedOut(limit) => finish(Outcome::TimedOut(Exception::time_limit(limit)), Stored::Nothing),
            End::Cancelled => finish(Outcome::Terminated(job.cancel.signal.load(Ordering::Relaxed)), Stored::Nothing),
        }
    }

    /// Runs the body under its limits.
    async fn body(&self, job: &Job, entry: &Entry, body: Body) -> End {
        let headers = &job.envelope.headers;
        let ask = job.cancel.token.child_token();
        let (progress, publisher) = progress::of(self.0.canvas.clone(), job.envelope.clone());
        let call = Call {
            args: body.args,
            kwargs: body.kwargs,
            id: headers.id.as_str().into(),
            task: job.spec.name.clone(),
            attempt: job.attempt,
            retries: headers.retries,
            queue: job.queue.clone(),
            progress,
            cancel: ask.clone(),
        };
        let handler = entry.handler.clone();
        let mut running = AbortOnDropHandle::new(tokio::spawn(async move { handler.run(call).await }));
        let began = tokio::time::Instant::now();
        let (hard, mut soft) = (job.time_limit, job.soft_time_limit);
        let mut patience = None;
        let end = loop {
            tokio::select! {
                ended = &mut running => break match ended {
                    // It was asked to end, and did: what it says of it is of no use.
                    Ok(Err(_)) if job.cancel.token.is_cancelled() => End::Cancelled,
                    Ok(Ok(value)) => End::Done(value),
                    Ok(Err(failure)) => End::Failed(failure),
                    Err(error) => End::Failed(panicked(error)),
                },
                () = at(hard.map(|limit| began + limit)) => break End::TimedOut(hard.unwrap_or_default()),
                () = at(soft.map(|limit| began + limit)) => {
                    soft = None;
                    ask.cancel();
                }
                () = job.cancel.token.cancelled(), if patience.is_none() => {
                    patience = Some(tokio::time::Instant::now() + PATIENCE);
                }
                () = at(patience) => break End::Cancelled,
            }
        };
        drop(running);
        // Nothing that it told may be written after its result.
        publisher.end().await;
        end
    }

    /// Publishes what follows a success. Redis may be away: the task has run, so this waits for it, unless the task is
    /// given up.
    async fn followed(&self, job: &Job, embed: &Embed, value: &Value) -> Result<Value, Exception> {
        insist(|| self.0.canvas.follow(&job.envelope.headers, embed, value)).await
    }

    /// The same for a task whose value is a signature: it is sent, and its results are the value.
    async fn sent(&self, job: &Job, embed: &Embed, signature: Value) -> Result<(Value, Value), Exception> {
        let mut children = insist(|| self.0.canvas.call(&job.envelope.headers, &signature)).await?;
        let value = children.first().cloned().unwrap_or_default();
        if let Value::Array(followed) = self.followed(job, embed, &value).await? {
            children.extend(followed);
        }
        Ok((value, Value::Array(children)))
    }

    /// The result of a success, to be stored by the worker; stored here when a part of a chord has to be counted after it.
    async fn stored(&self, job: &Job, embed: &Embed, result: &wire::Result, children: &Value, ignored: bool) -> Stored {
        let stored = if ignored { Stored::Nothing } else { self.0.canvas.stored(&job.envelope, result, children) };
        if embed.chord.is_null() || job.envelope.headers.group.is_none() {
            return stored;
        }
        self.0.canvas.keep(&job.envelope, stored).await;
        self.0.canvas.counted(&job.envelope, embed, result).await;
        Stored::Nothing
    }

    /// FAILURE: stored, and made known to the chord, the chain and the errbacks.
    async fn failed(&self, job: &Job, embed: &Embed, exception: Exception, began: Instant) -> Finished {
        let runtime = began.elapsed();
        let stored = self.0.canvas.failed(&job.envelope, &job.spec, embed, &exception).await;
        Finished { outcome: Outcome::Failed(exception), stored, runtime }
    }

    /// Publishes the next try.
    async fn again(&self, job: &Job, pause: Duration) -> Result<(), ()> {
        let envelope = &job.envelope;
        loop {
            match self.0.canvas.again(envelope, &job.queue, pause).await {
                Ok(()) => return Ok(()),
                Err(error) if error.is_unavailable() => tokio::time::sleep(PAUSE).await,
                Err(error) => {
                    tracing::warn!(id = envelope.headers.id, error = %chain(&error), "a retry cannot be published");
                    return Err(());
                }
            }
        }
    }
}

impl Runner for Native {
    fn spec(&self, name: &str) -> Option<Arc<Spec>> {
        self.0.tasks.load().get(name).map(|entry| entry.spec.clone())
    }

    fn specs(&self) -> Vec<Arc<Spec>> {
        self.0.tasks.load().values().map(|entry| entry.spec.clone()).collect()
    }

    fn free(&self) -> usize {
        let (places, pace) = (self.places(), self.0.pace.load(Ordering::Relaxed).max(1));
        // As many as would have their turn in time.
        let ahead = if pace < SHORT { (places as u64).saturating_mul(AHEAD / pace).min(MOST) as usize } else { 0 };
        (places + ahead).saturating_sub(self.0.running.load(Ordering::Acquire))
    }

    fn places(&self) -> usize {
        self.0.places.load(Ordering::Relaxed)
    }

    fn freed(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.0.freed.notified())
    }

    fn run(&self, job: Job) -> BoxFuture<'_, Finished> {
        self.0.running.fetch_add(1, Ordering::AcqRel);
        let place = Place(self.clone());
        Box::pin(async move {
            let finished = match place.0.turn(&job).await {
                Some(turn) => {
                    let finished = place.0.one(job).await;
                    drop(turn);
                    finished
                }
                None => Finished { outcome: Outcome::NotBegun, stored: Stored::Nothing, runtime: Duration::ZERO },
            };
            drop(place);
            finished
        })
    }

    fn record(&self, envelope: Arc<Envelope>, recorded: Recorded) -> BoxFuture<'_, bool> {
        Box::pin(async move {
            let spec = self.spec(&envelope.headers.task);
            self.0.canvas.record(&envelope, spec.as_deref(), recorded).await;
            true
        })
    }

    fn pids(&self) -> Vec<u32> {
        vec![std::process::id()]
    }

    fn resize(&self, by: isize) {
        let change = |places: usize| Some(places.saturating_add_signed(by).max(1));
        let before = self.0.places.fetch_update(Ordering::AcqRel, Ordering::Relaxed, change).unwrap_or_default();
        let after = before.saturating_add_signed(by).max(1);
        self.0.turns.add_permits(after.saturating_sub(before));
        if let fewer @ 1.. = before.saturating_sub(after) {
            // Those that run keep theirs until they have ended.
            let turns = self.0.turns.clone();
            tokio::spawn(async move {
                if let Ok(permits) = turns.acquire_many_owned(fewer as u32).await {
                    permits.forget();
                }
            });
        }
        self.0.freed.notify_one();
    }

    fn drain(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            while self.0.running.load(Ordering::Acquire) > 0 {
                self.0.freed.notified().await;
            }
            // Whoever else waits for a place is to know as well.
            self.0.freed.notify_one();
        })
    }
}

/// Sends until Redis is there.
async fn insist<T, F: Future<Output = Result<T, Unsent>>>(mut send: impl FnMut() -> F) -> Result<T, Exception> {
    loop {
        match send().await {
            Ok(sent) => return Ok(sent),
            Err(Unsent::Meaning(error)) => return Err(Exception::own("CanvasError", error.to_string())),
            Err(Unsent::Redis(error)) if !error.is_unavailable() => {
                return Err(Exception::of("kombu.exceptions", "OperationalError", error.to_string()));
            }
            Err(Unsent::Redis(_)) => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn at(time: Option<tokio::time::Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// From 0 to 1.
fn chance() -> f64 {
    let mut bytes = [0; 8];
    if getrandom::fill(&mut bytes).is_err() {
        return 0.5;
    }
    u64::from_le_bytes(bytes) as f64 / u64::MAX as f64
}

fn panicked(error: tokio::task::JoinError) -> Failure {
    let what = match error.try_into_panic() {
        Ok(panic) => said(&*panic),
        Err(_) => "the task was dropped".into(),
    };
    Failure::permanent("Panic", what)
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".into())
}
