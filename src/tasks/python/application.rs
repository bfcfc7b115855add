//! A Celery application as a runner of tasks.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::body::{Body, Told, Wear};
use super::clerk::Clerk;
use super::frame::{Answer, Done};
use super::launch::Launch;
use super::pool::Pool;
use super::{Config, Error, Exported, Options, link};
use crate::process::Signal;
use crate::tasks::wire::Envelope;
use crate::tasks::{Exception, Finished, Job, Outcome, Recorded, Runner, Spec, Stored};

/// A run that waits longer for its turn goes back to the queue.
const WAIT: Duration = Duration::from_millis(500);
/// How long the clerk may take until it begins to record an end. Nobody waits for one that is not there: see [`Runner::record`].
const RECORDING: Duration = Duration::from_secs(5);
/// The same for a Django task: nothing but the clerk can write its row.
const RECORDING_DJANGO: Duration = Duration::from_secs(25);
/// The task that runs Django's own tasks (assets/python/beacon_tasks).
const DJANGO_TASK: &str = "beacon.django_task";
/// How long a coroutine may take to obey.
const OBEDIENCE: Duration = Duration::from_secs(5);

/// Celery's own commands of remote control that only the application can answer.
const ITS_OWN: [&str; 3] = ["conf", "objgraph", "registered"];

/// A Celery application, and the processes that run its tasks; cheap to clone.
#[derive(Clone, Debug)]
pub struct Application(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    clerk: Clerk,
    pool: Pool,
    specs: BTreeMap<Arc<str>, Arc<Spec>>,
    async_concurrency: usize,
    next: AtomicU64,
    wishes: Mutex<Option<mpsc::UnboundedReceiver<Value>>>,
    commands: Vec<String>,
    draining: CancellationToken,
    stop: CancellationToken,
    running: tokio::sync::watch::Sender<usize>,
    /// The signals of those that were terminated and are not yet recorded, by the task's identifier.
    terminated: Mutex<HashMap<String, i32>>,
}

impl Application {
    /// Loads the application and begins to start the processes for it.
    ///
    /// # Errors
    /// There is no interpreter, or the application cannot be loaded.
    pub async fn start(config: &Config, options: &Options) -> Result<(Self, Exported), Error> {
        let launch = Launch::new(config, options)?;
        let stop = CancellationToken::new();
        let (clerk, exported, wishes) = Clerk::start(launch.clone(), config.start_timeout, stop.clone()).await?;
        let commands = clerk.ask("commands", Map::new(), b"").await.map(|answer| answer.names).unwrap_or_default();
        let wear = Wear {
            runs: if config.max_tasks > 0 { config.max_tasks } else { exported.max_tasks.unwrap_or_default() },
            memory: if config.max_memory_bytes > 0 {
                config.max_memory_bytes
            } else {
                exported.max_memory_kib.unwrap_or_default() * 1024
            },
            age: config.max_age,
        };
        for warning in &exported.warnings {
            tracing::warn!("{warning}");
        }
        let places = [options.concurrency, Some(config.processes), exported.concurrency]
            .into_iter()
            .flatten()
            .find(|count| *count > 0)
            .unwrap_or(1);
        let pool = Pool::new(launch, wear, config.start_timeout, config.silence);
        pool.resize(places as isize);
        let application = Self(Arc::new(Inner {
            clerk,
            pool,
            specs: exported.specs(),
            async_concurrency: config.async_concurrency,
            next: AtomicU64::new(1),
            wishes: Mutex::new(Some(wishes)),
            commands,
            draining: CancellationToken::new(),
            stop,
            running: tokio::sync::watch::Sender::new(0),
            terminated: Mutex::default(),
        }));
        Ok((application, exported))
    }

