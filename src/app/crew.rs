//! One worker with all that belongs to it: tasks in Rust, a Celery application if there is one, remote control and events.
//! `serve` may have one beside the edge; `beacon worker` is one.
//!
//! A Celery application is loaded first, because its settings say which Redis it is, and which queues. Until it has been
//! loaded nothing is taken: its tasks would be unknown, and fail.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::Error;
use crate::secret::Secret;
use crate::tasks::broker::Broker;
use crate::tasks::canvas::Canvas;
use crate::tasks::control::{Binding, Control, Panel};
use crate::tasks::events::Events;
use crate::tasks::native::{Native, Registry};
use crate::tasks::python::{self, Application, Exported, Schedule};
use crate::tasks::results::Results;
use crate::tasks::wire::Limits;
use crate::tasks::worker::{Figures, Options, Worker};
use crate::tasks::{Config, Desk, QUEUE, Runner, Witness};
use crate::telemetry::Component;

/// How long the start waits for Redis before it goes on and lets it be found later.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long remote control may take to be heard before tasks are taken all the same.
const LISTENING: Duration = Duration::from_secs(1);
/// How long the last events and answers may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// What a crew is made of.
pub(super) struct Plan {
    /// The section `[tasks]`; its URLs are those to go to, unless an application says otherwise.
    pub config: Config,
    /// Its URLs were said by somebody, and go before those of an application.
    pub named: bool,
    /// Somebody may send tasks to [`QUEUE`]: it is taken from beside the queues of an application.
    pub own_queue: bool,
    /// The node's name, whole.
    pub node: Arc<str>,
    /// Tasks in Rust.
    pub registry: Registry,
    /// What Prometheus sees.
    pub figures: Figures,
    /// What the worker tells.
    pub events: Events,
    /// A Celery application.
    pub application: Option<python::Options>,
    /// Told of its schedule.
    pub exported: watch::Sender<Arc<[Schedule]>>,
    /// Whether it works.
    pub health: Component,
    /// The soft limit of all tasks, over the application's; zero leaves it to that.
    pub soft_time_limit: Duration,
    /// Empties the queues first.
    pub purge: bool,
    /// Tells others that it lives.
    pub heartbeat: bool,
    /// Starts what else stands on the same Redis: schedules, the outbox.
    pub beside: Option<Beside>,
}

/// Starts what else stands on the same Redis; it ends with the token.
pub(super) type Beside = Box<dyn FnOnce(Broker, Results, CancellationToken) + Send>;

