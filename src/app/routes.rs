//! Every route that Beacon serves, and what stands in front of each. This file and `tasks` show all that it does.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::header::CONTENT_SECURITY_POLICY;
use http::{HeaderName, HeaderValue};

use super::Error;
use super::backend::Backend;
use super::control::Desk;
use super::operations::Operations;
use super::redirect::Redirect;
use super::tasks::Tasks;
use crate::auth;
use crate::auth::accounts::{self, Accounts};
use crate::config::{self, Config};
use crate::docs::{self, Docs, Welcome};
use crate::http::{Cors, Handler, Limiter, Mount, Router};
use crate::jobs;
use crate::site::{self, Site};
use crate::telemetry::{Health, Metrics};

/// What a configuration serves.
pub struct Routes {
    /// Who answers.
    pub router: Router,
    /// Documentation sites, which render in the background.
    pub docs: Vec<Docs>,
}

/// Features that are more than a mount of the configuration.
pub struct Features<'a> {
    /// What stands on the database.
    pub(super) backend: Option<&'a Backend>,
    /// Accounts in it.
    pub accounts: Option<&'a Accounts>,
    /// Background tasks.
    pub(super) tasks: Option<&'a Tasks>,
}

/// Where the API is described to people.
const API_REFERENCE: &str = "/docs/api";

/// The largest body of a request about an account, in bytes.
const ACCOUNTS_BODY: u64 = 1024 * 1024;

/// Where Beacon's own documentation stands when nothing is configured.
const OWN_DOCS: &str = "/docs";

/// The mounts of the operations listener: /healthz, /readyz and /metrics.
pub fn operations(health: Health, metrics: &Metrics) -> Router {
    alone("operations", Arc::new(Operations { health, metrics: metrics.clone() }), metrics)
}

/// The mounts of the control socket: /status and /reload.
pub fn control(desk: Desk, metrics: &Metrics) -> Router {
    alone("control", Arc::new(desk), metrics)
}

/// One handler for everything.
fn alone(name: &str, handler: Arc<dyn Handler>, metrics: &Metrics) -> Router {
    let mut router = Router::default();
    let mount = Mount {
        name: name.into(),
        handler,
        body_bytes: 0,
        limiter: None,
        headers: Vec::new(),
        metrics: metrics.mount(name),
    };
    // The first mount of a router conflicts with nothing.
    let _ = router.add("", "/", mount);
    router
}

/// The mounts of a configuration, or those of a Beacon that has none.
///
/// # Errors
/// A folder that cannot be served, or two mounts at one place.
pub fn build(config: &Config, gate: &auth::Gate, features: &Features<'_>, metrics: &Metrics) -> Result<Routes, Error> {
    let mut routes = Routes { router: Router::default(), docs: Vec::new() };
    for (name, mount) in &with_own(&config.mounts) {
        let mut own = headers(&mount.headers);
        let handler: Arc<dyn Handler> = if let Some(site) = &mount.site {
            Arc::new(open_site(name, site)?)
        } else if let Some(docs) = &mount.docs {
            open_docs(name, docs, &mount.path, &mut routes.docs, &mut own)?
        } else if let Some(redirect) = &mount.redirect {
            Arc::new(Redirect::new(redirect))
        } else {
            Arc::new(Welcome::new(OWN_DOCS))
        };
        let handler = if mount.wall { gate.protect(handler) } else { handler };
        let entry = Mount {
            name: Arc::from(name.as_str()),
            handler,
            body_bytes: if mount.body_bytes == 0 { config.http.limits.body_bytes } else { mount.body_bytes },
            limiter: Limiter::new(&mount.rate),
            headers: own,
            metrics: metrics.mount(name),
        };
        routes
            .router
            .add(&mount.host, &mount.path, entry)
            .map_err(|first| Error::Conflict { first, second: name.clone() })?;
    }
    if let Some(backend) = features.backend {
        let mut add = |name: &str, path: &str, body_bytes: u64, handler: Arc<dyn Handler>| {
            let handler: Arc<dyn Handler> = Arc::new(Cors::new(&config.api.cors, handler));
            let handler = if config.api.wall { gate.protect(handler) } else { handler };
            let entry = Mount {
                name: name.into(),
                handler,
                body_bytes,
                limiter: None,
                headers: Vec::new(),
                metrics: metrics.mount(name),
            };
            routes
                .router
                .add("", path, entry)
                .map_err(|first| Error::Conflict { first, second: format!("the API ({name})") })
        };
        if config.api.enabled {
            add("rest", "/rest/v1", config.http.limits.body_bytes, backend.api(config))?;
            add("api-reference", API_REFERENCE, 0, backend.reference(API_REFERENCE, config))?;
        }
        if let Some(tasks) = features.tasks {
            add("tasks", jobs::api::MOUNT, jobs::api::BODY, Arc::new(tasks.api(backend.gateway().clone())))?;
        }
        if let Some(accounts) = features.accounts {
            add("auth", accounts::MOUNT, ACCOUNTS_BODY, Arc::new(accounts.clone()))?;
        }
    }
    Ok(routes)
}

/// The configured mounts; a welcome page and the documentation when there are none.
fn with_own(mounts: &BTreeMap<String, config::Mount>) -> BTreeMap<String, config::Mount> {
    if !mounts.is_empty() {
        return mounts.clone();
    }
    let welcome = config::Mount::default();
    let docs = config::Mount { path: OWN_DOCS.into(), docs: Some(docs::Config::default()), ..config::Mount::default() };
    BTreeMap::from([("welcome".to_owned(), welcome), ("docs".to_owned(), docs)])
}

fn open_site(name: &str, config: &site::Config) -> Result<Site, Error> {
    Site::open(config).map_err(|source| Error::Site { mount: name.to_owned(), source })
}

/// Markdown is a documentation site; ready HTML is a site like any other.
fn open_docs(
    name: &str,
    config: &docs::Config,
    path: &str,
    running: &mut Vec<Docs>,
    headers: &mut Vec<(HeaderName, HeaderValue)>,
) -> Result<Arc<dyn Handler>, Error> {
    let failed = |source| Error::Docs { mount: name.to_owned(), source };
    match docs::kind(config).map_err(failed)? {
        docs::Kind::Html => {
            let site = site::Config {
                root: config.folder.clone(),
                error_pages: html_error_pages(config),
                ..site::Config::default()
            };
            if !headers.iter().any(|(name, _)| *name == CONTENT_SECURITY_POLICY) {
                headers.push((CONTENT_SECURITY_POLICY, HeaderValue::from_static(docs::Kind::HTML_POLICY)));
            }
            Ok(Arc::new(open_site(name, &site)?))
        }
        docs::Kind::Markdown => {
            let docs = Docs::open(config, path).map_err(failed)?;
            running.push(docs.clone());
            Ok(Arc::new(docs))
        }
    }
}

/// Generators of documentation put their "not found" page at a fixed name.
fn html_error_pages(config: &docs::Config) -> BTreeMap<String, String> {
    let page = "404.html";
    let there = config.folder.join(page).is_file();
    there.then(|| ("404".to_owned(), page.to_owned())).into_iter().collect()
}

fn headers(headers: &BTreeMap<String, String>) -> Vec<(HeaderName, HeaderValue)> {
    // They were validated with the configuration.
    headers.iter().filter_map(|(name, value)| Some((name.parse().ok()?, value.parse().ok()?))).collect()
}