    /// What the application's remote-control commands ask of the worker, as JSON objects with the key `wish`: add_queue,
    /// cancel_queue, resize, rates, revoke, event, shutdown, restart. To be taken once.
    #[must_use]
    pub fn wishes(&self) -> Option<mpsc::UnboundedReceiver<Value>> {
        self.0.wishes.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Runs a remote-control command that the application has defined, or one that tells of the application: its answer,
    /// or the text of its exception. `None` if it has none of this name.
    pub async fn control(&self, method: &str, arguments: &Value) -> Option<Result<Value, String>> {
        let its_own = ITS_OWN.contains(&method);
        if !its_own && !self.0.commands.iter().any(|name| name == method) {
            return None;
        }
        let head = object(json!({"method": method, "all": its_own}));
        let answer = self.0.clerk.ask("control", head, arguments.to_string().as_bytes()).await;
        Some(match answer {
            Some(Answer { unknown: true, .. }) => return None,
            Some(Answer { error: Some(error), .. }) => Err(error),
            Some(answer) => Ok(answer.value.unwrap_or(Value::Null)),
            None => Err("the application does not answer".into()),
        })
    }

    /// The text of `celery report`.
    pub async fn report(&self) -> Option<String> {
        self.0.clerk.ask("report", Map::new(), b"").await?.text
    }

    /// The worker takes tasks: the signal worker_ready.
    pub async fn started(&self) {
        self.0.clerk.ask("started", Map::new(), b"").await;
    }

    /// The stop begins: the signal worker_shutting_down.
    pub async fn stopping(&self, signal: &str, how: &str) {
        self.0.clerk.ask("stopping", object(json!({"sig": signal, "how": how})), b"").await;
    }

    /// Replaces all processes, each when its successor is ready.
    pub fn renew(&self) {
        self.0.pool.renew();
    }

    /// Why no process of it can be started, while that is so.
    #[must_use]
    pub fn trouble(&self) -> Option<Arc<str>> {
        self.0.pool.trouble()
    }

    /// Ends all processes; the clerk last, after the signal worker_shutdown.
    pub async fn close(&self) {
        self.0.draining.cancel();
        self.0.pool.close().await;
        self.0.clerk.ask("stopped", Map::new(), b"").await;
        self.0.stop.cancel();
    }

    /// Hands the job to the process that has most room.
    fn give(&self, number: u64, job: &Job) -> Option<(Body, mpsc::UnboundedReceiver<Told>)> {
        let beside = job.spec.concurrent;
        let mut bodies = self.0.pool.bodies();
        if beside {
            bodies.retain(|body| body.coroutines().is_some_and(|count| count < self.0.async_concurrency));
            bodies.sort_by_key(|body| body.coroutines().unwrap_or(usize::MAX));
        } else {
            bodies.retain(|body| body.room().0 > 0);
            bodies.sort_by_key(|body| body.room().1);
        }
        bodies.into_iter().find_map(|body| {
            let told = body.give(number, &job.envelope.raw, job.redelivered || job.envelope.redelivered, beside)?;
            Some((body, told))
        })
    }

    async fn perform(&self, job: Job) -> Finished {
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        let given = Instant::now();
        let (body, mut told) = loop {
            if let Some(given) = self.give(number, &job) {
                break given;
            }
            let left = WAIT.saturating_sub(given.elapsed());
            if left.is_zero() || job.cancel.token.is_cancelled() {
                return nothing(Outcome::NotBegun);
            }
            let _ = tokio::time::timeout(left.min(Duration::from_millis(20)), self.0.pool.turn()).await;
        };
        // In line.
        let mut asked = false;
        loop {
            let pause = if asked { Duration::from_hours(1) } else { WAIT };
            tokio::select! {
                biased;
                heard = told.recv() => match heard {
                    Some(Told::Begun) => break,
                    Some(Told::Done(done, value)) => return self.done(&job, *done, value).await,
                    Some(Told::Lost(status)) => return self.lost(&job, &link::human(status), Duration::ZERO).await,
                    Some(Told::Dropped) | None => return nothing(Outcome::NotBegun),
                },
                () = job.cancel.token.cancelled(), if !asked => {
                    body.take_back(number);
                    asked = true;
                }
                () = tokio::time::sleep(pause) => {
                    body.take_back(number);
                    asked = true;
                }
            }
        }
        self.attend(job, number, &body, told).await
    }

    /// A run whose body has begun.
    async fn attend(&self, job: Job, number: u64, body: &Body, mut told: mpsc::UnboundedReceiver<Told>) -> Finished {
        let begun = Instant::now();
        job.start.begin(Some(body.pid()));
        let mut soft = job.soft_time_limit;
        let mut cancelled = false;
        let never = Duration::from_hours(24 * 365);
        loop {
            let hard = begun + job.time_limit.unwrap_or(never);
            let next_soft = begun + soft.unwrap_or(never);
            tokio::select! {
                biased;
                heard = told.recv() => {
                    let ran = begun.elapsed();
                    return match heard {
                        Some(Told::Begun) => continue,
                        Some(Told::Done(done, _)) if cancelled && done.end != "ok" => self.terminated(&job, ran),
                        Some(Told::Done(done, value)) => self.done(&job, *done, value).await,
                        Some(Told::Lost(_)) if cancelled => self.terminated(&job, ran),
                        Some(Told::Lost(status)) => self.lost(&job, &link::human(status), ran).await,
                        Some(Told::Dropped) | None => nothing(Outcome::NotBegun),
                    };
                }
                () = job.cancel.token.cancelled(), if !cancelled => {
                    cancelled = true;
                    if job.spec.concurrent {
                        body.stop_coroutine(number);
                    } else {
                        body.terminate(signal(&job));
                    }
                }
                () = tokio::time::sleep_until(next_soft.into()), if soft.is_some() => {
                    let seconds = soft.take().unwrap_or_default().as_secs_f64();
                    let headers = &job.envelope.headers;
                    tracing::warn!(task = headers.task, id = headers.id, "Soft time limit ({seconds}s) exceeded");
                    body.soft(number);
                }
                () = tokio::time::sleep_until(hard.into()), if job.time_limit.is_some() => {
                    return self.timed_out(&job, number, body, told, begun).await;
                }
            }
        }
    }

    async fn done(&self, job: &Job, done: Done, value: Bytes) -> Finished {
        let runtime = Duration::try_from_secs_f64(done.runtime).unwrap_or_default();
        if done.end == "lost" {
            return self.lost(job, &format!("exitcode {}", done.exit), runtime).await;
        }
        let state = match &*done.state {
            "SUCCESS" => Some("SUCCESS"),
            "FAILURE" => Some("FAILURE"),
            _ => None,
        };
        let stored = state.map_or(Stored::Nothing, |state| Stored::Meta { value, state });
        let outcome = match &*done.end {
            "ok" => Outcome::Succeeded(done.repr),
            "retry" => Outcome::Retried(exception(done)),
            // Where the message counts as acknowledged when the body begins, a Reject comes too late.
            "reject" if job.spec.acks_late => Outcome::Rejected { requeue: done.requeue },
            "replaced" => Outcome::Replaced,
            "reject" | "ignore" => Outcome::Ignored,
            _ => Outcome::Failed(exception(done)),
        };
        Finished { outcome, stored, runtime }
    }

    /// The process ended: what Celery's parent process makes of it.
    async fn lost(&self, job: &Job, status: &str, runtime: Duration) -> Finished {
        let headers = &job.envelope.headers;
        // billiard counts its jobs; we count tries.
        let message = format!("Worker exited prematurely: {status} Job: {}.", job.attempt);
        tracing::error!(task = headers.task, id = headers.id, "the process that ran a task was lost ({status})");
        let head = object(json!({"why": message, "redelivered": job.redelivered}));
        let answer = self.0.clerk.ask("lost", head, &job.envelope.raw).await.unwrap_or_default();
        let exception = own("WorkerLostError", "billiard.exceptions", &message);
        let outcome = match answer {
            Answer { succeeded: Some(repr), .. } => Outcome::Succeeded(repr),
            Answer { retried: true, .. } => Outcome::Retried(exception),
            _ => Outcome::Lost(exception),
        };
        Finished { outcome, stored: Stored::Nothing, runtime }
    }

    /// It was ended from outside. With a signal, somebody revoked it; without one, the worker stops and gives it back.
    fn terminated(&self, job: &Job, runtime: Duration) -> Finished {
        let number = job.cancel.signal.load(Ordering::Relaxed);
        if number != 0 {
            let mut terminated = self.0.terminated.lock().unwrap_or_else(PoisonError::into_inner);
            terminated.insert(job.envelope.headers.id.clone(), number);
        }
        Finished {
            outcome: Outcome::Terminated(if number == 0 { 15 } else { number }),
            stored: Stored::Nothing,
            runtime,
        }
    }

    /// The hard time limit is over.
    async fn timed_out(
        &self,
        job: &Job,
        number: u64,
        body: &Body,
        mut told: mpsc::UnboundedReceiver<Told>,
        begun: Instant,
    ) -> Finished {
        let headers = &job.envelope.headers;
        let limit = job.time_limit.unwrap_or_default().as_secs_f64();
        tracing::error!(task = headers.task, id = headers.id, "Hard time limit ({limit}s) exceeded");
        if job.spec.concurrent {
            body.stop_coroutine(number);
            let body = body.clone();
            tokio::spawn(async move {
                if tokio::time::timeout(OBEDIENCE, told.recv()).await.is_err() {
                    // It does not obey: the others in its process may end, and then the process goes.
                    body.retire();
                }
            });
        } else {
            body.end_group();
            loop {
                match told.recv().await {
                    // It ended in the last moment.
                    Some(Told::Done(done, value)) if done.end != "lost" => return self.done(job, *done, value).await,
                    Some(Told::Begun) => {}
                    _ => break,
                }
            }
        }
        let exception = Exception::time_limit(job.time_limit.unwrap_or_default());
        Finished { outcome: Outcome::TimedOut(exception), stored: Stored::Nothing, runtime: begun.elapsed() }
    }
}

impl Runner for Application {
    fn spec(&self, name: &str) -> Option<Arc<Spec>> {
        self.0.specs.get(name).cloned()
    }

