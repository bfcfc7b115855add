//! `beacon worker`: tasks without the edge.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::build::{self, Instruments};
use super::crew::{self, Plan};
use super::tasks::{self, Tools};
use super::{Error, database, routes, state};
use crate::config::{Config, Loaded};
use crate::db::Database;
use crate::error::chain;
use crate::http::{self, Edge, Peer};
use crate::jobs::Seal;
use crate::lifecycle::{Signal, Signals};
use crate::mail::Mailer;
use crate::net::{self, Accepted, Address, Limit, Listener};
use crate::secret::Secret;
use crate::systemd;
use crate::tasks::broker::Broker;
use crate::tasks::events::Events;
use crate::tasks::outbox::Relay;
use crate::tasks::python::{self, Schedule};
use crate::tasks::schedule::{Scheduler, Sources, Store};
use crate::tasks::worker::Figures;
use crate::tasks::{Client, QUEUE};
use crate::telemetry;
use crate::tls;

/// What the command line says, over the configuration and a Celery application's settings.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The Celery application.
    pub application: Option<String>,
    /// The broker's URL.
    pub broker: Option<Secret>,
    /// The results' URL.
    pub results: Option<Secret>,
    /// The folder to work in.
    pub folder: Option<PathBuf>,
    /// The module with the application's settings.
    pub settings: Option<String>,
    /// The node name.
    pub name: Option<String>,
    /// Tasks at once.
    pub concurrency: Option<usize>,
    /// Queues; none leaves it to the configuration and the application.
    pub queues: Vec<String>,
    /// Queues that are left out.
    pub exclude: Vec<String>,
    /// Modules to import besides.
    pub include: Vec<String>,
    /// A file for the log.
    pub log: Option<PathBuf>,
    /// A file for the process's number.
    pub pid: Option<PathBuf>,
    /// Publishes events about tasks.
    pub events: bool,
    /// Publishes the worker's own.
    pub heartbeat: bool,
    /// Hard limit of all tasks.
    pub time_limit: Option<Duration>,
    /// Soft limit of all tasks.
    pub soft_time_limit: Option<Duration>,
    /// Tasks until a process is replaced.
    pub max_tasks: Option<u32>,
    /// Bytes of memory until a process is replaced.
    pub max_memory: Option<u64>,
    /// Empties the queues first.
    pub purge: bool,
    /// Sends scheduled tasks.
    pub schedules: bool,
    /// Where /metrics is served.
    pub operations: Option<String>,
    /// It is beacon-worker.service: there may be nothing to do.
    pub unit: bool,
}

/// Runs tasks until it is asked to stop.
///
/// # Errors
/// What cannot be built or started.
pub fn run(loaded: Loaded, options: Options) -> Result<(), Error> {
    let Loaded { mut config, warnings, .. } = loaded;
    if let Some(folder) = &options.folder {
        std::env::set_current_dir(folder).map_err(|source| Error::File { path: folder.clone(), source })?;
    }
    if let Some(path) = &options.log {
        log_into(path, &tasks::node(options.name.as_deref().unwrap_or(&config.tasks.name)))?;
    }
    tls::provider();
    telemetry::init(&config.log).map_err(Error::Log)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    if options.unit && (!tasks::needs_programs(&config) || tasks::serve_works(&config, true)) {
        tracing::info!(
            "no task needs a program of its own, so beacon@.service runs them all; there is nothing to do here"
        );
        systemd::notify_ready("There is nothing to do here");
        return Ok(());
    }
    apply(&mut config, &options);
    let written = options.pid.as_deref().map(write_pid).transpose()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("beacon")
        .build()
        .map_err(Error::Runtime)?;
    let result = runtime.block_on(work(config, options));
    runtime.shutdown_timeout(Duration::from_secs(1));
    drop(written);
    result
}

/// What the command line says, put into the configuration.
fn apply(config: &mut Config, options: &Options) {
    let own = &mut config.tasks;
    if let Some(name) = &options.application {
        own.python.celery_app.clone_from(name);
        own.python.directory = PathBuf::new();
    }
    if let Some(name) = &options.name {
        own.name.clone_from(name);
    }
    if let Some(number) = options.concurrency {
        own.concurrency = number;
    }
    if let Some(number) = options.max_tasks {
        own.python.max_tasks = number;
    }
    if let Some(bytes) = options.max_memory {
        own.python.max_memory_bytes = bytes;
    }
    if let Some(limit) = options.time_limit {
        own.time_limit = limit;
    }
    if !options.queues.is_empty() {
        own.queues.clone_from(&options.queues);
    }
    own.queues.retain(|queue| !options.exclude.contains(queue));
    own.events |= options.events;
}

