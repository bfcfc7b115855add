//! An error as the client reads it: a stable code, a message, and a hint on what to do.

use std::borrow::Cow;
use std::sync::OnceLock;

use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::{Body, Response};
use crate::id::RequestId;

/// What went wrong, for the client's eyes: no internals, no secrets.
#[derive(Clone, Debug)]
pub struct Problem {
    /// The response's status.
    pub status: StatusCode,
    /// A stable name for programs, in snake_case.
    pub code: &'static str,
    /// One sentence for people.
    pub message: Cow<'static, str>,
    /// What to do about it; may be empty.
    pub hint: Cow<'static, str>,
}

const STYLE: &str = "body{font:1rem/1.6 system-ui,sans-serif;max-width:36rem;margin:15vh auto;padding:0 1.5rem;\
color:#1f2933;background:#fff;color-scheme:light dark}h1{font-size:1.4rem}p.code{color:#52606d;font-size:.875rem}\
@media(prefers-color-scheme:dark){body{color:#e4e7eb;background:#12161b}p.code{color:#9aa5b1}}";

impl Problem {
    /// A problem; `message` is one sentence, `hint` says what to do and may be empty.
    pub fn new(
        status: StatusCode,
        code: &'static str,
        message: impl Into<Cow<'static, str>>,
        hint: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { status, code, message: message.into(), hint: hint.into() }
    }

    /// 404: nothing is at this address.
    #[must_use]
    pub fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "There is nothing at this address.", "Check the address.")
    }

    /// The response: HTML for a client that accepts it, JSON for the others.
    #[must_use]
    pub fn response(&self, headers: &HeaderMap, id: &RequestId) -> Response {
        self.response_as(Self::wants_html(headers), id)
    }

    /// Whether a client with these headers reads HTML.
    #[must_use]
    pub fn wants_html(headers: &HeaderMap) -> bool {
        let finds_html = |value: &HeaderValue| memchr::memmem::find(value.as_bytes(), b"text/html").is_some();
        headers.get_all(ACCEPT).iter().any(finds_html)
    }

    /// The response as HTML or as JSON.
    #[must_use]
    pub fn response_as(&self, html: bool, id: &RequestId) -> Response {
        let mut response = Response::new(Body::from(if html { self.html(id) } else { self.json(id) }));
        *response.status_mut() = self.status;
        let out = response.headers_mut();
        out.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if html {
            out.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
            out.insert(CONTENT_SECURITY_POLICY, page_policy().clone());
        } else {
            out.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        response
    }

    fn json(&self, id: &RequestId) -> String {
        serde_json::json!({
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "request_id": id.as_str(),
        })
        .to_string()
    }

    fn html(&self, id: &RequestId) -> String {
        let title = format!("{} {}", self.status.as_u16(), self.status.canonical_reason().unwrap_or("Error"));
        format!(
            "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
             <title>{title}</title><style>{STYLE}</style><main><h1>{title}</h1><p>{}</p><p>{}</p>\
             <p class=code>{} · {}</p></main></html>\n",
            escape(&self.message),
            escape(&self.hint),
            self.code,
            escape(id.as_str()),
        )
    }
}

/// Allows nothing but the one inline style, by its hash.
fn page_policy() -> &'static HeaderValue {
    static POLICY: OnceLock<HeaderValue> = OnceLock::new();
    POLICY.get_or_init(|| {
        use base64::Engine as _;
        use sha2::Digest as _;
        let hash = base64::engine::general_purpose::STANDARD.encode(sha2::Sha256::digest(STYLE));
        let policy = format!(
            "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'; \
             frame-ancestors 'none'"
        );
        HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
    })
}

/// Escapes text for HTML content and quoted attributes.
#[must_use]
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(['&', '<', '>', '"', '\'']) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for ch in text.chars() {
        match ch {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_get_a_page_and_programs_get_json() {
        let id = RequestId::new();
        let mut headers = HeaderMap::new();
        let json = Problem::not_found().response(&headers, &id);
        assert_eq!(json.headers()[CONTENT_TYPE], "application/json");
        headers.insert(ACCEPT, HeaderValue::from_static("text/html,*/*;q=0.8"));
        let html = Problem::not_found().response(&headers, &id);
        assert_eq!(html.headers()[CONTENT_TYPE], "text/html; charset=utf-8");
        assert!(html.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap().contains("'sha256-"));
    }

    #[test]
    fn markup_in_a_message_is_text() {
        assert_eq!(escape("<a href='x'>&\"</a>"), "&lt;a href=&#39;x&#39;&gt;&amp;&quot;&lt;/a&gt;");
    }
}