    fn specs(&self) -> Vec<Arc<Spec>> {
        self.0.specs.values().cloned().collect()
    }

    fn free(&self) -> usize {
        if self.0.draining.is_cancelled() {
            return 0;
        }
        let bodies = self.0.pool.bodies();
        let line: usize = bodies.iter().map(|body| body.room().0).sum();
        // Only who runs coroutines is offered their places: the first one comes through the line.
        let beside = bodies.iter().filter_map(Body::coroutines).filter(|count| *count > 0);
        line + beside.map(|count| self.0.async_concurrency.saturating_sub(count)).sum::<usize>()
    }

    fn places(&self) -> usize {
        self.0.pool.count()
    }

    fn freed(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.0.pool.freed())
    }

    fn run(&self, job: Job) -> BoxFuture<'_, Finished> {
        Box::pin(async move {
            self.0.running.send_modify(|count| *count += 1);
            let finished = self.perform(job).await;
            self.0.running.send_modify(|count| *count -= 1);
            finished
        })
    }

    fn record(&self, envelope: Arc<Envelope>, recorded: Recorded) -> BoxFuture<'_, bool> {
        Box::pin(async move {
            let headers = &envelope.headers;
            let (request, head) = match recorded {
                Recorded::Revoked(reason) => {
                    let signal = self.0.terminated.lock().unwrap_or_else(PoisonError::into_inner).remove(&headers.id);
                    ("revoked", json!({"reason": reason, "signum": signal}))
                }
                Recorded::Failed(exception) if exception.class == "TimeLimitExceeded" => {
                    ("timeout", json!({"limit": exception.message.parse::<f64>().unwrap_or_default()}))
                }
                Recorded::Failed(exception) => {
                    let Exception { class, module, message, traceback, .. } = exception;
                    ("failed", json!({"class": class, "module": module, "message": message, "trace": traceback}))
                }
            };
            let patience = if headers.task == DJANGO_TASK { RECORDING_DJANGO } else { RECORDING };
            self.0.clerk.record(request, object(head), &envelope.raw, patience).await
        })
    }

    fn pids(&self) -> Vec<u32> {
        self.0.pool.bodies().iter().map(Body::pid).collect()
    }

    fn resize(&self, by: isize) {
        self.0.pool.resize(by.max(1 - self.0.pool.count() as isize));
    }

    fn drain(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.0.draining.cancel();
            let _ = self.0.running.subscribe().wait_for(|count| *count == 0).await;
        })
    }
}

fn object(value: Value) -> Map<String, Value> {
    if let Value::Object(map) = value { map } else { Map::new() }
}

fn nothing(outcome: Outcome) -> Finished {
    Finished { outcome, stored: Stored::Nothing, runtime: Duration::ZERO }
}

fn own(class: &str, module: &str, message: &str) -> Exception {
    Exception {
        class: class.into(),
        module: module.into(),
        message: message.into(),
        args: None,
        repr: format!("{class}('{message}')"),
        traceback: None,
    }
}

fn exception(done: Done) -> Exception {
    let Done { class, module, message, repr, trace, .. } = done;
    Exception { class, module, message, args: None, repr, traceback: trace }
}

/// The signal that ends it.
fn signal(job: &Job) -> Signal {
    Signal::from_named_raw(job.cancel.signal.load(Ordering::Relaxed)).unwrap_or(Signal::TERM)
}
