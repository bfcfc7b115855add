//! Background tasks within the whole: which there are, and what `serve` and `beacon worker` run of them.
//!
//! `serve` has the sending side whenever there is a Redis: the API, schedules, the outbox. Whether it takes tasks from
//! queues as well depends on what they need: the edge's unit executes no programs, so tasks that do are the worker unit's.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::FutureExt as _;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::crew::{self, Plan};
use super::{Error, managed};
use crate::auth::gateway::Gateway;
use crate::config::Config;
use crate::db::Database;
use crate::error::chain;
use crate::http::Outbound;
use crate::jobs::{self, Means, Seal};
use crate::mail::Mailer;
use crate::managed::{Managed, Watch};
use crate::process::Condition;
use crate::secret::Secret;
use crate::systemd;
use crate::tasks::broker::Broker;
use crate::tasks::events::Events;
use crate::tasks::native::Registry;
use crate::tasks::outbox::Relay;
use crate::tasks::python::{self, RunsIn, Schedule};
use crate::tasks::results::Results;
use crate::tasks::schedule::{Scheduler, Sources, Store};
use crate::tasks::worker::Figures;
use crate::tasks::{self, Client, Defaults, Mode, QUEUE};
use crate::telemetry::{Component, Health, State};

/// Between two attempts to load a Celery application: the first, doubled each time up to the second.
const PAUSES: (Duration, Duration) = (Duration::from_secs(2), Duration::from_mins(1));

/// Whether a task needs another program than Beacon.
pub(super) fn needs_programs(config: &Config) -> bool {
    !config.tasks.python.celery_app.is_empty() || config.handlers.values().any(|handler| handler.command.is_some())
}

/// Whether `serve` takes tasks from queues.
pub(super) fn serve_works(config: &Config, under_systemd: bool) -> bool {
    let here = match config.tasks.python.runs_in {
        RunsIn::Serve => true,
        RunsIn::Worker => false,
        RunsIn::Auto => !under_systemd,
    };
    match config.tasks.mode {
        Mode::Off => false,
        Mode::On => true,
        Mode::Auto => here || !needs_programs(config),
    }
}

/// The Redis of messages and that of results, if there is one.
pub(super) fn places(config: &Config, state: &Path) -> Option<(Secret, Secret)> {
    let given = |url: &Secret| Some(url.clone()).filter(|url| !url.is_empty());
    let private = || managed::wanted(config).redis.then(|| Managed::redis_url_in(state));
    let broker = given(&config.tasks.broker_url).or_else(|| given(&config.redis.url)).or_else(private)?;
    let results = given(&config.tasks.result_url).unwrap_or_else(|| broker.clone());
    Some((broker, results))
}

/// A node's name with the host's in it: %h, %n and %d as Celery has them.
pub(super) fn node(name: &str) -> Arc<str> {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let (short, domain) = host.split_once('.').unwrap_or((&host, ""));
    let own = name.split('@').next().unwrap_or(name);
    let own = own.replace("%h", &host).replace("%d", domain).replace("%n", short);
    let text = name.replace("%h", &host).replace("%d", domain).replace("%n", &own).replace("%i", "0").replace("%I", "");
    if text.contains('@') { text.into() } else { format!("{text}@{host}").into() }
}

/// What tasks in Rust work with.
pub(super) struct Tools {
    /// Sends mail.
    pub mailer: Mailer,
    /// The application's data.
    pub database: Option<Database>,
    /// Opens the mails of accounts.
    pub seal: Option<Seal>,
}

/// What is sent without a word about it.
pub(super) fn defaults(config: &tasks::Config) -> Defaults {
    let bytes = usize::try_from(config.max_message_bytes).unwrap_or(usize::MAX);
    Defaults { queue: QUEUE.into(), origin: tasks::origin(), bytes }
}

/// Every task that needs no application of its own.
///
/// # Errors
/// A handler that cannot be made.
pub(super) fn registry(config: &Config, tools: &Tools) -> Result<Registry, Error> {
    let means = Means {
        mailer: tools.mailer.clone(),
        templates: &config.mail.templates,
        outbound: Outbound::new().map_err(Error::Outbound)?,
        requests: tools.database.as_ref().map(|database| database.requests().clone()),
        seal: tools.seal.clone(),
        time_limit: config.tasks.time_limit,
    };
    let mut registry = Registry::default();
    for job in jobs::jobs(&config.handlers, &means).map_err(Error::Handlers)? {
        registry.register(&job.task, job.handler, job.settings);
    }
    Ok(registry)
}

/// Sends tasks, and runs them if that is wanted, as one configuration has it. Clones share it.
#[derive(Clone)]
pub(super) struct Tasks(Arc<Inner>);

