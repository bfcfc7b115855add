//! Workers with native tasks on a real Redis: what becomes of messages, end to end.

mod ends;
mod follows;
mod limits;
mod losses;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use futures_util::future::BoxFuture;
use serde_json::{Map, Value, json};

use super::*;
use crate::tasks::broker::{Broker, Publish};
use crate::tasks::canvas::Canvas;
use crate::tasks::desk::Desk as _;
use crate::tasks::event::Witness;
use crate::tasks::limits::Shared;
use crate::tasks::native::{Call, Failure, Handler, Native, Registry, Settings};
use crate::tasks::results::Results;
use crate::tasks::runner::Runner;
use crate::tasks::server::{Server, ask, until};
use crate::tasks::wire::{Embed, Limits, Meta, Task};

/// A body from a function.
struct Body<F>(F);

impl<F, R> Handler for Body<F>
where
    F: Fn(Call) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Value, Failure>> + Send + 'static,
{
    fn run(&self, call: Call) -> BoxFuture<'_, Result<Value, Failure>> {
        Box::pin((self.0)(call))
    }
}

fn body<F, R>(run: F) -> Arc<dyn Handler>
where
    F: Fn(Call) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Value, Failure>> + Send + 'static,
{
    Arc::new(Body(run))
}

/// Remembers what it is told.
#[derive(Default)]
struct Log(Mutex<Vec<(String, String)>>);

impl Witness for Log {
    fn tell(&self, event: &Event) {
        let what = format!("{:?}", event.what);
        let name: String = what.chars().take_while(|ch| ch.is_alphanumeric()).collect();
        lock(&self.0).push((event.envelope.headers.id.clone(), name));
    }
}

impl Log {
    fn of(&self, id: &str) -> Vec<String> {
        lock(&self.0).iter().filter(|(of, _)| of == id).map(|(_, what)| what.clone()).collect()
    }
}

/// Redis, and a worker on it.
struct Rig {
    server: Server,
    broker: Broker,
    results: Results,
    log: Arc<Log>,
}

/// A worker that runs.
struct Working {
    worker: Worker,
    stop: CancellationToken,
    ended: tokio::task::JoinHandle<()>,
}

impl Working {
    async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(Duration::from_secs(20), self.ended).await.unwrap().unwrap();
    }

    /// As SIGKILL would: nothing is said any more.
    fn kill(self) {
        self.ended.abort();
    }
}

impl Rig {
    async fn new() -> Self {
        let server = Server::start();
        let (broker, results) = (server.broker().await, server.results().await);
        Self { server, broker, results, log: Arc::new(Log::default()) }
    }

    fn options(&self, node: &str, registry: Registry, places: usize) -> Options {
        let canvas = Canvas::new(self.broker.clone(), self.results.clone(), "celery", node.into());
        let native = Native::new(canvas.clone(), registry, places);
        Options {
            node: node.into(),
            queues: vec!["celery".into()],
            runners: vec![Arc::new(native)],
            broker: self.broker.clone(),
            results: self.results.clone(),
            canvas,
            witnesses: vec![self.log.clone()],
            accept: vec!["application/json".into()],
            limits: Limits::new(1 << 20),
            max_attempts: 3,
            time_limit: Duration::ZERO,
            soft_time_limit: Duration::ZERO,
            drain: Duration::from_millis(500),
            figures: Figures::default(),
        }
    }

    #[expect(clippy::unused_self, reason = "a worker belongs to its rig")]
    fn start(&self, options: Options) -> Working {
        let worker = Worker::new(options);
        let stop = CancellationToken::new();
        let (running, stopped, hurried) = (worker.clone(), stop.clone(), CancellationToken::new());
        let ended = tokio::spawn(async move { running.run(stopped, hurried).await });
        Working { worker, stop, ended }
    }

    /// A worker that knows these tasks, with ten places.
    fn work(&self, tasks: Registry) -> Working {
        self.start(self.options("w@here", tasks, 10))
    }

    async fn send(&self, task: Task<'_>) {
        let queue = if task.routing_key.is_empty() { "celery" } else { task.routing_key };
        let message = Task { routing_key: queue, origin: "test", ..task.clone() }.message();
        self.put(queue, message).await;
    }

    async fn put(&self, queue: &str, raw: bytes::Bytes) {
        self.broker.publish(&[Publish { queue, priority: 0, raw, queue_expires: None }]).await.unwrap();
    }

