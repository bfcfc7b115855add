//! The API as a handler: who asks, for what, and by which method.

use std::sync::Arc;

use http::header::{ALLOW, HeaderName};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::address::{self, Address};
use super::force::{Force, InForce};
use super::query::{self, Media, Preferences};
use super::request::Asked;
use super::schema::{BodyKind, Cache, Catalog, Name, Relation, Volatility};
use super::timing::Timing;
use super::{Config, Error, call, read, root, write};
use crate::auth::Gateway;
use crate::auth::quota::Quota;
use crate::db::Database;
use crate::http::{Body, Handler, Reply, Request, Response, User};

const CONTENT_PROFILE: HeaderName = HeaderName::from_static("content-profile");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// The database's data over HTTP. Clones share it.
#[derive(Clone)]
pub struct Api {
    shared: Arc<Shared>,
}

struct Shared {
    force: Force,
    database: Database,
    gateway: Gateway,
    quota: Option<Quota>,
}

impl Api {
    /// The API over a database whose schema is in `cache`, for the callers that `gateway` knows and `quota` lets in.
    #[must_use]
    pub fn new(config: Config, database: Database, gateway: Gateway, cache: Cache, quota: Option<Quota>) -> Self {
        Self { shared: Arc::new(Shared { force: Force::new(config, cache), database, gateway, quota }) }
    }
}

impl Handler for Api {
    fn handle(&self, request: Request) -> Reply<'_> {
        Reply::later(async move {
            let head = request.parts.method == Method::HEAD;
            self.shared.answer(request).await.unwrap_or_else(|error| error.response(head))
        })
    }
}

impl Shared {
    async fn answer(&self, request: Request) -> Result<Response, Error> {
        let Request { parts, body, context } = request;
        let force = self.force.now().ok_or_else(|| {
            let mut error = Error::later(
                StatusCode::SERVICE_UNAVAILABLE,
                "PGRST002",
                "Could not query the database for the schema cache. Retrying.",
            );
            error.details = self.database.absence().map_or(serde_json::Value::Null, |reason| (*reason).into());
            error
        })?;
        let InForce { config, catalog, .. } = &*force;
        let mut timing = Timing::new(config.server_timing);
        let caller = self.gateway.identify(&parts.headers)?;
        timing.mark("jwt");
        let standing = match &self.quota {
            Some(quota) => quota.take(&caller, context.client).await,
            None => None,
        };
        if let Some(standing) = standing.as_ref().filter(|standing| standing.is_over()) {
            return Ok(standing.response());
        }
        let text = parts.uri.query().unwrap_or_default();
        if text.len() > query::MAX_QUERY {
            return Err(Error::from(query::Error::too_long()));
        }
        let preferences = Preferences::read(&parts.headers, config.tx_end.is_free());
        if preferences.is_strict() && !preferences.unknown.is_empty() {
            return Err(Error::preferences(&preferences.unknown));
        }
        let asked = Asked {
            force: &force,
            pool: self.database.requests(),
            caller: &caller,
            schema: address::schema(&parts.method, &parts.headers, &config.schemas)?,
            method: &parts.method,
            headers: &parts.headers,
            path: context.rest(),
            host: &context.host,
            pairs: query::pairs(text)?,
            preferences,
            accepted: Media::accepted(&parts.headers),
        };
        let address = Address::read(asked.path)?;
        // The mount limits the body.
        let body = if matches!(parts.method, Method::POST | Method::PATCH | Method::PUT) {
            body.collect(u64::MAX).await?
        } else {
            bytes::Bytes::new()
        };
        let mut response = match (address, parts.method.as_str()) {
            (Address::Relation(name), "GET" | "HEAD") => read::read(&asked, name, &mut timing).await?,
            (Address::Relation(name), "POST") => write::insert(&asked, name, body, &mut timing).await?,
            (Address::Relation(name), "PATCH") => write::update(&asked, name, body, &mut timing).await?,
            (Address::Relation(name), "PUT") => write::put(&asked, name, body, &mut timing).await?,
            (Address::Relation(name), "DELETE") => write::delete(&asked, name, &mut timing).await?,
            (Address::Relation(name), "OPTIONS") => allow(&relation_methods(&*catalog.relation(asked.schema, name)?)),
            (Address::Function(name), "GET" | "HEAD" | "POST") => call::call(&asked, name, body, &mut timing).await?,
            (Address::Function(name), "OPTIONS") => allow(function_methods(catalog, asked.schema, name)?),
            (Address::Function(_), method) => return Err(Error::call_method(method)),
            (Address::Root, "OPTIONS") => allow(ROOT_METHODS),
            (Address::Root, "GET" | "HEAD") => {
                let authority = parts.uri.authority().map(Authority::as_str);
                root::describe(&asked, context.secure, authority).await?
            }
            (Address::Root, method) => return Err(Error::method(method, ROOT_METHODS)),
            (Address::Relation(_), method) => {
                return Err(Error::method(method, "OPTIONS,GET,HEAD,POST,PUT,PATCH,DELETE"));
            }
        };
        timing.mark("response");
        let headers = response.headers_mut();
        if config.schemas.len() > 1
            && let Ok(value) = HeaderValue::from_str(asked.schema)
        {
            headers.entry(CONTENT_PROFILE).or_insert(value);
        }
        if let Some(standing) = standing {
            standing.mark(headers);
        }
        if let Some(value) = timing.header() {
            headers.append(SERVER_TIMING, value);
        }
        if let Some(subject) = &caller.subject {
            response.extensions_mut().insert(User(subject.clone()));
        }
        Ok(response)
    }
}

const ROOT_METHODS: &str = "OPTIONS,GET,HEAD";

fn allow(methods: &str) -> Response {
    let mut response = Response::new(Body::Empty);
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_str(methods) {
        headers.insert(ALLOW, value);
    }
    *response.headers_mut() = headers;
    response
}

fn relation_methods(relation: &Relation) -> String {
    let mut methods = ROOT_METHODS.to_owned();
    let keyed = !relation.primary_key.is_empty();
    for (method, can) in [
        (",POST", relation.insertable),
        (",PUT", relation.insertable && relation.updatable && keyed),
        (",PATCH", relation.updatable),
        (",DELETE", relation.deletable),
    ] {
        if can {
            methods.push_str(method);
        }
    }
    methods
}

/// A function that may write can only be called by POST.
fn function_methods(catalog: &Catalog, schema: &str, name: &str) -> Result<&'static str, Error> {
    let name = Name { schema: schema.into(), name: name.into() };
    match catalog.functions.get(&name) {
        Some(all) if all.iter().all(|function| function.volatility == Volatility::Volatile) => Ok("OPTIONS,POST"),
        Some(_) => Ok("OPTIONS,GET,HEAD,POST"),
        None => Err(catalog.function(&name, &[], BodyKind::None).map_or_else(Error::from, |_| Error::path())),
    }
}