struct Inner {
    basis: Basis,
    config: tasks::Config,
    named: bool,
    works: bool,
    broker: Broker,
    results: Results,
    client: Client,
    events: Events,
    scheduler: Scheduler,
    relay: Option<Relay>,
    registry: Mutex<Option<Registry>>,
    figures: Figures,
    exported: watch::Sender<Arc<[Schedule]>>,
    health: Component,
    stop: CancellationToken,
    hurry: CancellationToken,
    tracker: TaskTracker,
}

/// What it was made of.
#[derive(Clone, PartialEq)]
struct Basis {
    places: (Secret, Secret),
    tasks: tasks::Config,
    handlers: std::collections::BTreeMap<String, jobs::Config>,
    mail: crate::mail::Config,
    database: Option<crate::db::Config>,
}

impl Basis {
    fn of(config: &Config, places: &(Secret, Secret), database: Option<&Database>) -> Self {
        Self {
            places: places.clone(),
            tasks: config.tasks.clone(),
            handlers: config.handlers.clone(),
            mail: config.mail.clone(),
            database: database.map(|database| database.config().clone()),
        }
    }
}

impl Tasks {
    /// Builds it, without going to Redis; nothing if there is none, or tasks are not wanted. `current` is taken if the
    /// configuration would make the same.
    ///
    /// # Errors
    /// A URL or a handler that cannot be used.
    pub(super) fn new(
        config: &Config,
        state: &Path,
        tools: &Tools,
        figures: &Figures,
        health: &Health,
        current: Option<&Self>,
    ) -> Result<Option<Self>, Error> {
        let Some(places) = places(config, state).filter(|_| config.tasks.mode != Mode::Off) else { return Ok(None) };
        let basis = Basis::of(config, &places, tools.database.as_ref());
        if let Some(current) = current.filter(|current| current.0.basis == basis) {
            return Ok(Some(current.clone()));
        }
        let registry = registry(config, tools)?;
        let component = health.component("tasks");
        component.mirror(State::Degraded, "tasks have not begun yet");
        let mut own = config.tasks.clone();
        (own.broker_url, own.result_url) = places;
        if own.python.celery_app.is_empty() && own.queues.is_empty() {
            own.queues.push(QUEUE.into());
        }
        let broker = Broker::new(&own.broker_url, &own.transport)
            .map_err(Error::Tasks)?
            .keeping_dead_letters(own.dead_letters_expire);
        let results = Results::new(&own.result_url, &own.transport, own.result_expires).map_err(Error::Tasks)?;
        let client = Client::new(broker.clone(), results.clone(), defaults(&own));
        let exported = watch::Sender::new(Arc::<[Schedule]>::from([]));
        let scheduler = Scheduler::new(
            client.clone(),
            Sources {
                entries: own.schedules.clone(),
                store: tools.database.clone().map(Store::new),
                exported: exported.subscribe(),
            },
        );
        let relay = tools.database.clone().map(|database| Relay::new(database, client.clone()));
        let inner = Inner {
            basis,
            named: !config.tasks.broker_url.is_empty() || own.python.celery_app.is_empty(),
            works: serve_works(config, systemd::under_systemd()),
            events: Events::new(node(&own.name), own.events),
            config: own,
            broker,
            results,
            client,
            scheduler,
            relay,
            registry: Mutex::new(Some(registry)),
            figures: figures.clone(),
            exported,
            health: component,
            stop: CancellationToken::new(),
            hurry: CancellationToken::new(),
            tracker: TaskTracker::new(),
        };
        Ok(Some(Self(Arc::new(inner))))
    }

    /// Whether it is this very one.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Sends tasks.
    pub(super) fn client(&self) -> &Client {
        &self.0.client
    }

    /// Tasks over HTTP, for those that `gateway` knows.
    pub(super) fn api(&self, gateway: Gateway) -> jobs::api::Tasks {
        jobs::api::Tasks::new(jobs::api::Needs {
            gateway,
            client: self.0.client.clone(),
            feed: self.0.events.feed().clone(),
            schedules: Some(self.0.scheduler.clone()),
            desk: None,
            ending: self.0.stop.clone(),
        })
    }

    /// Whether tasks of [`QUEUE`] are run by this process.
    pub(super) fn works(&self) -> bool {
        self.0.works
    }

    /// Starts everything, as soon as the `private` server is there if it is that one. To be called once.
    pub(super) fn start(&self, private: Option<Watch>) {
        let whole = self.clone();
        self.0.tracker.spawn(async move {
            let coming = whole.0.comes(private);
            if whole.0.stop.run_until_cancelled(coming).await.is_some() {
                whole.begin();
            }
        });
    }

