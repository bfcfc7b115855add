//! What the operations listener serves: /healthz, /readyz and /metrics.

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, StatusCode};

use crate::http::{Body, Handler, Problem, Reply, Request, Response};
use crate::telemetry::{Health, Metrics};

/// Answers for monitoring.
pub struct Operations {
    /// The state of components.
    pub health: Health,
    /// The counters.
    pub metrics: Metrics,
}

impl Handler for Operations {
    fn handle(&self, request: Request) -> Reply<'_> {
        let (status, kind, body) = match request.context.rest() {
            _ if !matches!(request.parts.method, Method::GET | Method::HEAD) => {
                let problem =
                    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "Only GET is allowed.", "");
                let mut response = problem.response(&request.parts.headers, &request.context.id);
                response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
                return Reply::Now(response);
            }
            "healthz" => {
                let (status, body) = self.health.healthz();
                (status, "application/json", body)
            }
            "readyz" => {
                let (status, body) = self.health.readyz();
                (status, "application/json", body)
            }
            "metrics" => (200, "application/openmetrics-text; version=1.0.0; charset=utf-8", self.metrics.render()),
            _ => {
                let problem = Problem::new(
                    StatusCode::NOT_FOUND,
                    "not_found",
                    "There is nothing at this address.",
                    "This listener has /healthz, /readyz and /metrics.",
                );
                return Reply::Now(problem.response(&request.parts.headers, &request.context.id));
            }
        };
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Reply::Now(response)
    }
}
