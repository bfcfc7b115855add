//! What stands on the database: rows and functions over HTTP, and who may ask for them.
//!
//! It is built without going to the database, and outlives a reload that changes nothing of it, so that no request
//! meets an empty schema cache.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Error, database};
use crate::api::reference::Page;
use crate::api::{self, Api, Figures};
use crate::auth::accounts::{self, Accounts, Needs};
use crate::auth::gateway::{self, Gateway};
use crate::auth::jwt::Keys;
use crate::auth::keys::ApiKeys;
use crate::auth::passwords::{self, Hasher};
use crate::auth::quota::Quota;
use crate::config::Config;
use crate::db::Database;
use crate::error::chain;
use crate::http::{Handler, Outbound};
use crate::mail::Mailer;
use crate::managed::{Mode, Watch};
use crate::process::Condition;
use crate::redis;
use crate::secret::Secret;
use crate::telemetry::{Component, Health, State};

/// How long a start or a reload waits for the database before it goes on without.
const PATIENCE: Duration = Duration::from_secs(10);

/// Everything on one database, as one configuration wants it. Clones share it.
#[derive(Clone)]
pub(super) struct Backend {
    inner: Arc<Inner>,
}

struct Inner {
    basis: Basis,
    database: Database,
    cache: api::Cache,
    keys: Keys,
    api_keys: ApiKeys,
    gateway: Gateway,
    /// What counts requests in Redis, if they are limited.
    redis: Option<redis::Client>,
    quota: Option<Quota>,
    hasher: Hasher,
    outbound: Outbound,
    health: Component,
    /// Whether Beacon is ready without it.
    optional: bool,
    settled: watch::Sender<bool>,
    publishable: OnceLock<String>,
    /// Ends its tasks.
    stop: CancellationToken,
}

/// What it was made of.
#[derive(Clone, PartialEq)]
struct Basis {
    url: Secret,
    database: crate::db::Config,
    redis: Option<Secret>,
    api: api::Config,
    auth: accounts::Config,
}

impl Basis {
    fn of(config: &Config, places: &Places) -> Self {
        Self {
            url: places.database.clone(),
            database: config.database.clone(),
            redis: places.redis.clone(),
            api: config.api.clone(),
            auth: config.auth.clone(),
        }
    }
}

/// Where the stores are.
pub(super) struct Places {
    /// PostgreSQL.
    pub(super) database: Secret,
    /// Redis, if there is one.
    pub(super) redis: Option<Secret>,
}