async fn work(mut config: Config, options: Options) -> Result<(), Error> {
    let mut signals = Signals::listen().map_err(Error::Runtime)?;
    let state = state::find(&config.server.state_dir, |name| std::env::var_os(name))?;
    let found = tasks::places(&config, &state);
    let application = !config.tasks.python.celery_app.is_empty();
    // Of an application it is its own settings that say where messages are, unless somebody has said it here.
    let named = options.broker.is_some() || !config.tasks.broker_url.is_empty() || !application;
    // An application's worker that stands for itself takes from the application's queues, and from no other.
    let own_queue = options.unit || !config.tasks.broker_url.is_empty() || !config.handlers.is_empty();
    match (&options.broker, found) {
        (Some(url), _) => {
            config.tasks.broker_url = url.clone();
            config.tasks.result_url = options.results.clone().unwrap_or_else(|| config.tasks.result_url.clone());
        }
        (None, Some((broker, results))) => {
            config.tasks.broker_url = broker;
            config.tasks.result_url = options.results.clone().unwrap_or(results);
        }
        (None, None) if application => {}
        (None, None) => return Err(Error::NoRedis),
    }
    if !application && config.tasks.queues.is_empty() {
        config.tasks.queues.push(QUEUE.into());
    }
    let instruments = Instruments::default();
    let figures = Figures::default();
    figures.register(&instruments.metrics);
    let _operations = match &options.operations {
        Some(address) => Some(operations(address, &config, &instruments)?),
        None => None,
    };
    let health = instruments.health.component("tasks");
    let database = database::places(&config, &state)
        .filter(|_| needs_database(&config))
        .map(|places| database::open(&config, &places.database))
        .transpose()?;
    let _preparing = database.clone().map(|database| AbortOnDropHandle::new(tokio::spawn(prepare(database))));
    let tools = Tools {
        mailer: Mailer::new(&config.mail).map_err(Error::Mail)?,
        seal: database.as_ref().map(|database| Seal::new(database.owner().clone())),
        database: database.clone(),
    };
    let registry = tasks::registry(&config, &tools)?;
    let node = tasks::node(&config.tasks.name);
    let exported = watch::Sender::new(Arc::<[Schedule]>::from([]));
    let beside = (options.schedules || options.unit).then(|| {
        let (entries, seen) = (config.tasks.schedules.clone(), exported.subscribe());
        let defaults = tasks::defaults(&config.tasks);
        let database = database.clone();
        Box::new(move |broker: Broker, results, stop: CancellationToken| {
            let client = Client::new(broker, results, defaults);
            let sources = Sources { entries, store: database.clone().map(Store::new), exported: seen };
            let scheduler = Scheduler::new(client.clone(), sources);
            let ending = stop.clone();
            tokio::spawn(async move { scheduler.run(ending).await });
            if let Some(database) = database {
                tokio::spawn(async move { Relay::new(database, client).run(stop).await });
            }
        }) as crew::Beside
    });
    let plan = Plan {
        named,
        own_queue,
        application: application.then(|| python_options(&config, &options, &node)),
        events: Events::new(node.clone(), config.tasks.events),
        config: config.tasks.clone(),
        node,
        registry,
        figures,
        exported,
        health,
        soft_time_limit: options.soft_time_limit.unwrap_or_default(),
        purge: options.purge,
        heartbeat: options.heartbeat,
        beside,
    };
    let (stop, hurry) = (CancellationToken::new(), CancellationToken::new());
    let crew = crew::run(plan, stop.clone(), hurry.clone());
    tokio::pin!(crew);
    systemd::notify_ready("Running tasks");
    loop {
        tokio::select! {
            ended = &mut crew => return ended,
            signal = signals.next() => match signal {
                Signal::Stop if stop.is_cancelled() => {
                    tracing::warn!("hurrying: tasks that run are ended, and go back to their queues");
                    hurry.cancel();
                }
                Signal::Stop => {
                    tracing::info!("stopping when the tasks that run are done; a second signal hurries");
                    systemd::notify_stopping();
                    stop.cancel();
                }
                Signal::Reload => tracing::warn!("a worker keeps its configuration; restart it to load a new one"),
            },
        }
    }
}

