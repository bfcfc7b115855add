//! A mount that answers with a redirect.

use http::header::LOCATION;
use http::{HeaderValue, StatusCode};

use crate::config;
use crate::http::{Body, Handler, Problem, Reply, Request, Response};

/// Redirects every request of a mount.
pub struct Redirect {
    to: String,
    status: StatusCode,
}

impl Redirect {
    /// The redirect that `config` describes; its status was validated.
    pub fn new(config: &config::Redirect) -> Self {
        let status = StatusCode::from_u16(config.status).unwrap_or(StatusCode::PERMANENT_REDIRECT);
        Self { to: config.to.clone(), status }
    }
}

impl Handler for Redirect {
    fn handle(&self, request: Request) -> Reply<'_> {
        let uri = &request.parts.uri;
        // The path as it came, so that its encoding stays, less the mount's segments; runs of slashes are joined, or
        // it could name a host.
        let rest = if self.to.contains("{path}") {
            let segments = request.context.path.get(..request.context.mounted).unwrap_or_default().matches('/').count();
            let below: Vec<&str> = uri.path().split('/').filter(|part| !part.is_empty()).skip(segments).collect();
            let slash = if uri.path().ends_with('/') && !below.is_empty() { "/" } else { "" };
            let path = format!("/{}{slash}", below.join("/"));
            uri.query().map_or(path.clone(), |query| format!("{path}?{query}"))
        } else {
            String::new()
        };
        let to = self.to.replace("{path}", &rest).replace("{host}", &request.context.host);
        Reply::Now(match HeaderValue::try_from(to) {
            Ok(value) => {
                let mut response = Response::new(Body::Empty);
                *response.status_mut() = self.status;
                response.headers_mut().insert(LOCATION, value);
                response
            }
            Err(_) => Problem::not_found().response(&request.parts.headers, &request.context.id),
        })
    }
}