/// Works until `stop`; then ends what runs, or gives it back when its time is over or after `hurry`.
///
/// # Errors
/// The application cannot be loaded, or a URL cannot be used.
pub(super) async fn run(plan: Plan, stop: CancellationToken, hurry: CancellationToken) -> Result<(), Error> {
    let Plan { mut config, named, own_queue, node, registry, figures, events, application, exported, health, .. } =
        plan;
    let loaded = match &application {
        Some(options) => {
            health.degraded("the Celery application is being loaded");
            let loading = Application::start(&config.python, options);
            match stop.run_until_cancelled(loading).await {
                None => return Ok(()),
                Some(loaded) => Some(loaded.map_err(Error::Application)?),
            }
        }
        None => None,
    };
    if let Some((_, found)) = &loaded {
        settle(&mut config, found, named, own_queue);
        exported.send_replace(found.schedules.clone().into());
    }
    let results_url = if config.result_url.is_empty() { &config.broker_url } else { &config.result_url };
    let broker = Broker::new(&config.broker_url, &config.transport)
        .map_err(Error::Tasks)?
        .keeping_dead_letters(config.dead_letters_expire);
    let results = Results::new(results_url, &config.transport, config.result_expires).map_err(Error::Tasks)?;
    let _keeping = [
        AbortOnDropHandle::new(tokio::spawn(broker.clone().keep())),
        AbortOnDropHandle::new(tokio::spawn(results.clone().keep())),
    ];
    health.degraded("Redis does not answer yet");
    let connected = async {
        while !(broker.is_connected() && results.is_connected()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let _ = tokio::time::timeout(PATIENCE, stop.run_until_cancelled(connected)).await;

    let extended = |(_, found): &(Application, Exported)| found.settings.get("result_extended") == Some(&true.into());
    let canvas = Canvas::new(broker.clone(), results.clone(), QUEUE, node.clone())
        .extended(loaded.as_ref().is_some_and(extended));
    let places = if config.concurrency > 0 { config.concurrency } else { 2 * processors() };
    let native: Arc<dyn Runner> = Arc::new(Native::new(canvas.clone(), registry, places));
    let python = loaded.as_ref().map(|(application, _)| application.clone());
    let mut runners: Vec<Arc<dyn Runner>> = Vec::new();
    if let Some(application) = &python {
        runners.push(Arc::new(application.clone()));
    }
    runners.push(native);
    let own = loaded.as_ref().and_then(|(_, found)| Duration::try_from_secs_f64(found.soft_time_limit?).ok());
    let soft = if plan.soft_time_limit.is_zero() { own.unwrap_or_default() } else { plan.soft_time_limit };
    let worker = Worker::new(Options {
        node: node.clone(),
        queues: config.queues.clone(),
        runners,
        broker: broker.clone(),
        results: results.clone(),
        canvas,
        witnesses: vec![Arc::new(events.clone()) as Arc<dyn Witness>],
        accept: accepted(loaded.as_ref().map(|(_, found)| found)),
        limits: Limits::new(usize::try_from(config.max_message_bytes).unwrap_or(usize::MAX)),
        max_attempts: config.max_attempts,
        time_limit: config.time_limit,
        soft_time_limit: soft,
        drain: config.drain,
        figures,
    });
    let desk: Arc<dyn Desk> = Arc::new(worker.clone());
    if plan.purge {
        for queue in &config.queues {
            match broker.purge(queue).await {
                Ok(count) => tracing::warn!(queue, count, "the queue was emptied, as the command line asks"),
                Err(error) => tracing::error!(queue, %error, "the queue could not be emptied"),
            }
        }
    }
    let panel = python.clone().map(|application| Arc::new(Answers(application)) as Arc<dyn Panel>);
    let bindings = loaded.iter().flat_map(|(_, found)| found.queues.iter().map(binding)).collect();
    let control = Control::new(&config, broker.clone(), desk.clone(), panel, events.clone(), bindings);
    let last = CancellationToken::new();
    let (ending, answering) = (last.clone(), control.clone());
    let mut aside = vec![AbortOnDropHandle::new(tokio::spawn(async move { answering.run(ending).await }))];
    if plan.heartbeat {
        let (events, broker, desk) = (events.clone(), broker.clone(), desk.clone());
        let ending = last.clone();
        aside.push(AbortOnDropHandle::new(tokio::spawn(async move {
            events.run(&broker, &*desk, ending).await;
        })));
    }
    if let Some(beside) = plan.beside {
        beside(broker.clone(), results.clone(), stop.child_token());
    }
    // Who waits for this line asks at once.
    let _ = tokio::time::timeout(LISTENING, stop.run_until_cancelled(control.listens())).await;
    if let Some(application) = &python {
        application.started().await;
    }
    tracing::info!(
        node = %node,
        queues = config.queues.join(","),
        redis = broker.client().place(),
        "ready: tasks are taken from their queues"
    );
    {
        let wishes =
            python.clone().map(|application| AbortOnDropHandle::new(tokio::spawn(grant(application, desk.clone()))));
        let watching = watch_over(python.clone(), broker.clone(), health.clone());
        let trouble = AbortOnDropHandle::new(tokio::spawn(watching));
        let telling = python.clone().map(|application| {
            let stop = stop.clone();
            AbortOnDropHandle::new(tokio::spawn(async move {
                stop.cancelled().await;
                application.stopping("SIGTERM", "Warm").await;
            }))
        });
        worker.run(stop, hurry).await;
        drop((wishes, trouble, telling));
    }
    if let Some(application) = &python {
        application.close().await;
    }
    // Whoever watches sees the node until nothing runs any more.
    last.cancel();
    for task in aside {
        let _ = tokio::time::timeout(FAREWELL, task).await;
    }
    broker.close().await;
    results.close().await;
    Ok(())
}

/// What an application's settings change.
fn settle(config: &mut Config, found: &Exported, named: bool, own_queue: bool) {
    let text = |name: &str| found.broker.options.get(name).and_then(Value::as_str).map(str::to_owned);
    if !named {
        config.broker_url = found.broker.url.clone();
        config.result_url = if found.result.kind == "redis" { found.result.url.clone() } else { Secret::default() };
        if let Some(seconds) = found.result_expires {
            config.result_expires = Duration::try_from_secs_f64(seconds).unwrap_or(config.result_expires);
        } else {
            config.result_expires = Duration::ZERO;
        }
    }
    let transport = &mut config.transport;
    if let Some(prefix) = text("global_keyprefix") {
        transport.global_keyprefix = prefix;
    }
    if let Some(sep) = text("sep") {
        transport.sep = sep;
    }
    if let Some(seconds) = found.broker.options.get("visibility_timeout").and_then(Value::as_f64) {
        transport.visibility_timeout = Duration::try_from_secs_f64(seconds).unwrap_or(transport.visibility_timeout);
    }
    if let Some(steps) = found.broker.options.get("priority_steps").and_then(Value::as_array) {
        let steps: Vec<u8> = steps.iter().filter_map(|step| step.as_u64()?.try_into().ok()).collect();
        if steps.first() == Some(&0) {
            transport.priority_steps = steps;
        }
    }
    if let Some(prefix) = found.result.prefix.strip_suffix("celery-task-meta-") {
        prefix.clone_into(&mut transport.result_keyprefix);
    }
    for (name, place) in
        [("event_exchange", &mut transport.event_exchange), ("control_exchange", &mut transport.control_exchange)]
    {
        if let Some(exchange) = found.settings.get(name).and_then(Value::as_str) {
            exchange.clone_into(place);
        }
    }
    if config.queues.is_empty() {
        config.queues = found.queues.iter().map(|queue| queue.name.clone()).collect();
        if own_queue && !config.queues.iter().any(|queue| queue == QUEUE) {
            config.queues.push(QUEUE.into());
        }
    }
    if config.time_limit.is_zero()
        && let Some(limit) = found.time_limit.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
    {
        config.time_limit = limit;
    }
}

/// Content that an application takes; JSON without one.
fn accepted(found: Option<&Exported>) -> Vec<String> {
    let listed = found.and_then(|found| found.settings.get("accept_content")?.as_array().cloned());
    let full = |name: &str| match name {
        "json" => "application/json".to_owned(),
        "pickle" => "application/x-python-serialize".to_owned(),
        "yaml" => "application/x-yaml".to_owned(),
        "msgpack" => "application/x-msgpack".to_owned(),
        other => other.to_owned(),
    };
    match listed {
        Some(listed) => listed.iter().filter_map(Value::as_str).map(full).collect(),
        None => vec!["application/json".into()],
    }
}

fn binding(queue: &python::Queue) -> Binding {
    Binding {
        queue: queue.name.clone(),
        exchange: queue.exchange.clone(),
        kind: queue.exchange_type.clone(),
        routing_key: queue.routing_key.clone(),
    }
}

/// What an application adds to remote control.
struct Answers(Application);

impl Panel for Answers {
    fn call<'a>(&'a self, method: &'a str, arguments: &'a Value) -> BoxFuture<'a, Option<Result<Value, String>>> {
        Box::pin(self.0.control(method, arguments))
    }

    fn report(&self) -> BoxFuture<'_, Option<String>> {
        Box::pin(self.0.report())
    }
}

