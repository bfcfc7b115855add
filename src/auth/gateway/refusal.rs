//! Why a request is not served: for the client's eyes, in the form of the data dialect's errors.

use std::borrow::Cow;

use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};

use crate::auth::jwt::Invalid;
use crate::http::{Body, Response};

/// Why a request is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The response's status.
    pub status: StatusCode,
    /// A stable name: PostgREST's, or one of ours in snake_case.
    pub code: &'static str,
    /// One sentence.
    pub message: Cow<'static, str>,
    /// More about it.
    pub details: Option<String>,
    /// What to do.
    pub hint: Option<String>,
}

impl Refusal {
    pub(super) fn new(code: &'static str, message: &'static str, hint: &str) -> Self {
        let (status, hint) = (StatusCode::UNAUTHORIZED, (!hint.is_empty()).then(|| hint.to_owned()));
        Self { status, code, message: message.into(), details: None, hint }
    }

    /// There is no token, and nobody may come without one.
    pub(super) fn anonymous() -> Self {
        Self::new("PGRST302", "Anonymous access is disabled", "")
    }

    /// A token came, and there is nothing to verify it with.
    pub(super) fn keyless() -> Self {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Self { status, ..Self::new("PGRST300", "Server lacks JWT secret", "") }
    }

    /// Nobody can say yet whether the credentials are good: a 401 would end the sessions of clients.
    pub(super) fn unready() -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            ..Self::new("PGRST000", "Database connection error. Retrying the connection.", "")
        }
    }

    /// The value of WWW-Authenticate (RFC 6750 section 3), if the status asks for it.
    #[must_use]
    pub fn challenge(&self) -> Option<HeaderValue> {
        if self.status != StatusCode::UNAUTHORIZED {
            return None;
        }
        if self.code == "PGRST302" {
            return Some(HeaderValue::from_static("Bearer"));
        }
        let said = self.message.replace(['"', '\\'], "'");
        HeaderValue::try_from(format!("Bearer error=\"invalid_token\", error_description=\"{said}\"")).ok()
    }

    /// The body: code, message, details and hint as JSON.
    #[must_use]
    pub fn body(&self) -> String {
        serde_json::json!({
            "code": self.code,
            "message": self.message,
            "details": self.details,
            "hint": self.hint,
        })
        .to_string()
    }

    /// The whole response.
    #[must_use]
    pub fn response(&self) -> Response {
        let mut response = Response::new(Body::from(self.body()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if let Some(challenge) = self.challenge() {
            headers.insert(WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

impl From<Invalid> for Refusal {
    fn from(invalid: Invalid) -> Self {
        Self {
            status: StatusCode::UNAUTHORIZED,
            code: invalid.code(),
            message: invalid.message(),
            details: invalid.details(),
            hint: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_challenge_says_what_is_wrong() {
        let challenge = |refusal: Refusal| refusal.challenge().map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(
            challenge(Invalid::Expired.into()).unwrap(),
            "Bearer error=\"invalid_token\", error_description=\"JWT expired\""
        );
        assert_eq!(challenge(Refusal::anonymous()).unwrap(), "Bearer");
        assert_eq!(challenge(Refusal::keyless()), None);
    }

    #[test]
    fn the_body_has_the_four_members() {
        assert_eq!(
            Refusal::from(Invalid::Signature).body(),
            r#"{"code":"PGRST301","details":"None of the keys was able to decode the JWT","hint":null,"message":"No suitable key or wrong key type"}"#
        );
    }
}
