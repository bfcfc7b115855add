//! Accounts: the API at /auth/v1, in the dialect that clients of the supabase-js family speak.
//!
//! `routes` shows everything that is served; each flow has a file; `store` has the SQL. Flows keep three rules. A
//! connection is not held while a password is hashed, a hook is called or a mail is sent. The row of the user is locked
//! before it is changed. Whether somebody has an account is not to be seen from an answer or from its time.

mod access;
mod admin;
mod answer;
mod arrival;
mod ask;
mod config;
mod external;
mod factors;
mod failure;
mod hooking;
mod limits;
mod linking;
mod links;
mod mailing;
mod outbox;
mod pages;
mod profile;
mod redirect;
mod routes;
mod rules;
mod session;
mod settings;
mod sign_in;
mod signup;
mod store;
mod token;
mod user;
mod verify;

use std::sync::Arc;

pub use config::{Config, Limits, Mfa, Sessions, Switch};
pub use failure::Failure;

use self::redirect::Allowed;
use crate::auth::gateway::Gateway;
use crate::auth::hooks::{self, Hooks, Point};
use crate::auth::jwt::Keys;
use crate::auth::oauth::Providers;
use crate::auth::passwords::Hasher;
use crate::db;
use crate::http::Outbound;
use crate::mail::Mailer;

/// Where the API is mounted.
pub const MOUNT: &str = "/auth/v1";

/// What accounts need.
pub struct Needs {
    /// The section `[auth]`.
    pub config: Config,
    /// The address under which the world reaches this Beacon, without a slash at its end, when the configuration does
    /// not say.
    pub base_url: String,
    /// Connections of the owner.
    pub pool: db::Pool,
    /// Hashes passwords.
    pub hasher: Hasher,
    /// Signs and verifies tokens.
    pub keys: Keys,
    /// Knows API keys.
    pub gateway: Gateway,
    /// Sends mail.
    pub mailer: Mailer,
    /// Asks identity providers and hooks.
    pub outbound: Outbound,
}

/// The accounts API. Cheap to clone.
#[derive(Clone)]
pub struct Accounts(Arc<Inner>);

struct Inner {
    config: Config,
    /// The address of this Beacon.
    base_url: String,
    /// `iss` in tokens.
    issuer: String,
    allowed: Allowed,
    /// Whether addresses are believed without a mail.
    autoconfirms: bool,
    pool: db::Pool,
    hasher: Hasher,
    keys: Keys,
    gateway: Gateway,
    mailer: Mailer,
    limits: limits::Limits,
    providers: Providers,
    hooks: Hooks,
    /// Mails that hooks are told of at this moment.
    mails: Arc<tokio::sync::Semaphore>,
}

impl Accounts {
    /// The API over its needs; the configuration was validated.
    #[must_use]
    pub fn new(needs: Needs) -> Self {
        let Needs { config, base_url, pool, hasher, keys, gateway, mailer, outbound } = needs;
        let base_url = if config.external_url.is_empty() { base_url } else { config.external_url.clone() };
        let issuer = if config.issuer.is_empty() { format!("{base_url}{MOUNT}") } else { config.issuer.clone() };
        let site_url = if config.site_url.is_empty() { &base_url } else { &config.site_url };
        let callback = format!("{base_url}{MOUNT}/callback");
        let hooks = Hooks::new(&config.hooks, pool.clone(), outbound.clone());
        Self(Arc::new(Inner {
            allowed: Allowed::new(site_url, &config.redirect_urls),
            autoconfirms: config.autoconfirms(mailer.is_on() || hooks.has(Point::SendEmail)),
            limits: limits::Limits::new(config.limits.table()),
            providers: Providers::new(&config.providers, &callback, outbound),
            hooks,
            mails: hooking::permits(),
            issuer,
            base_url,
            pool,
            hasher,
            keys,
            gateway,
            mailer,
            config,
        }))
    }

    /// What is allowed, and probably not meant.
    #[must_use]
    pub fn warnings(config: &Config, mail: bool) -> Vec<String> {
        let mut warnings = Vec::new();
        let mail = mail || config.hooks.send_email != hooks::Hook::default();
        if config.enabled && !mail && config.autoconfirms(mail) && config.signup_enabled && config.email_enabled {
            warnings.push(
                "mail.host is not set: whoever signs up is believed to own the address, and nobody can reset a password."
                    .into(),
            );
        }
        if config.enabled && !mail && !config.autoconfirms(mail) {
            warnings.push(
                "auth.autoconfirm is off and mail.host is not set: nobody who signs up can confirm the address.".into(),
            );
        }
        if config.enabled && config.autoconfirms(mail) && config.providers.values().any(|provider| provider.enabled) {
            warnings.push(
                "addresses are believed without a mail (auth.autoconfirm), and identity providers are enabled: whoever \
                 signs up first with an address shares the account of its owner who comes from a provider later."
                    .into(),
            );
        }
        warnings
    }

    /// Forgets sessions and tokens that are over; call it now and then.
    ///
    /// # Errors
    /// The database is away.
    pub async fn sweep(&self) -> Result<(), db::Error> {
        let seconds = |duration: std::time::Duration| (!duration.is_zero()).then_some(duration.as_secs_f64());
        let session = self.0.pool.get().await?;
        let sessions = &self.0.config.sessions;
        Ok(store::sessions::sweep(&*session, seconds(sessions.timebox), seconds(sessions.inactivity)).await?)
    }
}
