//! The life of `beacon serve`: the start from the bottom up, reloads, and the stop in stages.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::backend::Backend;
use super::banner::{self, Places};
use super::build::{self, Built, Instruments};
use super::control::{self, Board, Control, Order, Sight};
use super::doors::{Doors, Hall, Manners, Role};
use super::tasks::Tasks;
use super::{Error, ListenerStatus, managed, routes, state};
use crate::auth::accounts::Accounts;
use crate::config::{Config, Loaded, Sources, load};
use crate::docs::Docs;
use crate::error::chain;
use crate::http::{self, Edge, Stage};
use crate::lifecycle::{Critical, Ended, Signal, Signals, within};
use crate::mail::Mailer;
use crate::managed::Managed;
use crate::systemd;
use crate::telemetry::{self, AccessLog, Component, Metrics};
use crate::tls::{self, Tls};

/// How long old connections are asked to go elsewhere before they are closed, when another process may take over.
const LAME_DUCK: Duration = Duration::from_secs(5);

/// Time between two sweeps of sessions and tokens that are over.
const SWEEP: Duration = Duration::from_mins(10);

/// How long a stop waits for mail that is queued.
const LAST_MAIL: Duration = Duration::from_secs(10);

/// Serves until it is asked to stop.
///
/// # Errors
/// What cannot be built or bound, or a part that ended without being asked to.
pub fn serve(loaded: Loaded, sources: Sources) -> Result<(), Error> {
    tls::provider();
    telemetry::init(&loaded.config.log).map_err(Error::Log)?;
    raise_descriptor_limit();
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.enable_all().thread_name("beacon").max_blocking_threads(64);
    if loaded.config.server.workers > 0 {
        builder.worker_threads(loaded.config.server.workers);
    }
    let runtime = builder.build().map_err(Error::Runtime)?;
    let result = runtime.block_on(async {
        let mut running = Running::start(loaded, sources).await?;
        let ended = running.until_stopped().await;
        running.stop().await;
        ended.map_or(Ok(()), |ended| Err(Error::Critical(ended)))
    });
    // Blocking work that hangs (a dead disk) must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

/// A Beacon that serves.
struct Running {
    config: Config,
    sources: Sources,
    hall: Hall,
    doors: Doors,
    health: Component,
    signals: Signals,
    /// The control socket, and what comes by it; none if it could not be opened.
    control: Option<(Control, mpsc::Receiver<Order>)>,
    critical: Critical,
    /// Stops what belongs to the configuration in force, as the rendering of its documentation.
    generation: CancellationToken,
    stop: CancellationToken,
    /// What stands on the database.
    backend: Option<Backend>,
    /// Background tasks.
    tasks: Option<Tasks>,
    /// What sends its mail.
    mailer: Option<Mailer>,
    /// What tells of the process to those who watch it.
    instruments: Instruments,
    /// Private servers, if the configuration names no others.
    managed: Managed,
    access: AccessLog,
    /// The state folder, the same for the process's life.
    state: PathBuf,
    /// Signs what clients keep; made anew by every process.
    key: [u8; 32],
}

impl Running {
    /// Starts from the bottom up. Sockets are bound first, so that a taken port is known before anything is changed.
    async fn start(loaded: Loaded, sources: Sources) -> Result<Self, Error> {
        let Loaded { config, warnings, .. } = loaded;
        for warning in warnings.iter().chain(&build::warnings(&config)) {
            tracing::warn!("{warning}");
        }
        let signals = Signals::listen().map_err(Error::Runtime)?;
        let doors = Doors::new(systemd::inherited_sockets());
        let bound = doors.bind(&config.listen)?;

        let path = state::find(&config.server.state_dir, |name| std::env::var_os(name))?;
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(|error| Error::Runtime(std::io::Error::other(error)))?;
        let instruments = Instruments::default();
        let (metrics, health) = (instruments.metrics.clone(), instruments.health.clone());
        let component = health.component("edge");
        let Built { mut served, tls, docs, backend, accounts, tasks } =
            Built::new(&config, &path, &instruments, key, (None, None))?;
        state::prepare(&path)?;
        let tls = Tls::start(tls).map_err(Error::Tls)?;
        let access = AccessLog::open(&config.log.access).map_err(Error::Log)?;
        metrics.access_log(&access);
        served.challenges = Some(challenges(&tls));
        served.access = access.clone();

        let hall = Hall {
            edge: Edge::new(served),
            operations: Edge::new(build::internal(
                config.http.clone(),
                routes::operations(health.clone(), &metrics),
                metrics.mount("operations"),
            )),
            tls: tls.clone(),
            metrics: metrics.clone(),
            manners: Arc::new(ArcSwap::from_pointee(Manners::new(&config.listen, &config.http.timeouts))),
        };
        let managed = Managed::start(&config.managed, &path, managed::wanted(&config));
        managed::show(&managed, &config, &health);
        if let Some(backend) = &backend {
            backend.start(managed.postgres().filter(|_| config.database.url.is_empty()));
            // So that a slot which takes over, or a first visitor, does not meet an API that is still waking up.
            backend.settled().await;
        }
        if let Some(tasks) = &tasks {
            let private = config.redis.url.is_empty() && config.tasks.broker_url.is_empty();
            tasks.start(managed.redis().filter(|_| private));
        }
        let sight = Sight { edge: hall.edge.clone(), tls: tls.clone(), health: health.clone() };
        let mut running = Self {
            control: open_control(&path, sight, &metrics),
            hall,
            doors,
            health: component,
            signals,
            critical: Critical::default(),
            generation: CancellationToken::new(),
            stop: CancellationToken::new(),
            backend,
            tasks,
            mailer: None,
            instruments,
            managed,
            access,
            state: path,
            key,
            sources,
            config,
        };
        running.begin(docs, accounts);
        running.critical.spawn("tls", tls.run(running.stop.clone()));
        running.doors.swap(bound, &running.config.listen, &running.hall);
        running.watch_over();
        running.health.ok();
        running.tell();
        Ok(running)
    }

    /// Starts what belongs to one configuration.
    fn begin(&mut self, docs: Vec<Docs>, accounts: Option<(Accounts, Mailer)>) {
        let old = std::mem::replace(&mut self.generation, self.stop.child_token());
        old.cancel();
        for docs in docs {
            tokio::spawn(docs.run(self.generation.clone()));
        }
        let (accounts, mailer) = accounts.unzip();
        // An earlier one delivers what it has; only what is still queued at the stop of the last counts.
        self.mailer = mailer;
        if let Some(accounts) = accounts {
            let generation = self.generation.clone();
            tokio::spawn(async move { generation.run_until_cancelled(sweep(accounts)).await });
        }
    }

    /// Answers systemd's watchdog from the runtime's own threads: when they hang, so does the answer.
    fn watch_over(&mut self) {
        if let Some(interval) = systemd::watchdog_interval() {
            let stop = self.stop.clone();
            self.critical.spawn("watchdog", async move {
                let mut ticks = tokio::time::interval(interval);
                while stop.run_until_cancelled(ticks.tick()).await.is_some() {
                    systemd::watchdog_ping();
                }
                // The stop has its own deadline, and must not be taken for a hang.
                tokio::spawn(async move {
                    loop {
                        ticks.tick().await;
                        systemd::watchdog_ping();
                    }
                });
            });
        }
    }

    /// Says that Beacon is ready, to systemd and to whoever sits at the terminal.
    fn tell(&self) {
        let state = &self.state;
        let https = self.doors.addresses(Role::Https);
        tracing::info!(version = env!("CARGO_PKG_VERSION"), state = %state.display(), "ready");
        if let Some(key) = self.backend.as_ref().and_then(Backend::publishable) {
            tracing::info!(publishable_key = key, "the API answers at /rest/v1 and /auth/v1");
        }
        self.show_listeners();
        systemd::notify_ready(&self.status());
        if self.config.mounts.is_empty() && !systemd::under_systemd() {
            banner::show(&Places {
                https: &https,
                operations: &self.doors.addresses(Role::Operations),
                authority: self.hall.tls.ca_path().as_deref(),
                state,
                api: match &self.backend {
                    Some(backend) => backend.publishable().map_or(
                        banner::Api::Waits("its database is not there yet; the log says why"),
                        banner::Api::Key,
                    ),
                    None => banner::Api::None,
                },
            });
        }
    }

    fn board(&self) -> Option<&Board> {
        self.control.as_ref().map(|(control, _)| &*control.board)
    }

    fn show_listeners(&self) {
        let Some(board) = self.board() else { return };
        let roles = [("https", Role::Https), ("http", Role::Http), ("operations", Role::Operations)];
        let list = roles.into_iter().flat_map(|(name, role)| {
            self.doors.addresses(role).into_iter().map(|address| ListenerStatus { role: name.to_owned(), address })
        });
        board.listens(list.collect());
    }

    fn status(&self) -> String {
        let https = self.doors.addresses(Role::Https);
        let http = self.doors.addresses(Role::Http);
        format!("Serving on {}", [https, http].concat().join(", "))
    }

    /// Acts on signals until one asks for a stop, or a part ends that should not.
    async fn until_stopped(&mut self) -> Option<Ended> {
        loop {
            let signal = tokio::select! {
                signal = self.signals.next() => signal,
                Some(Order::Reload(answer)) = next_order(&mut self.control) => {
                    // Who asked may have gone; the reload counts all the same.
                    let _ = answer.send(self.reload().await);
                    continue;
                }
                ended = self.critical.ended() => {
                    tracing::error!(error = %ended, "stopping");
                    return Some(ended);
                }
            };
            match signal {
                Signal::Stop => {
                    tracing::info!("stopping; a second signal hurries");
                    return None;
                }
                Signal::Reload => drop(self.reload().await),
            }
        }
    }

    /// Loads the configuration again and swaps it in; one that cannot be used whole changes nothing, and why is given.
    async fn reload(&mut self) -> Result<(), String> {
        systemd::notify_reloading();
        self.access.reopen();
        let result = self.try_reload().await.map_err(|error| chain(&error).to_string());
        match &result {
            Ok(()) => tracing::info!("configuration reloaded"),
            Err(error) => tracing::error!(error, "the new configuration is refused; the old one stays in force"),
        }
        if let Some(board) = self.board() {
            board.reloaded(result.clone().err());
        }
        self.show_listeners();
        systemd::notify_ready(&self.status());
        result
    }

    async fn try_reload(&mut self) -> Result<(), Error> {
        let Loaded { config, warnings, .. } = load(&self.sources).map_err(Error::Config)?;
        let current = (self.backend.as_ref(), self.tasks.as_ref());
        let Built { mut served, tls, docs, backend, accounts, tasks } =
            Built::new(&config, &self.state, &self.instruments, self.key, current)?;
        let bound = self.doors.bind(&config.listen)?;
        let access = if config.log.access == self.config.log.access {
            self.access.clone()
        } else {
            AccessLog::open(&config.log.access).map_err(Error::Log)?
        };
        let same = |new: &Backend| self.backend.as_ref().is_some_and(|old| old.is(new));
        let new = backend.as_ref().filter(|new| !same(new));
        if let Some(new) = new {
            new.start(self.managed.postgres().filter(|_| config.database.url.is_empty()));
            new.settled().await;
        }
        self.hall.tls.swap(tls).map_err(Error::Tls).inspect_err(|_| {
            if let Some(new) = new {
                new.stop();
            }
        })?;

        // From here on nothing can fail: the level was validated with the rest.
        telemetry::set_level(&config.log.level).map_err(Error::Log)?;
        for warning in warnings.iter().chain(&build::warnings(&config)) {
            tracing::warn!("{warning}");
        }
        for (key, changed) in [
            ("server.workers", config.server.workers != self.config.server.workers),
            ("server.state_dir", config.server.state_dir != self.config.server.state_dir),
            ("managed", config.managed != self.config.managed),
            ("log.format", config.log.format != self.config.log.format),
            ("listen.max_connections", config.listen.max_connections != self.config.listen.max_connections),
            (
                "listen.max_connections_per_client",
                config.listen.max_connections_per_client != self.config.listen.max_connections_per_client,
            ),
        ] {
            if changed {
                tracing::warn!("{key} has changed, which takes effect with the next start");
            }
        }
        self.hall.metrics.access_log(&access);
        self.access = access.clone();
        served.access = access;
        served.challenges = Some(challenges(&self.hall.tls));
        self.hall.edge.swap(served);
        if let Some(old) = std::mem::replace(&mut self.backend, backend)
            && !self.backend.as_ref().is_some_and(|new| new.is(&old))
        {
            old.stop();
        }
        let same = |new: &Tasks| self.tasks.as_ref().is_some_and(|old| old.is(new));
        if let Some(new) = tasks.as_ref().filter(|new| !same(new)) {
            let private = config.redis.url.is_empty() && config.tasks.broker_url.is_empty();
            new.start(self.managed.redis().filter(|_| private));
        }
        if let Some(old) = std::mem::replace(&mut self.tasks, tasks)
            && !self.tasks.as_ref().is_some_and(|new| new.is(&old))
        {
            // What runs ends in its own time, beside the new ones.
            old.begin_to_stop();
            tokio::spawn(async move { old.stop(&CancellationToken::new()).await });
        }
        self.begin(docs, accounts);
        let mut manners = Manners::new(&config.listen, &config.http.timeouts);
        manners.limit = self.hall.manners.load().limit.clone();
        self.hall.manners.store(Arc::new(manners));
        self.doors.swap(bound, &config.listen, &self.hall);
        self.config = config;
        Ok(())
    }

    /// Stops in stages: the edge, then the stores. A second signal ends the grace of the edge.
    async fn stop(self) {
        systemd::notify_stopping();
        self.health.stopping();
        if let Some(board) = self.board() {
            board.stops();
        }
        let hurry = CancellationToken::new();
        // The control socket stays open until the end: `beacon status` shows a stop that takes long.
        let Self {
            mut signals,
            mut doors,
            hall,
            access,
            stop,
            mut critical,
            config,
            managed,
            backend,
            tasks,
            mailer,
            control: _control,
            ..
        } = self;
        let hurrying = hurry.clone();
        tokio::spawn(async move {
            while signals.next().await != Signal::Stop {}
            tracing::warn!("hurrying: requests that have begun are cut off");
            hurrying.cancel();
        });
        let registry = hall.edge.registry();
        let drain = config.server.drain;

        // Work: nothing is taken from queues any more, while the edge ends; what runs is waited for after it.
        if let Some(tasks) = &tasks {
            tasks.begin_to_stop();
        }
        // Edge: nothing new comes in, and what began is finished.
        let closed = doors.close_to_clients();
        registry.enter(Stage::LameDuck);
        // At once, but for a loop that has accepted a connection and waits for a place: that comes with those that end.
        within(Duration::from_secs(1), &hurry, closed).await;
        if systemd::under_systemd() {
            within(LAME_DUCK.min(drain / 2), &hurry, registry.emptied()).await;
        }
        registry.enter(Stage::Graceful);
        if !within(drain, &hurry, registry.emptied()).await {
            let left = registry.len();
            if left > 0 {
                tracing::warn!(connections = left, "connections were cut off because they did not end in time");
            }
        }
        registry.enter(Stage::Abort);
        within(Duration::from_secs(1), &CancellationToken::new(), registry.emptied()).await;

        if let Some(tasks) = tasks {
            tasks.stop(&hurry).await;
        }
        // Stores: always reached, whatever the hurry.
        stop.cancel();
        doors.close().await;
        hall.operations.registry().enter(Stage::Abort);
        within(Duration::from_secs(2), &CancellationToken::new(), critical.all_ended()).await;
        if let Some(mailer) = mailer {
            let left = mailer.drain(LAST_MAIL).await;
            if left > 0 {
                tracing::warn!(mails = left, "mail that could not be delivered in time is lost");
            }
        }
        if let Some(backend) = backend {
            backend.stop();
        }
        // The last to go: until here somebody may have had something to write. Its own grace bounds it.
        managed.stop().await;
        // Waits for the disk, for two seconds at most.
        let _ = tokio::task::spawn_blocking(move || access.flush()).await;
        tracing::info!("stopped");
    }
}

/// Forgets sessions and tokens that are over, now and then.
async fn sweep(accounts: Accounts) {
    loop {
        tokio::time::sleep(SWEEP).await;
        if let Err(error) = accounts.sweep().await {
            tracing::debug!(error = %chain(&error), "sessions that are over could not be forgotten");
        }
    }
}

/// Opens the control socket. Beacon serves without one too: then only signals reach it.
fn open_control(state: &Path, sight: Sight, metrics: &Metrics) -> Option<(Control, mpsc::Receiver<Order>)> {
    let path = control::place(state);
    Control::open(&path, sight, metrics)
        .inspect_err(|error| {
            tracing::warn!(
                path = %path.display(),
                %error,
                "there is no control socket, so `beacon status` and `beacon reload` do not reach this process"
            );
        })
        .ok()
}

/// The next order from the control socket; never, if there is none.
async fn next_order(control: &mut Option<(Control, mpsc::Receiver<Order>)>) -> Option<Order> {
    match control {
        Some((_, orders)) => orders.recv().await,
        None => std::future::pending().await,
    }
}

fn challenges(tls: &Tls) -> http::Challenges {
    let tls = tls.clone();
    Box::new(move |token| tls.http01(token))
}

/// Takes as many file descriptors as the host allows: each connection is one.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        // A sandbox may forbid it; then the limit stays what it is.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
}
