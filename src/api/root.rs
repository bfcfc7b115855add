//! GET on the API's root: the description of what the caller may use.

use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderValue, Method};

use super::database_error::explain;
use super::openapi::{self, Address, Question, Sight};
use super::query::Media;
use super::request::Asked;
use super::{Error, OpenApiMode};
use crate::http::{Body, Response};

/// The path of the mount, in the description.
const MOUNT: &str = "/rest/v1";

/// Describes the schema that was asked for, as the caller sees it; `authority` is the target's host and port.
pub(super) async fn describe(asked: &Asked<'_>, secure: bool, authority: Option<&str>) -> Result<Response, Error> {
    let config = &asked.force.config;
    if config.openapi_mode == OpenApiMode::Disabled {
        return Err(Error::no_description());
    }
    let known = |media: &&Media| matches!(media, Media::OpenApi | Media::Json | Media::Any);
    let media = asked.accepted.iter().find(known).ok_or_else(|| Error::media(&asked.accepted))?;
    let settings = asked.settings(None);
    let question =
        Question { settings: &settings.list(), before: asked.force.before.as_deref(), schemas: &config.schemas };
    let sight = Sight::ask(asked.pool, question).await.map_err(|error| explain(&error, asked.caller.authenticated))?;
    let sight = sight.under(config, !asked.caller.authenticated).ok_or_else(Error::no_description)?;
    // HTTP/1.1 names host and port in a header, HTTP/2 in the target.
    let named = || asked.headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = authority.or_else(named).unwrap_or(asked.host);
    let document = openapi::document(&asked.force.catalog, &sight, asked.schema, Address { secure, host, path: MOUNT });
    let mut response = Response::new(if asked.method == Method::HEAD { Body::Empty } else { Body::from(document) });
    let kind = if matches!(media, Media::OpenApi) { openapi::CONTENT_TYPE } else { "application/json; charset=utf-8" };
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    Ok(response)
}
