//! The documentation of the data API, made from the live schema for the role that reads it.
//!
//! Pages are HTML that works without scripts; style and scripts are files beside them, so that nothing inline is needed.
//! A page depends on who asks: no cache may keep it for somebody else.

mod code;
mod examples;
mod frame;
mod function;
mod look;
mod overview;
mod relation;
mod sights;

use std::sync::Arc;

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, RETRY_AFTER, VARY};
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode};
use percent_encoding::percent_decode_str;

use super::Config;
use super::force::{Force, InForce};
use super::openapi::Sight;
use super::schema::Cache;
use crate::auth::Gateway;
use crate::db::Database;
use crate::error::chain;
use crate::http::{Body, Context, Handler, Problem, Reply, Request, Response, User};
use frame::{Content, Subject};
use sights::{Shown, Sights};

/// What pages may do: show themselves, and load what is beside them.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
);

/// The pages, as a handler for a mount.
pub struct Page {
    base: String,
    force: Force,
    database: Database,
    gateway: Gateway,
    sights: Sights,
}

impl Page {
    /// The pages about the schema in `cache`, mounted at `path` ("/docs/api"), for the readers that `gateway` knows.
    #[must_use]
    pub fn new(path: &str, config: Config, database: Database, gateway: Gateway, cache: Cache) -> Self {
        let base = format!("{}/", path.trim_end_matches('/'));
        Self { base, force: Force::new(config, cache), database, gateway, sights: Sights::default() }
    }

    async fn answer(&self, parts: &Parts, context: &Context) -> Response {
        let (headers, id) = (&parts.headers, &context.id);
        let problem = |problem: Problem| problem.response(headers, id);
        let caller = match self.gateway.identify(headers) {
            Ok(caller) => caller,
            Err(refusal) => {
                let hint = refusal.hint.clone().unwrap_or_default();
                let mut response = problem(Problem::new(refusal.status, refusal.code, refusal.message.clone(), hint));
                if let Some(challenge) = refusal.challenge() {
                    response.headers_mut().insert(http::header::WWW_AUTHENTICATE, challenge);
                }
                return response;
            }
        };
        let Some(force) = self.force.now() else { return later(parts, context, "The schema is being read.") };
        let sight = match self.sights.of(&self.database, &force, &caller).await {
            Ok(sight) => sight,
            // The token names a role that does not exist, or that requests may not change to.
            Err(error) if matches!(error.sqlstate(), Some("22023" | "42501")) => {
                let message = "The role of the token cannot be used here.";
                return problem(Problem::new(StatusCode::FORBIDDEN, "role_unusable", message, "Use another token."));
            }
            Err(error) => {
                tracing::warn!(error = %chain(&error), "the rights for the reference cannot be read");
                return later(parts, context, "The database does not answer.");
            }
        };
        let Some(sight) = sight.under(&force.config, !caller.authenticated) else {
            return problem(Problem::not_found());
        };
        let shown = self.shown(origin(parts, context), force, sight, caller.role.clone());
        let mut response = if context.rest().is_empty() {
            html(&shown, parts.uri.query().unwrap_or_default())
        } else {
            let mut response = Response::new(Body::from(overview::index(&shown).to_string()));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        };
        let headers = response.headers_mut();
        headers.insert(CONTENT_SECURITY_POLICY, POLICY);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
        headers.insert(VARY, HeaderValue::from_static("apikey, authorization"));
        if let Some(subject) = &caller.subject {
            response.extensions_mut().insert(User(subject.clone()));
        }
        response
    }

    fn shown(&self, origin: String, force: Arc<InForce>, sight: Sight, role: Arc<str>) -> Shown {
        let views = force.config.schemas.iter().map(|schema| (schema.clone(), sight.view(&force.catalog, schema)));
        let views = views.filter(|(_, view)| !view.relations.is_empty() || !view.functions.is_empty()).collect();
        Shown { base: self.base.clone(), origin, role, force, sight, views }
    }
}

impl Handler for Page {
    fn handle(&self, request: Request) -> Reply<'_> {
        let (headers, id) = (&request.parts.headers, &request.context.id);
        if !matches!(request.parts.method, Method::GET | Method::HEAD) {
            let (status, message) = (StatusCode::METHOD_NOT_ALLOWED, "This page can only be read.");
            let mut response =
                Problem::new(status, "method_not_allowed", message, "Use GET or HEAD.").response(headers, id);
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return Reply::Now(response);
        }
        let rest = request.context.rest();
        if let Some(response) = look::response(rest) {
            return Reply::Now(response);
        }
        if !matches!(rest, "" | "search.json") {
            return Reply::Now(Problem::not_found().response(headers, id));
        }
        Reply::later(async move {
            let Request { parts, context, .. } = request;
            self.answer(&parts, &context).await
        })
    }
}

/// The page that a query asks for.
fn html(shown: &Shown, query: &str) -> Response {
    let asked = Asked::read(query);
    let default = shown.force.config.schemas.first().map(String::as_str).unwrap_or_default();
    let schema = asked.schema.as_deref().unwrap_or(default);
    let view = shown.view(schema);
    let (subject, content) = match (&asked.table, &asked.function) {
        (None, None) => (Subject::Overview, overview::page(shown)),
        (Some(name), _) => match view.and_then(|view| view.relations.get(name.as_str())) {
            Some(seen) => (Subject::Relation(schema, name), relation::page(shown, seen)),
            None => (Subject::Missing, missing(name)),
        },
        (None, Some(name)) => match view.and_then(|view| view.functions.get(name.as_str())) {
            Some(overloads) => (Subject::Function(schema, name), function::page(shown, overloads)),
            None => (Subject::Missing, missing(name)),
        },
    };
    let mut response = Response::new(Body::from(frame::document(shown, subject, &content)));
    if subject == Subject::Missing {
        *response.status_mut() = StatusCode::NOT_FOUND;
    }
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    response
}

fn missing(name: &str) -> Content {
    let mut content = Content::titled("Not here");
    content.add(&format!(
        "<p>There is nothing called <code>{}</code>, or your role may not use it.</p>",
        crate::http::escape(name)
    ));
    content
}

fn later(parts: &Parts, context: &Context, message: &'static str) -> Response {
    let problem =
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "schema_unavailable", message, "Try again in a moment.");
    let mut response = problem.response(&parts.headers, &context.id);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// What a query asks for; what it says besides is for nobody.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    schema: Option<String>,
    table: Option<String>,
    function: Option<String>,
}

impl Asked {
    fn read(query: &str) -> Self {
        let mut asked = Self::default();
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = value.replace('+', " ");
            let value = Some(percent_decode_str(&value).decode_utf8_lossy().into_owned());
            match name {
                "schema" => asked.schema = value,
                "table" => asked.table = value,
                "function" => asked.function = value,
                _ => {}
            }
        }
        asked
    }
}

/// Scheme, host and port by which the reader came.
fn origin(parts: &Parts, context: &Context) -> String {
    let host = parts.headers.get(HOST).and_then(|value| value.to_str().ok());
    let host = host.or_else(|| parts.uri.authority().map(http::uri::Authority::as_str));
    let scheme = if context.secure { "https" } else { "http" };
    format!("{scheme}://{}", host.unwrap_or(&context.host))
}

#[cfg(test)]
mod tests;
