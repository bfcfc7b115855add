//! A request to the accounts API, read whole.

use std::net::IpAddr;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, REFERER, USER_AGENT};
use http::{HeaderMap, HeaderName, Method, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::failure::Failure;
use crate::http::{BodyError, Request};

/// The longest body, in bytes.
const LARGEST: usize = 1024 * 1024;

/// The header in which a client names the date of the API that it was written for.
pub const API_VERSION: HeaderName = HeaderName::from_static("x-supabase-api-version");
/// The only date on which the API changed.
pub const DATED: &str = "2024-01-01";

/// A request, read whole.
pub struct Ask {
    /// The method.
    pub method: Method,
    /// The path below the mount, decoded, without slashes at its ends.
    pub path: String,
    /// The path and query as they came, for links to other pages.
    pub target: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The query's pairs.
    query: Vec<(String, String)>,
    body: Bytes,
    /// The client's address.
    pub client: IpAddr,
}

/// Whether the client was written for the API of 2024-01-01 or later, by its header `YYYY-MM-DD`.
#[must_use]
pub fn is_dated(headers: &HeaderMap) -> bool {
    let value = headers.get(API_VERSION).and_then(|value| value.to_str().ok()).unwrap_or_default().trim();
    let form = value.len() == 10
        && value
            .bytes()
            .enumerate()
            .all(|(at, byte)| if matches!(at, 4 | 7) { byte == b'-' } else { byte.is_ascii_digit() });
    // Dates in this form compare as texts.
    form && value >= DATED
}

impl Ask {
    /// Reads a request's body.
    ///
    /// # Errors
    /// A body that is too large, too slow or broken.
    pub async fn read(request: Request) -> Result<Self, Failure> {
        let Request { parts, body, context } = request;
        let body = match Limited::new(body, LARGEST).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => {
                let message = "The request's body is larger than 1 MiB";
                return Err(Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "validation_failed", message));
            }
            Err(error) => {
                let problem = error.downcast_ref::<BodyError>().map(BodyError::problem);
                let status = problem.map_or(StatusCode::BAD_REQUEST, |problem| problem.status);
                return Err(Failure::new(status, "validation_failed", "The request's body could not be read"));
            }
        };
        Ok(Self {
            method: parts.method,
            path: context.rest().trim_end_matches('/').to_owned(),
            query: pairs(parts.uri.query().unwrap_or_default()),
            target: parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
            headers: parts.headers,
            body,
            client: context.client,
        })
    }

    /// The body as JSON; an empty one is an empty object.
    ///
    /// # Errors
    /// 400 `bad_json`.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        json(&self.body)
            .map_err(|error| Failure::bad("bad_json", format!("Could not parse request body as JSON: {error}")))
    }

    /// The pairs of a form in the body.
    ///
    /// # Errors
    /// 400 when the body is no form.
    pub fn form(&self) -> Result<Vec<(String, String)>, Failure> {
        let kind = self.header(CONTENT_TYPE).unwrap_or_default();
        if !kind.to_ascii_lowercase().starts_with("application/x-www-form-urlencoded") {
            return Err(Failure::invalid("The body must be application/x-www-form-urlencoded"));
        }
        let text = std::str::from_utf8(&self.body).map_err(|_| Failure::invalid("The form is not UTF-8"))?;
        Ok(pairs(text))
    }

    /// Whether the body is a form.
    #[must_use]
    pub fn is_form(&self) -> bool {
        self.header(CONTENT_TYPE)
            .is_some_and(|kind| kind.to_ascii_lowercase().starts_with("application/x-www-form-urlencoded"))
    }

    /// The first value of a query parameter; an empty one is none.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<&str> {
        find(&self.query, name)
    }

    /// All query parameters.
    #[must_use]
    pub fn params(&self) -> &[(String, String)] {
        &self.query
    }

    /// A header's text.
    #[must_use]
    pub fn header(&self, name: HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The token of `Authorization: Bearer`.
    #[must_use]
    pub fn bearer(&self) -> Option<&str> {
        let (scheme, token) = self.header(AUTHORIZATION)?.split_once(' ')?;
        let token = token.trim();
        (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && !token.contains(char::is_whitespace))
            .then_some(token)
    }

    /// The client's program, cut to what a column should hold.
    #[must_use]
    pub fn user_agent(&self) -> Option<&str> {
        let text = self.header(USER_AGENT)?;
        Some(text.get(..text.len().min(500)).unwrap_or_default())
    }

    /// Where the client wants to be sent to, in the order of preference; nothing of it is allowed yet.
    pub fn wanted(&self) -> impl Iterator<Item = &str> {
        const REDIRECT_TO: HeaderName = HeaderName::from_static("redirect_to");
        [self.param("redirect_to"), self.header(REDIRECT_TO), self.header(REFERER)].into_iter().flatten()
    }
}

