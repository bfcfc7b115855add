//! Why a request has no answer, in the form that clients of the dialect know: `code`, `message`, `details` and `hint`.
//!
//! The codes, texts and statuses are part of the dialect. What PostgreSQL says of a statement goes to the client as it
//! is; what goes wrong on the way to PostgreSQL goes to the log, and the client only hears that it went wrong.

use std::borrow::Cow;

use http::header::{ALLOW, CONTENT_TYPE, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Value, json};

use super::{plan, query, schema};
use crate::auth;
use crate::http::{Body, BodyError, Response};

const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// An error as the client reads it.
#[derive(Clone, Debug, PartialEq)]
pub struct Error {
    /// The response's status.
    pub status: StatusCode,
    /// A stable name for programs.
    pub code: Cow<'static, str>,
    /// One sentence.
    pub message: Cow<'static, str>,
    /// More about it: a sentence or a list; NULL when there is no more.
    pub details: Value,
    /// What to do about it.
    pub hint: Option<Cow<'static, str>>,
    /// Headers that the response has besides.
    pub headers: HeaderMap,
}

impl Error {
    /// An error without details.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        let (code, message) = (code.into(), message.into());
        Self { status, code, message, details: Value::Null, hint: None, headers: HeaderMap::new() }
    }

    /// The same with details.
    #[must_use]
    pub fn details(self, details: impl Into<String>) -> Self {
        Self { details: Value::String(details.into()), ..self }
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(self, hint: impl Into<Cow<'static, str>>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// The same with a header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// PGRST000 to 003: try again in a second.
    #[must_use]
    pub fn later(status: StatusCode, code: &'static str, message: &'static str) -> Self {
        Self::new(status, code, message).header(RETRY_AFTER, HeaderValue::from_static("1"))
    }

    /// PGRST101: a function is called with another method.
    #[must_use]
    pub fn call_method(method: &str) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "PGRST101", format!("Cannot use the {method} method on RPC"))
            .header(ALLOW, HeaderValue::from_static("OPTIONS,GET,HEAD,POST"))
    }

    /// PGRST102: the body is not what its type says.
    pub fn body(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "PGRST102", message)
    }

    /// PGRST103: there are no such rows.
    pub fn range(details: impl Into<String>) -> Self {
        Self::new(StatusCode::RANGE_NOT_SATISFIABLE, "PGRST103", "Requested range not satisfiable").details(details)
    }

    /// PGRST106: a schema that is not exposed.
    #[must_use]
    pub fn schema(asked: &str, exposed: &[String]) -> Self {
        Self::new(StatusCode::NOT_ACCEPTABLE, "PGRST106", format!("Invalid schema: {asked}"))
            .hint(format!("Only the following schemas are exposed: {}", exposed.join(", ")))
    }

    /// PGRST107: nothing that the client accepts can be made.
    #[must_use]
    pub fn media(accepted: &[query::Media]) -> Self {
        let all: Vec<String> = accepted.iter().map(ToString::to_string).collect();
        let message = format!("None of these media types are available: {}", all.join(", "));
        Self::new(StatusCode::NOT_ACCEPTABLE, "PGRST107", message)
    }

    /// PGRST116: one row was asked for, and there are more or none.
    #[must_use]
    pub fn singular(rows: i64) -> Self {
        Self::new(StatusCode::NOT_ACCEPTABLE, "PGRST116", "Cannot coerce the result to a single JSON object")
            .details(format!("The result contains {rows} rows"))
    }

    /// PGRST117: a method that means nothing here.
    #[must_use]
    pub fn method(method: &str, allowed: &'static str) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "PGRST117", format!("Unsupported HTTP method: {method}"))
            .header(ALLOW, HeaderValue::from_static(allowed))
    }

    /// PGRST122: preferences that are not known.
    #[must_use]
    pub fn preferences(unknown: &[String]) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "PGRST122", "Invalid preferences given with handling=strict")
            .details(format!("Invalid preferences: {}", unknown.join(", ")))
    }

    /// PGRST124: a write touched more rows than the client wanted.
    #[must_use]
    pub fn max_affected(rows: i64) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "PGRST124", "Query result exceeds max-affected preference constraint")
            .details(format!("The query affects {rows} rows"))
    }

    /// PGRST125: no address of the API.
    #[must_use]
    pub fn path() -> Self {
        Self::new(StatusCode::NOT_FOUND, "PGRST125", "Invalid path specified in request URL")
    }

    /// PGRST126: the API is not described.
    #[must_use]
    pub fn no_description() -> Self {
        Self::new(StatusCode::NOT_FOUND, "PGRST126", "Root endpoint metadata is disabled")
    }

    /// PGRST127: something that is not done, told in words.
    pub fn unsupported(details: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "PGRST127", "Feature not implemented").details(details)
    }

    /// The response. A HEAD has no body, and says the length that it would have.
    #[must_use]
    pub fn response(&self, head: bool) -> Response {
        let body = json!({
            "code": self.code,
            "details": self.details,
            "hint": self.hint,
            "message": self.message,
        })
        .to_string();
        let mut response = Response::new(if head { Body::Empty } else { Body::from(body) });
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
        if let Ok(value) = HeaderValue::try_from(format!("PostgREST; error={}", self.code)) {
            headers.insert(PROXY_STATUS, value);
        }
        headers.extend(self.headers.clone());
        response
    }
}

