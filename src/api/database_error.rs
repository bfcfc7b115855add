//! What PostgreSQL says, and what can go wrong on the way to it, as the client's error.
//!
//! A function decides its own answer with SQLSTATE `PTxyz`, which is the status xyz, or with SQLSTATE `PGRST` and JSON in
//! the message and the detail, which is everything.

use std::collections::BTreeMap;

use http::header::{CONTENT_TYPE, HeaderName, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use tokio_postgres::error::DbError;

use super::Error;
use crate::{db, error};

/// The client's error. `authenticated` says whether the client has proved who it is: one who has not is asked to.
pub(super) fn explain(error: &db::Error, authenticated: bool) -> Error {
    // What is said while a connection is opened is about Beacon, not about the request.
    if let Some(said) = error.database().filter(|_| !matches!(error, db::Error::Unreachable { .. })) {
        return of_postgres(said, authenticated);
    }
    match error {
        db::Error::Busy(_) => Error::later(
            StatusCode::GATEWAY_TIMEOUT,
            "PGRST003",
            "Timed out acquiring connection from connection pool.",
        ),
        db::Error::Timeout(_) => Error::new(
            StatusCode::GATEWAY_TIMEOUT,
            "PGRST003",
            "The database did not answer in time; what the request did is undone.",
        ),
        error if error.is_unavailable() => {
            tracing::warn!(error = %error::chain(error), "the database cannot be asked");
            Error::later(
                StatusCode::SERVICE_UNAVAILABLE,
                "PGRST000",
                "Database connection error. Retrying the connection.",
            )
        }
        error => {
            tracing::error!(error = %error::chain(error), "a request's statement failed in an unknown way");
            Error::new(StatusCode::INTERNAL_SERVER_ERROR, "PGRSTX00", "The database's answer was not understood.")
        }
    }
}

fn of_postgres(said: &DbError, authenticated: bool) -> Error {
    let code = said.code().code();
    if code == "PGRST" {
        return raised(said.message(), said.detail());
    }
    let status = status(code, said.message(), authenticated);
    let mut error = Error::new(status, "", said.message().to_owned());
    error.code = code.to_owned().into();
    error.details = said.detail().map_or(Value::Null, Value::from);
    error.hint = said.hint().map(|hint| hint.to_owned().into());
    match status {
        StatusCode::UNAUTHORIZED => error.header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")),
        StatusCode::SERVICE_UNAVAILABLE => error.header(http::header::RETRY_AFTER, HeaderValue::from_static("1")),
        _ => error,
    }
}

fn status(code: &str, message: &str, authenticated: bool) -> StatusCode {
    if let Some(number) = code.strip_prefix("PT") {
        return number
            .parse::<u16>()
            .ok()
            .and_then(|number| StatusCode::from_u16(number).ok())
            .filter(|status| status.as_u16() >= 200)
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    }
    let class = code.get(..2).unwrap_or_default();
    match (code, class) {
        ("42501", _) if authenticated => StatusCode::FORBIDDEN,
        ("42501", _) => StatusCode::UNAUTHORIZED,
        // A role in a token that the database does not have.
        ("22023", _) if message.starts_with("role ") && message.ends_with(" does not exist") => {
            StatusCode::UNAUTHORIZED
        }
        ("23503" | "23505", _) => StatusCode::CONFLICT,
        ("25006", _) => StatusCode::METHOD_NOT_ALLOWED,
        ("42883" | "42P01", _) => StatusCode::NOT_FOUND,
        ("P0001", _) => StatusCode::BAD_REQUEST,
        ("21000", _) if message.ends_with("requires a WHERE clause") => StatusCode::BAD_REQUEST,
        ("53400" | "42P17" | "21000", _) => StatusCode::INTERNAL_SERVER_ERROR,
        ("57P01" | "57P02" | "57P03", _) | (_, "08" | "53") => StatusCode::SERVICE_UNAVAILABLE,
        (_, "0L" | "0P" | "28") => StatusCode::FORBIDDEN,
        (_, "09" | "25" | "2D" | "38" | "39" | "3B" | "40" | "54" | "55" | "57" | "58" | "F0" | "HV" | "P0" | "XX") => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
        _ => StatusCode::BAD_REQUEST,
    }
}

/// What a function that decides everything says in its message.
#[derive(Deserialize)]
struct Message {
    code: String,
    message: String,
    details: Option<String>,
    hint: Option<String>,
}

/// What it says in its detail.
#[derive(Deserialize)]
struct Detail {
    status: u16,
    headers: BTreeMap<String, String>,
}

/// `RAISE SQLSTATE 'PGRST'`.
fn raised(message: &str, detail: Option<&str>) -> Error {
    const IN_MESSAGE: &str = "MESSAGE must be a JSON object with obligatory keys: 'code', 'message' and optional keys: \
        'details', 'hint'.";
    const IN_DETAIL: &str = "DETAIL must be a JSON object with obligatory keys: 'status', 'headers' and optional key: \
        'status_text'.";
    let wrong = |details: String, hint: &'static str| {
        Error::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "PGRST121",
            "Could not parse JSON in the \"RAISE SQLSTATE 'PGRST'\" error",
        )
        .details(details)
        .hint(hint)
    };
    let Ok(text) = serde_json::from_str::<Message>(message) else {
        return wrong(format!("Invalid JSON value for MESSAGE: '{message}'"), IN_MESSAGE);
    };
    let Some(detail) = detail else {
        return wrong("DETAIL is missing in the RAISE statement".to_owned(), IN_DETAIL);
    };
    let bad = || wrong(format!("Invalid JSON value for DETAIL: '{detail}'"), IN_DETAIL);
    let Ok(Detail { status, headers }) = serde_json::from_str::<Detail>(detail) else { return bad() };
    let Some(status) = StatusCode::from_u16(status).ok().filter(|status| status.as_u16() >= 200) else { return bad() };
    let mut error = Error::new(status, "", text.message);
    error.code = text.code.into();
    error.details = text.details.map_or(Value::Null, Value::String);
    error.hint = text.hint.map(Into::into);
    for (name, value) in headers {
        match (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            // The body stays JSON.
            (Ok(CONTENT_TYPE), _) => {}
            (Ok(name), Ok(value)) => error = error.header(name, value),
            _ => return bad(),
        }
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_their_statuses() {
        for (code, expected) in [
            ("08006", 503),
            ("09000", 500),
            ("0LP01", 403),
            ("0P000", 403),
            ("22P02", 400),
            ("23502", 400),
            ("23503", 409),
            ("23505", 409),
            ("25006", 405),
            ("25P02", 500),
            ("28000", 403),
            ("40001", 500),
            ("42P01", 404),
            ("42883", 404),
            ("42703", 400),
            ("42P17", 500),
            ("53300", 503),
            ("53400", 500),
            ("54001", 500),
            ("57014", 500),
            ("57P01", 503),
            ("P0001", 400),
            ("P0002", 500),
            ("PT402", 402),
            ("PT40A", 500),
            ("PT100", 500),
            ("XX000", 500),
        ] {
            assert_eq!(status(code, "", true), expected, "{code}");
        }
        assert_eq!(status("42501", "", true), 403);
        assert_eq!(status("42501", "", false), 401);
        assert_eq!(status("21000", "UPDATE requires a WHERE clause", true), 400);
        assert_eq!(status("22023", "role \"x\" does not exist", true), 401);
    }

    #[test]
    fn a_function_may_decide_everything() {
        let error = raised(
            r#"{"code":"123","message":"ABC","details":"DEF","hint":"XYZ"}"#,
            Some(r#"{"status":332,"status_text":"My Custom Status","headers":{"X-Header":"str"}}"#),
        );
        assert_eq!((error.status.as_u16(), &*error.code, &*error.message), (332, "123", "ABC"));
        assert_eq!((error.details.as_str(), error.hint.as_deref()), (Some("DEF"), Some("XYZ")));
        assert_eq!(error.headers["x-header"], "str");
    }

    #[test]
    fn or_is_told_what_it_did_wrong() {
        let details =
            |message: &str, detail: Option<&str>| raised(message, detail).details.as_str().unwrap().to_owned();
        let good = r#"{"code":"1","message":"m"}"#;
        assert_eq!(details("INVALID", None), "Invalid JSON value for MESSAGE: 'INVALID'");
        assert_eq!(details(good, None), "DETAIL is missing in the RAISE statement");
        assert_eq!(details(good, Some("{}")), "Invalid JSON value for DETAIL: '{}'");
        let split = r#"{"status":200,"headers":{"a":"b\nc: d"}}"#;
        assert!(details(good, Some(split)).starts_with("Invalid JSON value for DETAIL"));
    }
}