    fn begin(&self) {
        let inner = &self.0;
        inner.tracker.spawn(inner.broker.clone().keep());
        inner.tracker.spawn(inner.results.clone().keep());
        let (scheduler, stop) = (inner.scheduler.clone(), inner.stop.clone());
        inner.tracker.spawn(async move { scheduler.run(stop).await });
        if let Some(relay) = inner.relay.clone() {
            let stop = inner.stop.clone();
            inner.tracker.spawn(async move { relay.run(stop).await });
        }
        let (feed, broker) = (inner.events.feed().clone(), inner.broker.clone());
        let (own, stop) = (inner.works.then(|| node(&inner.config.name)), inner.stop.clone());
        inner.tracker.spawn(async move { feed.listen(&broker, own.as_deref(), stop).await });
        if inner.works {
            let whole = inner.clone();
            inner.tracker.spawn(async move { whole.work().await });
        } else {
            inner.health.ok();
        }
    }

    /// Takes no more tasks from now on; what runs goes on.
    pub(super) fn begin_to_stop(&self) {
        self.0.stop.cancel();
    }

    /// Ends everything: what runs may take its time (tasks.drain), unless `hurry` comes.
    pub(super) async fn stop(&self, hurry: &CancellationToken) {
        let inner = &self.0;
        inner.stop.cancel();
        inner.tracker.close();
        let ended = inner.tracker.wait();
        tokio::pin!(ended);
        let closing = async {
            // These two end when they are closed, the others by the token.
            let patience = inner.config.drain + Duration::from_secs(5);
            let alone = async {
                while inner.tracker.len() > 2 {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            let _ = tokio::time::timeout(patience, alone).await;
            inner.broker.close().await;
            inner.results.close().await;
        };
        let hurrying = async {
            hurry.cancelled().await;
            inner.hurry.cancel();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            ((), _) = futures_util::future::join(closing, tokio::time::timeout(
                inner.config.drain + Duration::from_secs(8),
                &mut ended,
            )).map(|both| both) => {}
            () = hurrying => {}
        }
    }
}

impl Inner {
    /// Waits for the private Redis. Whether it comes is told by its keeper.
    async fn comes(&self, private: Option<Watch>) {
        let Some(mut private) = private else { return };
        loop {
            match private.now() {
                Condition::Ready => return,
                Condition::Starting => self.health.mirror(State::Degraded, "the private Redis is being started"),
                Condition::Down(reason) => self.health.mirror(State::Degraded, &*reason),
            }
            private.changed().await;
        }
    }

    /// Runs tasks until the stop. What does not come up is tried again: a Celery application may be mended meanwhile.
    async fn work(self: Arc<Self>) {
        let Some(registry) = self.registry.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let mut pause = PAUSES.0;
        while !self.stop.is_cancelled() {
            let application = (!self.config.python.celery_app.is_empty()).then(|| python::Options {
                node: node(&self.config.name).to_string(),
                concurrency: (self.config.concurrency > 0).then_some(self.config.concurrency),
                queues: self.config.queues.clone(),
                loglevel: "INFO".into(),
                hand_over: true,
                ..python::Options::default()
            });
            let plan = Plan {
                config: self.config.clone(),
                named: self.named,
                own_queue: true,
                node: node(&self.config.name),
                registry: registry.clone(),
                figures: self.figures.clone(),
                events: self.events.clone(),
                application,
                exported: self.exported.clone(),
                health: self.health.clone(),
                soft_time_limit: Duration::ZERO,
                purge: false,
                heartbeat: true,
                beside: None,
            };
            match crew::run(plan, self.stop.clone(), self.hurry.clone()).await {
                Ok(()) => return,
                Err(error) => {
                    let text = chain(&error).to_string();
                    tracing::error!(error = text, "tasks cannot be run; trying again");
                    // The edge serves all the same.
                    self.health.degraded(text);
                }
            }
            self.stop.run_until_cancelled(tokio::time::sleep(pause)).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_its_hosts_name() {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        assert_eq!(*node("beacon@%h"), format!("beacon@{host}"));
        assert_eq!(*node("w1"), format!("w1@{host}"));
        assert_eq!(*node("w1@example.org"), *"w1@example.org");
    }

    #[test]
    fn programs_are_for_the_workers_unit_under_systemd() {
        let mut config = Config::default();
        assert!(serve_works(&config, true));
        config.tasks.python.celery_app = "mysite".into();
        assert!(!serve_works(&config, true));
        assert!(serve_works(&config, false));
        config.tasks.python.runs_in = RunsIn::Worker;
        assert!(!serve_works(&config, false));
        config.tasks.mode = Mode::On;
        assert!(serve_works(&config, true));
    }
}
