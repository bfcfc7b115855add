//! What a client is told of its limit: the headers of draft-ietf-httpapi-ratelimit-headers-10, and 429.

use std::time::Duration;

use http::header::{HeaderName, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::Allowance;
use super::bucket::Counted;
use crate::auth::Refusal;
use crate::http::Response;

const LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// How a caller stands to its limit after a request.
#[derive(Clone, Debug)]
pub struct Standing {
    name: &'static str,
    allowance: Allowance,
    counted: Counted,
}

impl Standing {
    pub(super) fn new(name: &'static str, allowance: Allowance, counted: Counted) -> Self {
        Self { name, allowance, counted }
    }

    /// Whether the request was one too many and is not to be served.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.counted.wait.is_some()
    }

    /// Tells the client in a response's headers.
    pub fn mark(&self, headers: &mut HeaderMap) {
        let (name, burst) = (self.name, self.allowance.burst());
        let policy = format!("\"{name}\";q={burst};w={}", seconds(self.allowance.window()).max(1));
        let limit = format!("\"{name}\";r={};t={}", self.counted.remaining, seconds(self.counted.full_in));
        for (header, text) in [(POLICY, policy), (LIMIT, limit)] {
            if let Ok(value) = HeaderValue::try_from(text) {
                headers.insert(header, value);
            }
        }
        if let Some(wait) = self.counted.wait {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds(wait).max(1)));
        }
    }

    /// Why the request is not served, for a dialect with bodies of its own; its response needs [`Standing::mark`] too.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        let wait = seconds(self.counted.wait.unwrap_or_default()).max(1);
        Refusal {
            status: StatusCode::TOO_MANY_REQUESTS,
            code: "over_request_rate_limit",
            message: "Request rate limit reached".into(),
            details: Some(format!(
                "{} requests a minute, {} at once",
                self.allowance.per_minute,
                self.allowance.burst()
            )),
            hint: Some(format!("Try again in {wait} s; the headers RateLimit and Retry-After say when.")),
        }
    }

    /// The whole response to a request that is one too many.
    #[must_use]
    pub fn response(&self) -> Response {
        let mut response = self.refusal().response();
        self.mark(response.headers_mut());
        response
    }
}

/// Whole seconds, rounded up: who comes back then is let through.
fn seconds(time: Duration) -> u64 {
    time.as_millis().div_ceil(1_000).try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_response_says_how_much_and_when() {
        let allowance = Allowance { per_minute: 30, burst: 10 };
        let counted = Counted { remaining: 4, full_in: Duration::from_millis(11_001), wait: None };
        let mut headers = HeaderMap::new();
        Standing::new("user", allowance, counted).mark(&mut headers);
        assert_eq!(headers["ratelimit-policy"], "\"user\";q=10;w=20");
        assert_eq!(headers["ratelimit"], "\"user\";r=4;t=12");
        assert!(!headers.contains_key("retry-after"));

        let over = Counted { remaining: 0, full_in: Duration::from_secs(20), wait: Some(Duration::from_millis(1_500)) };
        let over = Standing::new("user", allowance, over);
        assert!(over.is_over());
        let response = over.response();
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()["retry-after"], "2");
        assert_eq!(response.headers()["ratelimit"], "\"user\";r=0;t=20");
        assert_eq!(over.refusal().code, "over_request_rate_limit");
        assert!(!response.headers().contains_key("www-authenticate"));
    }
}