/// The first value of `name`; an empty one is none.
#[must_use]
pub fn find<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
}

/// The pairs of a query or a form.
fn pairs(text: &str) -> Vec<(String, String)> {
    let decode = |part: &str| percent_decode_str(&part.replace('+', " ")).decode_utf8_lossy().into_owned();
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        })
        .collect()
}

/// Clients write null for what they leave out (supabase-py does so with every option), so that it is as if it were not
/// there.
fn json<T: DeserializeOwned>(body: &[u8]) -> serde_json::Result<T> {
    let text: &[u8] = if body.is_empty() { b"{}" } else { body };
    let mut value: Value = serde_json::from_slice(text)?;
    if let Value::Object(members) = &mut value {
        members.retain(|_, member| !member.is_null());
    }
    serde_json::from_value(value)
}

/// Merges `updates` into `object`; null takes a name away.
pub fn merge(object: &mut serde_json::Map<String, Value>, updates: serde_json::Map<String, Value>) {
    for (name, value) in updates {
        if value.is_null() {
            object.remove(&name);
        } else {
            object.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_api_version_is_a_date() {
        let dated = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(API_VERSION, HeaderValue::from_static(value));
            is_dated(&headers)
        };
        assert!(dated("2024-01-01") && dated("2025-11-30"));
        assert!(!dated("2023-12-31") && !dated("latest") && !dated("2024-1-1") && !dated("9999"));
        assert!(!is_dated(&HeaderMap::new()));
    }

    #[test]
    fn a_query_is_decoded_as_a_form() {
        let query = pairs("redirect_to=https%3A%2F%2Fa.b%2F%3Fc%3Dd&x=1+2&flag&=&x=3");
        assert_eq!(find(&query, "redirect_to"), Some("https://a.b/?c=d"));
        assert_eq!(find(&query, "x"), Some("1 2"));
        assert_eq!(find(&query, "flag"), None);
    }

    #[test]
    fn null_is_left_out_but_not_within_what_is_there() {
        #[derive(Debug, Default, serde::Deserialize, PartialEq)]
        #[serde(default)]
        struct Body {
            name: String,
            data: Value,
        }
        let read = |text: &str| json::<Body>(text.as_bytes());
        assert_eq!(read("").unwrap(), Body::default());
        assert_eq!(read(r#"{"name": null}"#).unwrap(), Body::default());
        assert_eq!(read(r#"{"data": {"a": null}}"#).unwrap().data, serde_json::json!({ "a": null }));
        for wrong in ["null", "[]x", "{", r#"{"name": 1}"#] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn null_takes_a_name_away() {
        let object = |value: Value| value.as_object().cloned().unwrap();
        let mut data = object(serde_json::json!({"a": 1, "b": {"c": 2}}));
        merge(&mut data, object(serde_json::json!({"a": null, "b": {"d": 3}, "e": 4})));
        assert_eq!(Value::Object(data), serde_json::json!({"b": {"d": 3}, "e": 4}));
    }
}
