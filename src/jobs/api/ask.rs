//! A request, read whole.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use super::BODY;
use super::answer::Failure;
use super::order::duration;
use crate::http::Request;

/// The longest page of a list.
const MOST: usize = 1_000;

/// A request, read whole.
pub(super) struct Ask {
    pub(super) method: Method,
    /// The path below the mount, decoded.
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    query: Vec<(String, String)>,
    body: Bytes,
}

impl Ask {
    pub(super) async fn read(request: Request) -> Result<Self, Failure> {
        let Request { parts, body, context } = request;
        let query = parts.uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        let decoded = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
        let query = query.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let query = query.map(|(name, value)| (decoded(name), decoded(value))).collect();
        let body = body.collect(BODY).await?;
        Ok(Self {
            method: parts.method,
            path: context.rest().trim_end_matches('/').to_owned(),
            headers: parts.headers,
            query,
            body,
        })
    }

    /// Refuses a request whose query has a parameter besides these: a filter that is misspelt must not show everything.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), Failure> {
        match self.query.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some((name, _)) => {
                let hint = match known {
                    [] => "It takes none.".to_owned(),
                    known => format!("It takes: {}.", known.join(", ")),
                };
                Err(Failure::invalid(format!("There is no parameter {name:?} here."), hint))
            }
        }
    }

    /// A parameter; an empty one is none.
    pub(super) fn param(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(known, value)| known == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    /// `limit` (100 unless it says otherwise, 1,000 at most) and `offset`.
    pub(super) fn page(&self) -> Result<(usize, usize), Failure> {
        let number = |name: &str, otherwise: usize| match self.param(name) {
            None => Ok(otherwise),
            Some(text) => text
                .parse::<usize>()
                .map_err(|_| Failure::invalid(format!("{name} is no whole number."), "Use 0 or more.")),
        };
        Ok((number("limit", 100)?.clamp(1, MOST), number("offset", 0)?))
    }

    /// A time to wait, as in "30s" or "30".
    pub(super) fn wait(&self) -> Result<Option<Duration>, Failure> {
        let Some(text) = self.param("wait") else { return Ok(None) };
        duration(text).map(Some).ok_or_else(|| Failure::invalid("wait is no duration.", "Use one as in 30s or 30."))
    }

    /// The body as JSON.
    pub(super) fn json(&self) -> Result<Value, Failure> {
        serde_json::from_slice(&self.body).map_err(|error| {
            Failure::new(
                StatusCode::BAD_REQUEST,
                "bad_json",
                format!("The request's body is no JSON: {error}."),
                "Send JSON with Content-Type: application/json.",
            )
        })
    }

    /// The body as an object; an empty one is an empty object.
    pub(super) fn object(&self) -> Result<Map<String, Value>, Failure> {
        if self.body.trim_ascii().is_empty() {
            return Ok(Map::new());
        }
        match self.json()? {
            Value::Object(members) => Ok(members),
            _ => Err(Failure::invalid("The request's body is no JSON object.", "Send an object.")),
        }
    }
}
