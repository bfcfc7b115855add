//! What is sent back: JSON, or a problem.

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use serde::Serialize;

use crate::auth::gateway;
use crate::error::chain;
use crate::http::{Body, BodyError, Problem, Response};
use crate::id::RequestId;
use crate::tasks::{self, schedule};

/// What a request leads to.
pub(super) type Answer = Result<Response, Failure>;

/// Why a request is not answered with what it asked for.
#[derive(Debug)]
pub(super) enum Failure {
    /// As most are told.
    Problem(Problem),
    /// Another method is needed.
    Method(&'static str),
    /// Who asks cannot be told, in the words of the gateway.
    Refused(Box<gateway::Refusal>),
}

impl Failure {
    pub(super) fn new(
        status: StatusCode,
        code: &'static str,
        message: impl Into<std::borrow::Cow<'static, str>>,
        hint: impl Into<std::borrow::Cow<'static, str>>,
    ) -> Self {
        Self::Problem(Problem::new(status, code, message, hint))
    }

    /// 400: what was sent makes no sense.
    pub(super) fn invalid(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", message.into(), hint.into())
    }

    /// 404.
    pub(super) fn not_found(code: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, message.into(), hint.into())
    }

    /// 409.
    pub(super) fn conflict(code: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, message.into(), hint.into())
    }

    /// 503: later.
    pub(super) fn later(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message.into(), "Try again in a moment.")
    }

    pub(super) fn response(&self, id: &RequestId) -> Response {
        let problem = match self {
            Self::Refused(refusal) => return refusal.response(),
            Self::Problem(problem) => problem,
            Self::Method(allowed) => &Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "This address has no such method.",
                format!("Use one of: {allowed}."),
            ),
        };
        let mut response = problem.response_as(false, id);
        let headers = response.headers_mut();
        if let Self::Method(allowed) = self {
            headers.insert(ALLOW, HeaderValue::from_static(allowed));
        }
        if problem.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if problem.status == StatusCode::UNAUTHORIZED {
            headers.insert(http::header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<BodyError> for Failure {
    fn from(error: BodyError) -> Self {
        Self::Problem(error.problem())
    }
}

impl From<gateway::Refusal> for Failure {
    fn from(refusal: gateway::Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

impl From<tasks::Error> for Failure {
    fn from(error: tasks::Error) -> Self {
        match &error {
            tasks::Error::Task(problem) => Self::invalid(format!("{problem}."), "Change it and send it again."),
            tasks::Error::TooLarge { .. } => Self::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "task_too_large",
                format!("The task is too large: {error}."),
                "Put the data elsewhere and send where it is, or raise tasks.max_message_bytes.",
            ),
            _ => {
                tracing::warn!(error = %chain(&error), "a request about tasks failed: Redis did not do what it was asked for");
                let status = StatusCode::SERVICE_UNAVAILABLE;
                let (message, hint) = if error.is_unavailable() {
                    (
                        "The tasks' Redis does not answer.",
                        "Try again in a moment; with an Idempotency-Key that does no harm.",
                    )
                } else {
                    ("The tasks' Redis refused.", "The log says why; its memory may be full.")
                };
                Self::new(status, "tasks_unavailable", message, hint)
            }
        }
    }
}

impl From<schedule::Error> for Failure {
    fn from(error: schedule::Error) -> Self {
        let text = format!("{error}.");
        match error {
            schedule::Error::Unknown(_) => {
                Self::not_found("schedule_not_found", capital(&text), "GET /tasks/v1/schedules lists them.")
            }
            schedule::Error::Elsewhere(_) => Self::conflict(
                "schedule_elsewhere",
                capital(&text),
                "Entries of the configuration and of a Celery application are changed there. Use another name.",
            ),
            schedule::Error::NoDatabase => Self::conflict(
                "no_database",
                capital(&text),
                "Set DATABASE_URL, or put the schedule into [tasks.schedules] of the configuration.",
            ),
            schedule::Error::Send(error) => error.into(),
            schedule::Error::Store(schedule::StoreError::Invalid(faults)) => {
                let told: Vec<String> = faults.iter().map(|fault| format!("{} {}", fault.key, fault.problem)).collect();
                let hint = faults.into_iter().next().map(|fault| fault.fix).unwrap_or_default();
                Self::invalid(format!("The schedule cannot be used: {}.", told.join("; ")), hint)
            }
            schedule::Error::Store(error) => {
                tracing::warn!(error = %chain(&error), "a request about schedules failed");
                Self::later("database_unavailable", "The database does not answer.")
            }
        }
    }
}

/// A sentence begins with a capital.
pub(super) fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// A JSON body that no cache may keep.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    let mut response = Response::new(Body::from(serde_json::to_vec(value).unwrap_or_default()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// 200 with a JSON body.
pub(super) fn ok(value: &impl Serialize) -> Answer {
    let value = serde_json::to_value(value).map_err(|error| {
        tracing::error!(%error, "an answer about tasks cannot be written");
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Failure::new(status, "internal", "The answer could not be written.", "The log says why.")
    })?;
    Ok(json(StatusCode::OK, &value))
}