    async fn result(&self, id: &str) -> Meta {
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            match self.results.get(id).await.unwrap() {
                Some(meta) if meta.is_ready() => return meta,
                other => assert!(Instant::now() < end, "{id} has no result in time: {other:?}"),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Nothing of any claim is left.
    async fn settled(&self) {
        let end = Instant::now() + Duration::from_secs(10);
        while ask(self.broker.client(), "EXISTS", &["unacked", "unacked_index"]).await != "0" {
            assert!(Instant::now() < end, "claims are left");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn failure(meta: &Meta) -> (&str, &Value) {
    assert_eq!(meta.status, "FAILURE");
    (meta.result["exc_type"].as_str().unwrap(), &meta.result["exc_message"][0])
}

/// add, fail, sleep, panic.
fn registry() -> Registry {
    let mut registry = Registry::default();
    let add = body(|call: Call| async move {
        let numbers: Option<Vec<i64>> = call.args.iter().map(Value::as_i64).collect();
        let numbers = numbers.ok_or_else(|| Failure::arguments("numbers only"))?;
        Ok(json!(numbers.iter().sum::<i64>()))
    });
    registry.register("add", add, Settings::default());
    let sum = body(|call: Call| async move {
        let numbers = call.args[0].as_array().cloned().unwrap_or_default();
        Ok(json!(numbers.iter().filter_map(Value::as_i64).sum::<i64>()))
    });
    registry.register("sum", sum, Settings::default());
    let fail = body(|_| async { Err(Failure::permanent("Broken", "it is broken")) });
    registry.register("fail", fail, Settings::default());
    let panics = body(|_| async { panic!("out of cheese") });
    registry.register("panic", panics, Settings::default());
    let sleep = body(|call: Call| async move {
        tokio::time::sleep(Duration::from_secs_f64(call.args[0].as_f64().unwrap())).await;
        Ok(json!("slept"))
    });
    registry.register("sleep", sleep, Settings::default());
    registry
}

fn task<'a>(task: &'a str, id: &'a str, args: &'a [Value]) -> Task<'a> {
    Task { task, id, args, ..Task::default() }
}

/// A runner that is full until it is told otherwise; what is "in line" is never begun.
struct Full(AtomicUsize);

impl Runner for Full {
    fn spec(&self, name: &str) -> Option<Arc<Spec>> {
        ["python", "in line"].contains(&name).then(|| Arc::new(Spec::new(name)))
    }
    fn specs(&self) -> Vec<Arc<Spec>> {
        self.spec("python").into_iter().collect()
    }
    fn free(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
    fn places(&self) -> usize {
        1
    }
    fn freed(&self) -> BoxFuture<'_, ()> {
        Box::pin(tokio::time::sleep(Duration::from_millis(10)))
    }
    fn run(&self, job: crate::tasks::Job) -> BoxFuture<'_, crate::tasks::Finished> {
        Box::pin(async move {
            if &*job.spec.name == "in line" {
                job.cancel.token.cancelled().await;
                return crate::tasks::Finished {
                    outcome: crate::tasks::Outcome::NotBegun,
                    stored: crate::tasks::Stored::Nothing,
                    runtime: Duration::ZERO,
                };
            }
            job.start.begin(Some(1));
            let value = wire::Result::Success(json!("ran")).meta(&job.envelope, &json!([]), None);
            crate::tasks::Finished {
                outcome: crate::tasks::Outcome::Succeeded("'ran'".into()),
                stored: crate::tasks::Stored::Meta { value, state: "SUCCESS" },
                runtime: Duration::ZERO,
            }
        })
    }
    fn record(&self, _: Arc<Envelope>, _: crate::tasks::Recorded) -> BoxFuture<'_, bool> {
        Box::pin(async { false })
    }
    fn pids(&self) -> Vec<u32> {
        Vec::new()
    }
    fn resize(&self, _: isize) {}
    fn drain(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

impl Rig {
    /// So many claims are left.
    async fn settled_but(&self, left: usize) {
        let end = Instant::now() + Duration::from_secs(10);
        while ask(self.broker.client(), "HLEN", &["unacked"]).await != left.to_string() {
            assert!(Instant::now() < end, "other claims are left");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// A result, once Redis is there again.
    async fn result_after(&self, _: &Server, id: &str) -> Meta {
        until("Redis is there again", || self.broker.is_connected() && self.results.is_connected()).await;
        self.result(id).await
    }
}