/// Whether anything of this worker asks the database.
fn needs_database(config: &Config) -> bool {
    config.handlers.values().any(|handler| handler.sql.is_some()) || !config.database.url.is_empty()
}

async fn prepare(database: Database) {
    let mut told = String::new();
    database
        .prepare_until_ready(|error| {
            let text = chain(error).to_string();
            if text != told {
                tracing::warn!(error = text, "the database is not ready; trying again");
                told = text;
            }
        })
        .await;
}

fn python_options(config: &Config, options: &Options, node: &str) -> python::Options {
    let url = |url: &Option<Secret>| url.as_ref().map(|url| url.expose().to_owned()).unwrap_or_default();
    python::Options {
        node: node.to_owned(),
        directory: options.folder.clone().unwrap_or_default(),
        app: options.application.clone().unwrap_or_default(),
        concurrency: (config.tasks.concurrency > 0).then_some(config.tasks.concurrency),
        queues: options.queues.clone(),
        exclude_queues: options.exclude.clone(),
        include: options.include.clone(),
        loglevel: config.log.level.to_ascii_uppercase(),
        broker: url(&options.broker),
        result_backend: url(&options.results),
        config_module: options.settings.clone().unwrap_or_default(),
        time_limit: options.time_limit.map(|limit| limit.as_secs_f64()),
        soft_time_limit: options.soft_time_limit.map(|limit| limit.as_secs_f64()),
        events: options.events,
        argv: std::env::args().skip(1).collect(),
        whole_environment: options.application.is_some(),
        hand_over: true,
        ..python::Options::default()
    }
}

/// Serves /metrics, /healthz and /readyz at an address, until it is dropped.
fn operations(address: &str, config: &Config, instruments: &Instruments) -> Result<AbortOnDropHandle<()>, Error> {
    let address: Address = address.parse().map_err(|problem| Error::Operations { problem })?;
    let listener = Listener::bind(&address).map_err(|source| Error::Net { source })?;
    let Instruments { metrics, health, .. } = instruments;
    let router = routes::operations(health.clone(), metrics);
    let edge = Edge::new(build::internal(config.http.clone(), router, metrics.mount("operations")));
    let serve = move |accepted: Accepted| {
        let edge = edge.clone();
        let arrival = edge.arrive();
        async move {
            let peer = Peer { address: accepted.peer.ip().to_canonical(), secure: false, local: accepted.local };
            let serving = edge.serve(accepted.stream, false, peer);
            drop(arrival);
            serving.await;
        }
    };
    let close = CancellationToken::new();
    Ok(AbortOnDropHandle::new(tokio::spawn(net::run(listener, Limit::new(64, 0, http::subject), close, serve))))
}

/// From now on standard output and errors are this file; %n and %h are the node's.
fn log_into(path: &Path, node: &str) -> Result<(), Error> {
    let (name, host) = node.split_once('@').unwrap_or((node, ""));
    let text = path.to_string_lossy().replace("%n", name).replace("%h", host).replace("%I", "").replace("%i", "0");
    let path = PathBuf::from(text);
    let wrong = |source| Error::File { path: path.clone(), source };
    let file = fs::OpenOptions::new().create(true).append(true).open(&path).map_err(wrong)?;
    rustix::stdio::dup2_stdout(&file).map_err(|error| wrong(error.into()))?;
    rustix::stdio::dup2_stderr(&file).map_err(|error| wrong(error.into()))
}

/// A file with the number of this process, removed at the end.
struct PidFile(PathBuf);

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn write_pid(path: &Path) -> Result<PidFile, Error> {
    let wrong = |source| Error::File { path: path.to_owned(), source };
    if let Ok(text) = fs::read_to_string(path)
        && let Ok(pid) = text.trim().parse::<u32>()
        && pid != std::process::id()
        && Path::new(&format!("/proc/{pid}")).exists()
    {
        return Err(wrong(io::Error::other(format!("process {pid}, which is in it, runs"))));
    }
    fs::write(path, format!("{}\n", std::process::id())).map_err(wrong)?;
    Ok(PidFile(path.to_owned()))
}
