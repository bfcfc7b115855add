//! Builds everything from a configuration, without binding, starting or writing: the same for `check`, for the start
//! and for a reload.

use std::path::Path;

use ::http::HeaderName;

use super::backend::Backend;
use super::routes::{self, Features, Routes};
use super::tasks::{Tasks, Tools};
use super::{Error, database, state};
use crate::api::Figures;
use crate::auth::Gate;
use crate::auth::accounts::Accounts;
use crate::config::Config;
use crate::docs::Docs;
use crate::http::{self, Hosts, Router, Rules, Served, Trusted};
use crate::jobs::{self, Seal};
use crate::mail::Mailer;
use crate::net::{Address, ForwardedHeader};
use crate::tasks::worker;
use crate::telemetry::{Health, Metrics, MountMetrics};
use crate::tls;

/// What tells of the process to those who watch it; the same for all of its configurations.
pub struct Instruments {
    /// Figures.
    pub metrics: Metrics,
    /// Whether components work.
    pub health: Health,
    /// Figures of the schema cache.
    pub schema: Figures,
    /// Figures of tasks.
    pub tasks: worker::Figures,
}

impl Default for Instruments {
    fn default() -> Self {
        let metrics = Metrics::new();
        let tasks = worker::Figures::default();
        tasks.register(&metrics);
        Self { schema: Figures::register(&metrics), tasks, health: Health::new(), metrics }
    }
}

/// What a configuration makes.
pub struct Built {
    /// What the edge serves.
    pub served: Served,
    /// Certificates, read and checked.
    pub tls: tls::Prepared,
    /// Documentation sites, which render in the background.
    pub docs: Vec<Docs>,
    /// What stands on the database, if there is one.
    pub backend: Option<Backend>,
    /// Accounts in it, and what sends their mail.
    pub accounts: Option<(Accounts, Mailer)>,
    /// Background tasks, if there is a Redis.
    pub tasks: Option<Tasks>,
}

/// Builds everything without binding or starting, and returns what the user should know.
///
/// # Errors
/// What is wrong.
pub fn check(config: &Config) -> Result<Vec<String>, Error> {
    let state = state::find(&config.server.state_dir, |name| std::env::var_os(name))?;
    tls::provider();
    // Some parts want a runtime to be made in, though nothing of them runs.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Runtime)?;
    let _inside = runtime.enter();
    Built::new(config, &state, &Instruments::default(), [0; 32], (None, None))?;
    Ok(warnings(config))
}

impl Built {
    /// Builds from a configuration; `state` is the state folder, `key` signs what clients keep. What stands on the
    /// database, and tasks, are taken from `current` if they serve the same.
    ///
    /// # Errors
    /// What is wrong.
    pub fn new(
        config: &Config,
        state: &Path,
        instruments: &Instruments,
        key: [u8; 32],
        current: (Option<&Backend>, Option<&Tasks>),
    ) -> Result<Self, Error> {
        let tls = tls::Prepared::new(&config.tls, state).map_err(Error::Tls)?;
        let gate = Gate::new(&config.wall, key).map_err(Error::Wall)?;
        let Instruments { metrics, .. } = instruments;
        let backend = backend(config, state, instruments, current.0)?;
        let mailer = Mailer::new(&config.mail).map_err(Error::Mail)?;
        let accounts = backend.as_ref().filter(|_| config.auth.enabled).map(|backend| {
            let accounts = backend.accounts(config, base_url(config), mailer.clone());
            (accounts, mailer.clone())
        });
        let tasks = tasks(config, state, instruments, backend.as_ref(), &mailer, current.1)?;
        let features = Features {
            backend: backend.as_ref(),
            accounts: accounts.as_ref().map(|(accounts, _)| accounts),
            tasks: tasks.as_ref(),
        };
        let Routes { router, docs } = routes::build(config, &gate, &features, metrics)?;
        let mut served = Served::new(config.http.clone(), rules(config), router, metrics.mount("none"));
        served.redirect = redirect_port(config);
        Ok(Self { served, tls, docs, backend, accounts, tasks })
    }
}

/// What stands on the database, if something is to and there is one.
fn backend(
    config: &Config,
    state: &Path,
    instruments: &Instruments,
    current: Option<&Backend>,
) -> Result<Option<Backend>, Error> {
    let wanted = config.api.enabled || config.auth.enabled;
    let Some(places) = database::places(config, state).filter(|_| wanted) else { return Ok(None) };
    match current.filter(|current| current.is_of(config, &places)) {
        Some(current) => Ok(Some(current.clone())),
        None => Backend::new(config, &places, &instruments.health, &instruments.schema).map(Some),
    }
}