impl From<query::Error> for Error {
    fn from(error: query::Error) -> Self {
        match error {
            query::Error::Syntax { message, details } => {
                Self::new(StatusCode::BAD_REQUEST, "PGRST100", message).details(details)
            }
            query::Error::NotEmbedded(name) => {
                let message = format!("'{name}' is not an embedded resource in this request");
                Self::new(StatusCode::BAD_REQUEST, "PGRST108", message)
                    .hint(format!("Verify that '{name}' is included in the 'select' query parameter."))
            }
            query::Error::NegativeLimit => Self::range("Limit should be greater than or equal to zero."),
            query::Error::NegativeOffset => Self::range("Offset should be greater than or equal to zero."),
            query::Error::Backwards => {
                Self::range("The lower boundary must be lower than or equal to the upper boundary in the Range header.")
            }
            query::Error::Disjoint => {
                Self::range("The Range header and the limit and offset parameters have no row in common.")
            }
        }
    }
}

impl From<schema::Missing> for Error {
    fn from(missing: schema::Missing) -> Self {
        let error = Self::new(StatusCode::NOT_FOUND, "PGRST205", missing.to_string());
        Self { hint: missing.hint.map(|hint| String::from(hint).into()), ..error }
    }
}

impl From<schema::CallError> for Error {
    fn from(error: schema::CallError) -> Self {
        let status = match error {
            schema::CallError::None { .. } => StatusCode::NOT_FOUND,
            schema::CallError::Ambiguous(_) => StatusCode::MULTIPLE_CHOICES,
        };
        let details = error.details().map_or(Value::Null, Value::String);
        let hint = error.hint().map(|hint| hint.to_owned().into());
        Self { details, hint, ..Self::new(status, error.code(), error.to_string()) }
    }
}

impl From<schema::RelationshipError> for Error {
    fn from(error: schema::RelationshipError) -> Self {
        let status = match error {
            schema::RelationshipError::None { .. } => StatusCode::BAD_REQUEST,
            schema::RelationshipError::Ambiguous { .. } => StatusCode::MULTIPLE_CHOICES,
        };
        let hint = error.hint().map(Cow::Owned);
        Self { details: error.details(), hint, ..Self::new(status, error.code(), error.to_string()) }
    }
}

impl From<plan::Error> for Error {
    fn from(error: plan::Error) -> Self {
        let bad = |code, error: &plan::Error| Self::new(StatusCode::BAD_REQUEST, code, error.to_string());
        match error {
            plan::Error::Relationship(error) => error.into(),
            plan::Error::OrderNotToOne { ref origin, ref target } => bad("PGRST118", &error)
                .details(format!("'{origin}' and '{target}' do not form a many-to-one or one-to-one relationship")),
            plan::Error::SameName(_) => bad("42712", &error),
            plan::Error::AggregatesDisabled => bad("PGRST123", &error),
            plan::Error::Unsupported(details) => bad("PGRST127", &error).details(details),
            plan::Error::ColumnNotFound { .. } => bad("PGRST204", &error),
            plan::Error::RelationNotFound(_) => Self { status: StatusCode::NOT_FOUND, ..bad("PGRST205", &error) },
            plan::Error::Cast(_) | plan::Error::TooDeep(_) => bad("PGRST100", &error),
        }
    }
}

impl From<auth::Refusal> for Error {
    fn from(refusal: auth::Refusal) -> Self {
        let error = Self::new(refusal.status, refusal.code, refusal.message.clone());
        let error = match refusal.challenge() {
            Some(challenge) => error.header(WWW_AUTHENTICATE, challenge),
            None => error,
        };
        let details = refusal.details.map_or(Value::Null, Value::String);
        Self { details, hint: refusal.hint.map(Cow::Owned), ..error }
    }
}

impl From<BodyError> for Error {
    fn from(error: BodyError) -> Self {
        let problem = error.problem();
        Self::new(problem.status, problem.code, problem.message).hint(problem.hint)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    async fn body(response: Response) -> String {
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn the_body_has_four_members_in_their_order_and_the_proxy_says_the_code() {
        let response = Error::path().response(false);
        assert_eq!(response.status(), 404);
        assert_eq!(response.headers()[PROXY_STATUS], "PostgREST; error=PGRST125");
        assert_eq!(
            body(response).await,
            r#"{"code":"PGRST125","details":null,"hint":null,"message":"Invalid path specified in request URL"}"#
        );
        assert_eq!(body(Error::path().response(true)).await, "");
    }

    #[test]
    fn trying_again_is_said_with_a_time() {
        let response = Error::later(StatusCode::SERVICE_UNAVAILABLE, "PGRST000", "gone").response(false);
        assert_eq!(response.headers()[RETRY_AFTER], "1");
    }
}