/// Does what an application's own commands of remote control ask of the worker.
async fn grant(application: Application, desk: Arc<dyn Desk>) {
    let Some(mut wishes) = application.wishes() else { return };
    while let Some(wish) = wishes.recv().await {
        let text = |name: &str| wish.get(name).and_then(Value::as_str);
        match text("wish").unwrap_or_default() {
            "add_queue" => {
                if let Some(queue) = text("queue") {
                    desk.add_queue(queue);
                }
            }
            "cancel_queue" => {
                if let Some(queue) = text("queue") {
                    desk.remove_queue(queue);
                }
            }
            "resize" => desk.resize(wish.get("by").and_then(Value::as_i64).unwrap_or_default() as isize),
            "rates" => {
                for (task, rate) in wish.get("rates").and_then(Value::as_object).into_iter().flatten() {
                    desk.set_rate(task, rate.as_f64());
                }
            }
            "revoke" => {
                let ids = wish.get("ids").and_then(Value::as_array).into_iter().flatten();
                let ids = ids.filter_map(|id| id.as_str().map(str::to_owned)).collect();
                desk.revoke(ids, wish.get("signal").and_then(Value::as_i64).map(|signal| signal as i32)).await;
            }
            "shutdown" => desk.shut_down(),
            "restart" => application.renew(),
            other => tracing::debug!(wish = other, "nothing is known of what the application asks for"),
        }
    }
}

/// Shows in health checks whether the application's processes and Redis work.
async fn watch_over(application: Option<Application>, broker: Broker, health: Component) {
    loop {
        match application.as_ref().and_then(Application::trouble) {
            Some(trouble) => health.degraded(&*trouble),
            None if !broker.is_connected() => health.degraded("Redis does not answer"),
            None => health.ok(),
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