/// Background tasks, if they are wanted and there is a Redis. Mails of accounts go by them where this process runs them.
fn tasks(
    config: &Config,
    state: &Path,
    instruments: &Instruments,
    backend: Option<&Backend>,
    mailer: &Mailer,
    current: Option<&Tasks>,
) -> Result<Option<Tasks>, Error> {
    let database = backend.map(|backend| backend.database().clone());
    let seal = database.as_ref().map(|database| Seal::new(database.owner().clone()));
    let tools = Tools { mailer: mailer.clone(), database, seal: seal.clone() };
    let tasks = Tasks::new(config, state, &tools, &instruments.tasks, &instruments.health, current)?;
    if let (Some(tasks), Some(seal)) = (tasks.as_ref().filter(|tasks| tasks.works()), seal) {
        mailer.hand_over(jobs::relay(tasks.client().clone(), seal, config.mail.give_up_after));
    }
    Ok(tasks)
}

/// What serves operators and not the public: any host, no redirect, no rate limit, no access log.
pub fn internal(http: http::Config, router: Router, unrouted: MountMetrics) -> Served {
    let rules = Rules {
        hosts: Hosts::new(["*"]),
        trusted: Trusted::default(),
        id_header: HeaderName::from_static("x-request-id"),
        limits: http.limits,
    };
    Served::new(http::Config { rate: http::Rate::default(), ..http }, rules, router, unrouted)
}

fn rules(config: &Config) -> Rules {
    let own: Vec<String> = config
        .tls
        .self_signed
        .names
        .iter()
        .map(|name| if name.contains(':') { format!("[{name}]") } else { name.clone() })
        .collect();
    let names = config
        .http
        .hosts
        .iter()
        .chain(config.mounts.values().map(|mount| &mount.host))
        .chain(&config.tls.acme.domains)
        .chain(&own)
        .map(String::as_str);
    let standard = config.listen.forwarded_header == ForwardedHeader::Forwarded;
    Rules {
        hosts: Hosts::new(names),
        trusted: Trusted::new(config.listen.trusted_proxies.clone(), standard),
        id_header: HeaderName::try_from(config.http.request_id_header.as_str())
            .unwrap_or(HeaderName::from_static("x-request-id")),
        limits: config.http.limits,
    }
}

/// The address under which browsers reach this Beacon, as far as the configuration knows.
fn base_url(config: &Config) -> String {
    let named = config.http.hosts.iter().chain(&config.tls.acme.domains).find(|host| !host.contains('*'));
    let host = named.map_or("localhost", String::as_str);
    let first = |addresses: &[String]| {
        addresses.iter().find_map(|text| match text.parse() {
            Ok(Address::Tcp(address)) => Some(address.port()),
            _ => None,
        })
    };
    match (first(&config.listen.https), first(&config.listen.http)) {
        (Some(443), _) | (None, None) => format!("https://{host}"),
        (Some(port), _) => format!("https://{host}:{port}"),
        (None, Some(80)) => format!("http://{host}"),
        (None, Some(port)) => format!("http://{host}:{port}"),
    }
}

/// The port to which plain HTTP is sent, if it is and there is one.
fn redirect_port(config: &Config) -> Option<u16> {
    let listens = !config.listen.https.is_empty();
    let first = config.listen.https.iter().find_map(|text| match text.parse() {
        Ok(Address::Tcp(address)) => Some(address.port()),
        _ => None,
    });
    (config.http.redirect_to_https && listens).then(|| match config.http.https_port {
        0 => first.unwrap_or(443),
        port => port,
    })
}

/// What is allowed, and probably not meant.
pub fn warnings(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    if !config.storage.bucket.is_empty() {
        warnings.push(
            "storage.bucket is set: `beacon storage check` and `beacon doctor` look at it, but nothing in this version of \
             Beacon keeps anything there yet."
                .into(),
        );
    }
    if !config.http.redirect_to_https && config.wall.is_on() && !config.listen.http.is_empty() {
        warnings.push(
            "http.redirect_to_https is off while the auth wall is on: passwords cross the network unencrypted.".into(),
        );
    }
    if config.http.hosts.iter().any(|host| host == "*") {
        warnings.push("http.hosts has \"*\": requests for any host are served. Name the hosts if you can.".into());
    }
    // Without a database there are no accounts.
    let database = !config.database.url.is_empty() || super::managed::wanted(config).postgres;
    if config.api.enabled && database {
        warnings.extend(Accounts::warnings(&config.auth, config.mail.is_on()));
    }
    for network in &config.listen.trusted_proxies {
        if network.prefix_len() == 0 {
            warnings.push(format!("listen.trusted_proxies has {network}: every client can pretend to be any other."));
        }
    }
    warnings
}
