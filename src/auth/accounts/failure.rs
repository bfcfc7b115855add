//! Why a request is refused, in the words and codes that clients of this dialect know.

use std::borrow::Cow;
use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::{Value, json};

use super::answer;
use crate::auth::{hooks, passwords};
use crate::error::chain;
use crate::http::Response;
use crate::{db, mail};

/// Why a request is refused. Clients act on the code.
#[derive(Debug)]
pub struct Failure {
    /// The response's status.
    pub status: StatusCode,
    /// One of the dialect's codes.
    pub code: &'static str,
    /// For people.
    pub message: Cow<'static, str>,
    /// Why a password is weak.
    pub reasons: Vec<&'static str>,
    /// When to come again.
    pub retry: Option<Duration>,
    /// What the log keeps, and the client does not see.
    pub cause: Option<String>,
}

/// What a handler gives.
pub type Answer = Result<Response, Failure>;

const ERROR_CODE: HeaderName = HeaderName::from_static("x-sb-error-code");

impl Failure {
    /// A failure with a status of one's own choice.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code, message: message.into(), reasons: Vec::new(), retry: None, cause: None }
    }

    /// 400.
    pub fn bad(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// 400 `validation_failed`.
    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::bad("validation_failed", message)
    }

    /// 401.
    pub fn unauthorized(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, code, message)
    }

    /// 403.
    pub fn forbidden(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, message)
    }

    /// 404.
    pub fn not_found(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, message)
    }

    /// 422.
    pub fn unprocessable(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, message)
    }

    /// 429 for the client's address.
    #[must_use]
    pub fn too_many(wait: Duration) -> Self {
        let failure = Self::new(StatusCode::TOO_MANY_REQUESTS, "over_request_rate_limit", "Request rate limit reached");
        Self { retry: Some(wait), ..failure }
    }

    /// 429 for a mail to one address.
    #[must_use]
    pub fn too_soon(wait: Duration) -> Self {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        let message = format!("For security purposes, you can only request this after {seconds} seconds.");
        let failure = Self::new(StatusCode::TOO_MANY_REQUESTS, "over_email_send_rate_limit", message);
        Self { retry: Some(wait), ..failure }
    }

    /// 500; `cause` is for the log.
    pub fn internal(message: &'static str, cause: impl Into<String>) -> Self {
        let failure = Self::new(StatusCode::INTERNAL_SERVER_ERROR, "unexpected_failure", message);
        Self { cause: Some(cause.into()), ..failure }
    }

    /// 503: the same request may succeed soon.
    fn unavailable(cause: String) -> Self {
        let message = "The server cannot answer at this moment. Try again.";
        let failure = Self::new(StatusCode::SERVICE_UNAVAILABLE, "request_timeout", message);
        Self { retry: Some(Duration::from_secs(1)), cause: Some(cause), ..failure }
    }

    /// The name that OAuth has for the status.
    #[must_use]
    pub fn oauth_name(&self) -> &'static str {
        match (self.code, self.status.as_u16()) {
            ("signup_disabled" | "user_banned" | "provider_email_needs_verification", _) | (_, 403) => "access_denied",
            (_, 401) => "unauthorized_client",
            (_, 503) => "temporarily_unavailable",
            (_, 500..) => "server_error",
            _ => "invalid_request",
        }
    }

    /// Tells the log what the client does not see.
    pub fn log(&self) {
        if let Some(cause) = &self.cause {
            tracing::error!(code = self.code, error = cause, "an accounts request failed");
        }
    }

    /// The response, in the form that the client's API version asks for.
    #[must_use]
    pub fn response(&self, dated: bool) -> Response {
        self.log();
        let mut body = if dated {
            json!({"code": self.code, "message": self.message})
        } else {
            json!({"code": self.status.as_u16(), "error_code": self.code, "msg": self.message})
        };
        if self.code == WEAK {
            body["weak_password"] = json!({ "reasons": self.reasons });
        }
        let mut response = answer::json(self.status, &body);
        let headers = response.headers_mut();
        headers.insert(ERROR_CODE, HeaderValue::from_static(self.code));
        if let Some(wait) = self.retry {
            headers.insert(RETRY_AFTER, HeaderValue::from(wait.as_secs() + u64::from(wait.subsec_nanos() > 0)));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(http::header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }

    /// The same, as a value for tests and hooks.
    #[must_use]
    pub fn value(&self) -> Value {
        json!({"code": self.code, "message": self.message})
    }
}

/// The code of a weak password.
pub const WEAK: &str = "weak_password";

impl From<db::Error> for Failure {
    fn from(error: db::Error) -> Self {
        let cause = match error.database() {
            // The message of a trigger or constraint of the application; its detail could hold a row.
            Some(refused) => format!("{}: {}", refused.code().code(), refused.message()),
            None => chain(&error).to_string(),
        };
        let later = error.is_unavailable()
            || matches!(error, db::Error::Busy(_) | db::Error::Timeout(_))
            || error.sqlstate().is_some_and(|state| state.starts_with("53") || state == "57P03" || state == "57014");
        if later { Self::unavailable(cause) } else { Self::internal("Database error", cause) }
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        db::Error::from(error).into()
    }
}

impl From<passwords::Error> for Failure {
    fn from(error: passwords::Error) -> Self {
        match error {
            passwords::Error::Busy => Self::too_many(Duration::from_secs(1)),
            passwords::Error::TooLong => Self::invalid(error.to_string()),
            other => Self::internal("The password could not be hashed", other.to_string()),
        }
    }
}

impl From<hooks::Error> for Failure {
    fn from(error: hooks::Error) -> Self {
        let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let failure = Self::new(status, error.code(), error.to_string());
        match error {
            // The hook's own decision, which its operator can look up there.
            hooks::Error::Refused { .. } => failure,
            other => Self { cause: Some(chain(&other).to_string()), ..failure },
        }
    }
}

impl From<mail::Error> for Failure {
    fn from(error: mail::Error) -> Self {
        match error {
            mail::Error::Unset => Self::unprocessable(
                "email_provider_disabled",
                "This server has no mail server configured, so it cannot send a mail",
            ),
            mail::Error::Address => Self::bad("email_address_invalid", "The address cannot be written to"),
            mail::Error::Full => Self { retry: Some(Duration::from_secs(30)), ..Self::unavailable(error.to_string()) },
            other => Self::internal("Error sending email", chain(&other).to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Body;

    fn body(response: Response) -> Value {
        match response.into_body() {
            Body::Full(bytes) => serde_json::from_slice(&bytes).unwrap(),
            _ => panic!("no body"),
        }
    }

    #[test]
    fn both_forms_of_an_error_carry_the_code() {
        let failure = Failure::bad("invalid_credentials", "Invalid login credentials");
        let response = failure.response(true);
        assert_eq!(response.headers()["x-sb-error-code"], "invalid_credentials");
        assert_eq!(body(response), json!({"code": "invalid_credentials", "message": "Invalid login credentials"}));
        assert_eq!(
            body(failure.response(false)),
            json!({"code": 400, "error_code": "invalid_credentials", "msg": "Invalid login credentials"})
        );
    }

    #[test]
    fn the_cause_stays_here() {
        let failure = Failure::internal("Database error", "relation auth.users is on fire");
        assert!(!body(failure.response(true)).to_string().contains("fire"));
    }

    #[test]
    fn a_wait_is_told_in_whole_seconds_rounded_up() {
        let failure = Failure::too_soon(Duration::from_millis(41_001));
        assert!(failure.message.ends_with("after 42 seconds."), "{}", failure.message);
        assert_eq!(failure.response(true).headers()[RETRY_AFTER], "42");
    }
}