impl Backend {
    /// Builds it, without going to the database.
    ///
    /// # Errors
    /// A URL or a key that cannot be used.
    pub(super) fn new(config: &Config, places: &Places, health: &Health, figures: &Figures) -> Result<Self, Error> {
        let database = database::open(config, &places.database)?;
        let component = health.component("database");
        let schema = health.component("schema");
        // Who has not asked for a private database does not lose the rest for the lack of one.
        let optional = config.database.url.is_empty() && config.managed.postgres == Mode::Auto;
        if optional {
            for component in [&component, &schema] {
                component.mirror(State::Degraded, "the private database is not there yet");
            }
        }
        let cache = api::Cache::counted(database.clone(), config.api.schema_options(), schema, figures.clone());
        let keys = Keys::of_settings(config.auth.keys()).map_err(Error::Keys)?;
        let api_keys = ApiKeys::default();
        let options = gateway::Options {
            anonymous: (!config.api.anon_role.is_empty()).then(|| config.api.anon_role.as_str().into()),
            // It was validated with the rest.
            role_claim: config.api.role_claim_key.parse().unwrap_or_default(),
        };
        let gateway = Gateway::new(keys.clone(), api_keys.clone(), options);
        let redis = places
            .redis
            .as_ref()
            .filter(|_| config.api.limits.is_on())
            .map(|url| redis::Client::new(&redis::Config { url: url.clone() }));
        let redis = redis.transpose().map_err(Error::Redis)?;
        let inner = Inner {
            basis: Basis::of(config, places),
            quota: Quota::new(&config.api.limits, redis.clone()),
            redis,
            hasher: Hasher::new(passwords::Limits::default()),
            outbound: Outbound::new().map_err(Error::Outbound)?,
            database,
            cache,
            keys,
            api_keys,
            gateway,
            health: component,
            optional,
            settled: watch::Sender::new(false),
            publishable: OnceLock::new(),
            stop: CancellationToken::new(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Whether a configuration would make the same.
    pub(super) fn is_of(&self, config: &Config, places: &Places) -> bool {
        self.inner.basis == Basis::of(config, places)
    }

    /// Whether it is this very one.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Starts its tasks. `private` is the private server, if the database is in it.
    pub(super) fn start(&self, private: Option<Watch>) {
        let inner = self.inner.clone();
        let stop = inner.stop.clone();
        tokio::spawn(async move { stop.run_until_cancelled(inner.run(private)).await });
    }

    /// Waits until it answers, or it is known that it will take longer.
    pub(super) async fn settled(&self) {
        let mut settled = self.inner.settled.subscribe();
        // The sender lives as long as we do.
        let _ = tokio::time::timeout(PATIENCE, settled.wait_for(|settled| *settled)).await;
    }

    /// The key that applications put into browsers, once the database has told it.
    pub(super) fn publishable(&self) -> Option<&str> {
        self.inner.publishable.get().map(String::as_str)
    }

    /// The database itself.
    pub(super) fn database(&self) -> &Database {
        &self.inner.database
    }

    /// Knows who asks.
    pub(super) fn gateway(&self) -> &Gateway {
        &self.inner.gateway
    }

    /// Ends its tasks, and lets requests that have begun have their connections.
    pub(super) fn stop(&self) {
        self.inner.stop.cancel();
        let (database, redis) = (self.inner.database.clone(), self.inner.redis.clone());
        let grace = database.config().request_timeout;
        tokio::spawn(async move {
            tokio::time::sleep(grace).await;
            database.close();
            if let Some(redis) = redis {
                redis.close().await;
            }
        });
    }

    /// Rows and functions, for /rest/v1.
    pub(super) fn api(&self, config: &Config) -> Arc<dyn Handler> {
        let Inner { database, gateway, cache, quota, .. } = &*self.inner;
        Arc::new(Api::new(config.api.clone(), database.clone(), gateway.clone(), cache.clone(), quota.clone()))
    }

    /// The page that describes the API to people, for `path`.
    pub(super) fn reference(&self, path: &str, config: &Config) -> Arc<dyn Handler> {
        let Inner { database, gateway, cache, .. } = &*self.inner;
        Arc::new(Page::new(path, config.api.clone(), database.clone(), gateway.clone(), cache.clone()))
    }

    /// Accounts, which send mail by `mailer` and tell the world that they are at `base_url`.
    pub(super) fn accounts(&self, config: &Config, base_url: String, mailer: Mailer) -> Accounts {
        let Inner { database, keys, gateway, hasher, outbound, .. } = &*self.inner;
        Accounts::new(Needs {
            config: config.auth.clone(),
            base_url,
            pool: database.owner().clone(),
            hasher: hasher.clone(),
            keys: keys.clone(),
            gateway: gateway.clone(),
            mailer,
            outbound: outbound.clone(),
        })
    }
}

impl Inner {
    /// It does not work yet.
    fn lacks(&self, reason: String) {
        let state = if self.optional { State::Degraded } else { State::Failed };
        self.health.mirror(state, reason);
        // A private server that has never run needs a moment, which is worth waiting for.
        if !self.optional {
            self.settled.send_replace(true);
        }
    }

    /// Waits for the private server. Whether it comes is told by its keeper; nobody is asked in vain meanwhile.
    async fn comes(&self, mut private: Watch) {
        loop {
            match private.now() {
                Condition::Ready => return self.database.tell_absence(None),
                // A first start takes seconds, which are worth waiting for.
                Condition::Starting => self.lacks("the private PostgreSQL is being started".into()),
                Condition::Down(reason) => {
                    // What to install, for whoever asks the API.
                    self.database.tell_absence(Some(reason.clone()));
                    self.lacks(reason.to_string());
                    self.settled.send_replace(true);
                }
            }
            private.changed().await;
        }
    }

    async fn run(&self, private: Option<Watch>) {
        if let Some(private) = private {
            self.comes(private).await;
        }
        let cache = self.cache.clone();
        let reading = tokio::spawn(cache.run());
        let _reading = AbortOnDrop(reading.abort_handle());
        let _counting = self.redis.clone().map(|redis| AbortOnDrop(tokio::spawn(redis.keep()).abort_handle()));
        let mut told = String::new();
        self.database
            .prepare_until_ready(|error| {
                let text = chain(error).to_string();
                if text != told {
                    tracing::warn!(error = text, "the database is not ready; trying again");
                    told.clone_from(&text);
                }
                self.lacks(text);
            })
            .await;
        loop {
            match gateway::load(&self.database, &self.keys, &self.api_keys).await {
                Ok(key) => {
                    if let Some(key) = key {
                        let _ = self.publishable.set(key);
                    }
                    break;
                }
                Err(error) => {
                    tracing::warn!(%error, "keys cannot be read; trying again");
                    self.lacks(error.to_string());
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
        self.health.ok();
        self.cache.after(0).await;
        self.settled.send_replace(true);
        gateway::follow(self.database.clone(), self.keys.clone(), self.api_keys.clone()).await;
    }
}

struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
