//! Workers with native tasks on a real Redis: what becomes of messages, end to end.

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

#[tokio::test(flavor = "multi_thread")]
async fn a_task_runs_and_its_result_and_events_are_told() {
    let rig = Rig::new().await;
    let working = rig.work(registry());
    rig.send(task("add", "i1", &[json!(2), json!(3)])).await;
    let meta = rig.result("i1").await;
    assert_eq!((meta.status.as_str(), &meta.result, &meta.children), ("SUCCESS", &json!(5), &json!([])));
    rig.settled().await;
    until("it is told", || rig.log.of("i1").len() == 3).await;
    assert_eq!(rig.log.of("i1"), ["Received", "Started", "Succeeded"]);
    assert_eq!(working.worker.totals().get("add"), Some(&1));
    let id = working.worker.id().to_owned();
    working.stop().await;
    assert_eq!(ask(rig.broker.client(), "ZSCORE", &["beacon:workers", &id]).await, "nil");
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_answered_each_in_its_way() {
    let rig = Rig::new().await;
    let working = rig.work(registry());
    rig.send(task("fail", "f1", &[])).await;
    rig.send(task("panic", "f2", &[])).await;
    rig.send(task("add", "f3", &[json!("x")])).await;
    rig.send(task("no.such", "f4", &[])).await;
    let one = rig.result("f1").await;
    assert_eq!(failure(&one), ("Broken", &json!("it is broken")));
    assert_eq!(failure(&rig.result("f2").await), ("Panic", &json!("out of cheese")));
    assert_eq!(failure(&rig.result("f3").await), ("TypeError", &json!("numbers only")));
    let unknown = rig.result("f4").await;
    assert_eq!(failure(&unknown), ("NotRegistered", &json!("no.such")));
    assert_eq!(unknown.result["exc_module"], "celery.exceptions");
    rig.settled().await;
    working.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_messages_become_dead_letters_or_failures_and_stop_nothing() {
    let rig = Rig::new().await;
    let working = rig.work(registry());
    rig.put("celery", "no json".into()).await;
    rig.put("celery", "\u{ff}{".into()).await;
    rig.put("celery", r#"{"headers": {"id": "b1"}, "body": "", "properties": {}}"#.into()).await;
    let text = String::from_utf8(task("add", "b2", &[]).message().to_vec()).unwrap();
    rig.put("celery", text.replace("application/json", "application/x-python-serialize").into()).await;
    let huge = "x".repeat(2 << 20);
    rig.send(task("add", "b3", &[json!(huge)])).await;
    rig.send(task("add", "good", &[json!(1)])).await;
    assert_eq!(rig.result("good").await.result, json!(1));
    assert_eq!(failure(&rig.result("b1").await).0, "DecodeError");
    assert_eq!(failure(&rig.result("b2").await).0, "ContentDisallowed");
    assert_eq!(failure(&rig.result("b3").await).0, "DecodeError");
    rig.settled().await;
    assert_eq!(rig.broker.dead_count().await.unwrap(), 4);
    working.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_due_waits_in_redis_and_what_is_too_late_is_revoked() {
    let rig = Rig::new().await;
    let now = wire::now();
    rig.send(Task { eta: Some(now + 0.4), ..task("add", "later", &[json!(1)]) }).await;
    rig.send(Task { expires: Some(now - 1.0), ..task("add", "late", &[json!(1)]) }).await;
    rig.send(Task { eta: Some(now + 60.0), expires: Some(now + 0.5), ..task("add", "both", &[]) }).await;
    let working = rig.work(registry());
    assert_eq!(rig.result("late").await.status, "REVOKED");
    until("both wait", || working.worker.0.held.len() == 0 && rig.log.of("both").len() == 1).await;
    rig.settled().await;
    assert_eq!(working.worker.scheduled(10).await.len(), 2);
    assert_eq!(rig.result("later").await.result, json!(1));
    assert!(wire::now() >= now + 0.4, "it ran before its time");
    assert_eq!(rig.result("both").await.status, "REVOKED");
    working.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_passing_failure_is_tried_again_with_the_same_identifier() {
    let rig = Rig::new().await;
    let mut tasks = registry();
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = tries.clone();
    let flaky = body(move |call: Call| {
        let tries = counted.clone();
        async move {
            let before = tries.fetch_add(1, Ordering::SeqCst);
            assert_eq!(call.retries as usize, before);
            if before < 2 { Err(Failure::passing("Busy", "not now")) } else { Ok(json!(before)) }
        }
    });
    let settings = Settings { retries: 2, retry_delay: Duration::from_millis(20), ..Settings::default() };
    tasks.register("flaky", flaky, settings.clone());
    tasks.register("hopeless", body(|_| async { Err(Failure::passing("Busy", "never")) }), settings);
    let working = rig.work(tasks);
    rig.send(task("flaky", "r1", &[])).await;
    rig.send(task("hopeless", "r2", &[])).await;
    assert_eq!(rig.result("r1").await.result, json!(2));
    assert_eq!(tries.load(Ordering::SeqCst), 3);
    assert_eq!(failure(&rig.result("r2").await), ("Busy", &json!("never")));
    until("it is told", || rig.log.of("r1").iter().any(|what| what == "Succeeded")).await;
    assert_eq!(rig.log.of("r1").iter().filter(|what| *what == "Retried").count(), 2);
    rig.settled().await;
    working.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_time_end_a_body() {
    let rig = Rig::new().await;
    let mut tasks = registry();
    let polite = body(|call: Call| async move {
        call.cancel.cancelled().await;
        Err(Failure::permanent("SoftTimeLimitExceeded", "asked to end"))
    });
    tasks.register("polite", polite, Settings { soft_time_limit: Duration::from_millis(50), ..Settings::default() });
    let working = rig.work(tasks);
    rig.send(Task { limits: (Some(0.1), None), ..task("sleep", "t1", &[json!(60)]) }).await;
    rig.send(task("polite", "t2", &[])).await;
    let hard = rig.result("t1").await;
    assert_eq!(failure(&hard), ("TimeLimitExceeded", &json!("0.1")));
    assert_eq!(failure(&rig.result("t2").await).0, "SoftTimeLimitExceeded");
    rig.settled().await;
    working.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_worker_loses_nothing() {
    let rig = Rig::new().await;
    let first = rig.start(rig.options("one@here", registry(), 4));
    rig.send(task("sleep", "l1", &[json!(2)])).await;
    until("it runs", || first.worker.active().len() == 1).await;
    let id = first.worker.id().to_owned();
    first.kill();
    // As if it had been silent for as long as it takes.
    let long_ago = ((wire::now() - 60.0) * 1e3).to_string();
    let second = rig.start(rig.options("two@here", registry(), 4));
    // The first one's beat may be on its way.
    until("it is silent", || true).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    ask(rig.broker.client(), "ZADD", &["beacon:workers", &long_ago, &id]).await;
    until("the other one has it", || second.worker.active().len() == 1).await;
    let held = &second.worker.active()[0];
    assert!(held.envelope.redelivered);
    assert_eq!(rig.result("l1").await.result, json!("slept"));
    rig.settled().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_and_then_gives_back() {
    let rig = Rig::new().await;
    let first = rig.start(rig.options("one@here", registry(), 4));
    rig.send(task("sleep", "short", &[json!(0.2)])).await;
    rig.send(task("sleep", "long", &[json!(60)])).await;
    until("both run", || first.worker.active().len() == 2).await;
    first.stop().await;
    assert_eq!(rig.result("short").await.status, "SUCCESS");
    assert!(rig.results.get("long").await.unwrap().is_none(), "what is given back has no end");
    rig.settled().await;
    assert_eq!(ask(rig.broker.client(), "LLEN", &["celery"]).await, "1");
    assert!(!rig.log.of("long").contains(&"Revoked".to_owned()));
    let message = ask(rig.broker.client(), "LRANGE", &["celery", "0", "-1"]).await;
    assert!(message.contains("\"redelivered\": true"));
}

#[tokio::test(flavor = "multi_thread")]
async fn revocations_end_what_runs_waits_and_comes() {
    let rig = Rig::new().await;
    let working = rig.work(registry());
    let desk = working.worker.clone();
    rig.send(task("sleep", "v1", &[json!(60)])).await;
    rig.send(Task { eta: Some(wire::now() + 60.0), ..task("add", "v2", &[]) }).await;
    until("one runs and one waits", || desk.active().len() == 1 && rig.log.of("v2").len() == 1).await;
    rig.settled_but(1).await;
    let ran = desk.revoke(vec!["v1".into(), "v2".into(), "v3".into()], Some(15)).await;
    assert_eq!(ran, ["v1"]);
    for id in ["v1", "v2", "v3"] {
        let meta = rig.result(id).await;
        let reason = if id == "v1" { "terminated" } else { "revoked" };
        assert_eq!((meta.status.as_str(), &meta.result["exc_message"][0]), ("REVOKED", &json!(reason)), "{id}");
    }
    assert_eq!(rig.broker.parked_count().await.unwrap(), 0);
    rig.send(task("add", "v3", &[json!(1)])).await;
    until("it is dropped", || rig.log.of("v3").contains(&"Revoked".to_owned())).await;
    rig.settled().await;
    let mut revoked = desk.revoked().await;
    revoked.sort();
    assert_eq!(revoked, ["v1", "v2", "v3"]);
    working.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_limit_spreads_runs_and_can_be_lifted() {
    let rig = Rig::new().await;
    let mut tasks = registry();
    let times = Arc::new(Mutex::new(Vec::new()));
    let noted = times.clone();
    let note = body(move |_| {
        lock(&noted).push(Instant::now());
        async { Ok(Value::Null) }
    });
    tasks.register("note", note, Settings { rate: Some(5.0), ..Settings::default() });
    let working = rig.work(tasks);
    for id in ["n1", "n2", "n3"] {
        rig.send(task("note", id, &[])).await;
    }
    for id in ["n1", "n2", "n3"] {
        rig.result(id).await;
    }
    let mut all = lock(&times).clone();
    all.sort();
    assert!(all[2] - all[0] >= Duration::from_millis(340), "{:?}", all[2] - all[0]);
    assert!(working.worker.set_rate("note", Some(0.001)) && !working.worker.set_rate("none", None));
    for id in ["n4", "n5"] {
        rig.send(task("note", id, &[])).await;
    }
    rig.result("n4").await;
    until("it waits", || working.worker.0.held.len() == 0).await;
    rig.settled().await;
    working.worker.set_rate("note", None);
    rig.result("n5").await;
    working.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn places_of_a_task_are_never_exceeded() {
    let rig = Rig::new().await;
    let mut tasks = registry();
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counted = |now: &Arc<AtomicUsize>, most: &Arc<AtomicUsize>| {
        let (now, most) = (now.clone(), most.clone());
        body(move |_| {
            let (now, most) = (now.clone(), most.clone());
            async move {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(30)).await;
                now.fetch_sub(1, Ordering::SeqCst);
                Ok(Value::Null)
            }
        })
    };
    tasks.register("two", counted(&now, &most), Settings { concurrency: 2, ..Settings::default() });
    let working = rig.work(tasks);
    let ids: Vec<String> = (0..10).map(|id| format!("p{id}")).collect();
    for id in &ids {
        rig.send(task("two", id, &[])).await;
    }
    for id in &ids {
        rig.result(id).await;
    }
    assert_eq!(most.load(Ordering::SeqCst), 2);
    rig.settled().await;
    working.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shared_limits_hold_over_all_workers() {
    let rig = Rig::new().await;
    let places: Arc<Mutex<HashMap<String, (usize, usize)>>> = Arc::default();
    let tasks = || {
        let mut tasks = registry();
        let places = places.clone();
        let run = body(move |call: Call| {
            let places = places.clone();
            async move {
                let tenant = call.kwargs["tenant"].as_str().unwrap().to_owned();
                {
                    let mut places = lock(&places);
                    let (now, most) = places.entry(tenant.clone()).or_default();
                    *now += 1;
                    *most = (*most).max(*now);
                }
                tokio::time::sleep(Duration::from_millis(40)).await;
                lock(&places).get_mut(&tenant).unwrap().0 -= 1;
                Ok(Value::Null)
            }
        });
        let shared = Shared { key: "tenant:{kwargs.tenant}".into(), concurrency: Some(1), rate: None };
        tasks.register("one", run, Settings { shared: Some(shared), ..Settings::default() });
        tasks
    };
    let (one, two) = (rig.start(rig.options("one@here", tasks(), 10)), rig.start(rig.options("two@here", tasks(), 10)));
    let began = Instant::now();
    for id in 0..12 {
        let tenant = if id % 2 == 0 { "a" } else { "b" };
        let kwargs = Map::from_iter([("tenant".to_owned(), json!(tenant))]);
        rig.send(Task { kwargs, ..task("one", &format!("s{id}"), &[]) }).await;
    }
    for id in 0..12 {
        rig.result(&format!("s{id}")).await;
    }
    let most: Vec<usize> = lock(&places).values().map(|(_, most)| *most).collect();
    assert_eq!(most, [1, 1]);
    // Six of 40 ms one after the other, and both tenants beside each other: no clock waits in between.
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    rig.settled().await;
    assert_eq!(ask(rig.broker.client(), "EXISTS", &["beacon:holds", "beacon:limit:tenant:a"]).await, "0");
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_a_task_is_sent() {
    let rig = Rig::new().await;
    let working = rig.work(registry());
    let signature = |task: &str, args: Value, id: &str| {
        json!({"task": task, "args": args, "kwargs": {}, "options": {"task_id": id}, "subtask_type": null,
            "immutable": false})
    };
    // A chain with a link on its first step: 1 + 2, + 10, + 100, and + 1000 beside it.
    let embed = Embed {
        callbacks: json!([signature("add", json!([1000]), "c-link")]),
        chain: json!([signature("add", json!([100]), "c3"), signature("add", json!([10]), "c2")]),
        ..Embed::default()
    };
    rig.send(Task { embed, ..task("add", "c1", &[json!(1), json!(2)]) }).await;
    assert_eq!(rig.result("c3").await.result, json!(113));
    assert_eq!(rig.result("c-link").await.result, json!(1003));
    let first = rig.result("c1").await;
    assert_eq!(first.children, json!([[["c-link", null], null], [["c2", null], null]]));
    let second = rig.result("c2").await;
    assert_eq!((&second.result, &second.all["parent_id"]), (&json!(13), &json!("c1")));
    // A chord, sent by a callback.
    let chord = json!({"task": "celery.chord", "args": [], "kwargs": {"kwargs": {},
        "header": [signature("add", json!([1]), "h1"), signature("add", json!([2]), "h2")],
        "body": signature("sum", json!([]), "h-body")}, "options": {}, "subtask_type": "chord", "immutable": false});
    let embed = Embed { callbacks: json!([chord]), ..Embed::default() };
    rig.send(Task { embed, ..task("add", "h0", &[json!(10)]) }).await;
    assert_eq!(rig.result("h-body").await.result, json!(23));
    rig.settled().await;
    working.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_reaches_chain_chord_and_errbacks() {
    let rig = Rig::new().await;
    let mut tasks = registry();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hears = heard.clone();
    let errback = body(move |call: Call| {
        lock(&hears).push(call.args[0].clone());
        async { Ok(Value::Null) }
    });
    tasks.register("errback", errback, Settings::default());
    let working = rig.work(tasks);
    let signature = |task: &str, options: Value| json!({"task": task, "args": [], "kwargs": {}, "options": options, "subtask_type": null, "immutable": false});
    let errback = || signature("errback", json!({}));
    let embed = Embed {
        errbacks: json!([errback()]),
        chain: json!([signature("add", json!({"task_id": "e3"})), signature("add", json!({"task_id": "e2"}))]),
        ..Embed::default()
    };
    rig.send(Task { embed, ..task("fail", "e1", &[]) }).await;
    for id in ["e1", "e2", "e3"] {
        assert_eq!(failure(&rig.result(id).await), ("Broken", &json!("it is broken")), "{id}");
    }
    // A chord of which one part is unknown: counted all the same, and its body fails.
    ask(rig.broker.client(), "SET", &["celery-taskset-meta-g1.s", "2"]).await;
    let body = signature("sum", json!({"task_id": "e-body", "group_id": "g1", "link_error": [errback()]}));
    for (index, name) in ["add", "no.such"].into_iter().enumerate() {
        let embed = Embed { chord: body.clone(), ..Embed::default() };
        let id = format!("g1-{index}");
        let part = Task { embed, group: Some("g1"), group_index: Some(index as i64), ..task(name, &id, &[]) };
        rig.send(part).await;
    }
    let failed = rig.result("e-body").await;
    assert_eq!(failure(&failed), ("ChordError", &json!("Dependency g1-1 raised NotRegistered('no.such')")));
    until("both errbacks ran", || lock(&heard).len() == 2).await;
    assert!(lock(&heard).contains(&json!("e1")) && lock(&heard).contains(&json!("e-body")));
    rig.settled().await;
    working.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_may_go_and_come_back() {
    let mut rig = Rig::new().await;
    let working = rig.work(registry());
    rig.send(task("sleep", "away", &[json!(0.5)])).await;
    until("it runs", || working.worker.active().len() == 1).await;
    rig.server.stop();
    tokio::time::sleep(Duration::from_secs(1)).await;
    rig.server.start_again();
    assert_eq!(rig.result_after(&rig.server, "away").await.result, json!("slept"));
    rig.settled().await;
    rig.send(task("add", "again", &[json!(1)])).await;
    assert_eq!(rig.result("again").await.result, json!(1));
    working.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_takes_its_worker_down_becomes_a_dead_letter() {
    let rig = Rig::new().await;
    ask(rig.broker.client(), "SET", &["beacon:attempts:d1", "3"]).await;
    let raw = task("add", "d1", &[json!(1)]).message();
    rig.put("celery", wire::redelivered(&raw, "another-tag").unwrap()).await;
    let working = rig.work(registry());
    assert_eq!(failure(&rig.result("d1").await).0, "WorkerLostError");
    rig.settled().await;
    assert_eq!(rig.broker.dead_count().await.unwrap(), 1);
    assert_eq!(rig.broker.dead(0, 10).await.unwrap()[0].id.as_deref(), Some("d1"));
    working.stop().await;
}

/// A runner that is full until it is told otherwise.
struct Full(AtomicUsize);

impl Runner for Full {
    fn spec(&self, name: &str) -> Option<Arc<Spec>> {
        (name == "python").then(|| Arc::new(Spec::new(name)))
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

#[tokio::test(flavor = "multi_thread")]
async fn a_full_runner_leaves_its_messages_in_their_order_and_holds_up_no_other_queue() {
    let rig = Rig::new().await;
    let full = Arc::new(Full(AtomicUsize::new(0)));
    let mut options = rig.options("w@here", registry(), 4);
    options.queues.push("native".into());
    options.runners.insert(0, full.clone());
    let working = rig.start(options);
    rig.send(task("python", "q1", &[])).await;
    rig.send(task("python", "q2", &[])).await;
    until("it was looked at", || working.worker.0.queues.any_waits()).await;
    for id in ["n1", "n2", "n3"] {
        rig.send(Task { routing_key: "native", ..task("add", id, &[json!(1)]) }).await;
        assert_eq!(rig.result(id).await.status, "SUCCESS");
    }
    assert!(rig.log.of("q1").is_empty());
    rig.settled().await;
    let waiting = ask(rig.broker.client(), "LRANGE", &["celery", "0", "-1"]).await;
    assert!(waiting.find("\"q2\"").unwrap() < waiting.find("\"q1\"").unwrap(), "the head is on the right");
    full.0.store(1, Ordering::SeqCst);
    rig.result("q1").await;
    rig.result("q2").await;
    working.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement: run it alone, in release"]
async fn throughput() {
    let rig = Rig::new().await;
    let mut tasks = registry();
    tasks.register("noop", body(|_| async { Ok(Value::Null) }), Settings::default());
    let count = 50_000;
    for chunk in 0..count / 500 {
        let raws: Vec<bytes::Bytes> = (0..500)
            .map(|id| {
                let id = format!("t{chunk}-{id}");
                Task { routing_key: "celery", origin: "test", ..task("noop", &id, &[]) }.message()
            })
            .collect();
        let all: Vec<Publish<'_>> =
            raws.into_iter().map(|raw| Publish { queue: "celery", priority: 0, raw, queue_expires: None }).collect();
        rig.broker.publish(&all).await.unwrap();
    }
    let began = Instant::now();
    let working = rig.start(rig.options("w@here", tasks, 64));
    let end = began + Duration::from_secs(120);
    while lock(&working.worker.0.totals).get("noop").copied().unwrap_or(0) < count || working.worker.0.held.len() > 0 {
        assert!(Instant::now() < end);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let seconds = began.elapsed().as_secs_f64();
    eprintln!("{count} tasks in {seconds:.2} s: {:.0}/s", count as f64 / seconds);
    working.stop().await;
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
