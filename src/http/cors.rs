//! Cross-origin requests (CORS, the Fetch standard section 3.2): lets scripts of other origins call an API.
//!
//! An API that takes its credentials from headers that scripts set by hand can let every origin in: a foreign page has
//! no credentials to send. So the default is `*`, without cookies. A preflight request never reaches the handler behind.

use std::sync::Arc;
use std::time::Duration;

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, HeaderName, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde::{Deserialize, Serialize};

use super::{Body, Handler, Problem, Reply, Request, Response};
use crate::clock::duration;
use crate::error::Fault;

/// What the clients of the API look at.
const EXPOSED: &str = "Content-Encoding, Content-Location, Content-Profile, Content-Range, Date, ETag, Link, Location, \
Preference-Applied, Proxy-Status, Range-Unit, RateLimit, RateLimit-Policy, Retry-After, Server-Timing, Tus-Extension, \
Tus-Max-Size, Tus-Resumable, Tus-Version, Upload-Expires, Upload-Length, Upload-Metadata, Upload-Offset, \
WWW-Authenticate, X-Request-Id, X-Sb-Error-Code, X-Supabase-Api-Version, X-Total-Count";
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
/// The longest list of headers that a preflight request may ask for, in bytes.
const ASKED: usize = 4_096;

/// Which pages may call an API from a browser.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct CorsConfig {
    /// The origins whose scripts may call: `"https://app.example.org"`, `"https://*.example.org"` for every name one or
    /// more labels below, "*" for all. An empty list lets no other origin in.
    pub origins: Vec<String>,
    /// How long browsers may remember the answer to a preflight request. They have upper limits of their own.
    #[serde(with = "duration")]
    pub max_age: Duration,
}

impl Default for CorsConfig {
    fn default() -> Self {
        Self { origins: vec!["*".into()], max_age: Duration::from_hours(1) }
    }
}

impl CorsConfig {
    /// What is wrong with the values.
    #[must_use]
    pub fn validate(&self) -> Vec<Fault> {
        let bad = self.origins.iter().filter(|origin| Pattern::parse(origin).is_none());
        bad.map(|origin| {
            let problem = format!("\"{origin}\" is no origin");
            Fault::new("origins", problem, "Use \"https://app.example.org\" (scheme, host, port and nothing more).")
        })
        .collect()
    }
}

/// Answers preflight requests, and marks the responses of what is behind.
pub struct Cors {
    rules: Rules,
    inner: Arc<dyn Handler>,
}

struct Rules {
    origins: Vec<Pattern>,
    any: bool,
    max_age: HeaderValue,
}

/// Which origins an entry means, in lower case.
enum Pattern {
    Any,
    Exact(String),
    /// "https://" and ".example.org".
    Below(String, String),
}

impl Cors {
    /// Puts the rules of `config` in front of `inner`.
    #[must_use]
    pub fn new(config: &CorsConfig, inner: Arc<dyn Handler>) -> Self {
        let origins: Vec<Pattern> = config.origins.iter().filter_map(|origin| Pattern::parse(origin)).collect();
        let any = origins.iter().any(|pattern| matches!(pattern, Pattern::Any));
        Self { rules: Rules { origins, any, max_age: config.max_age.as_secs().into() }, inner }
    }
}

impl Handler for Cors {
    fn handle(&self, request: Request) -> Reply<'_> {
        let headers = &request.parts.headers;
        let origin = headers.get(ORIGIN).cloned();
        if request.parts.method == Method::OPTIONS
            && let (Some(origin), Some(_)) = (&origin, headers.get(ACCESS_CONTROL_REQUEST_METHOD))
        {
            return Reply::Now(self.rules.preflight(origin, headers, &request));
        }
        match self.inner.handle(request) {
            Reply::Now(mut response) => {
                self.rules.mark(origin.as_ref(), response.headers_mut());
                Reply::Now(response)
            }
            Reply::Later(response) => Reply::later(async move {
                let mut response = response.await;
                self.rules.mark(origin.as_ref(), response.headers_mut());
                response
            }),
        }
    }
}

impl Rules {
    fn preflight(&self, origin: &HeaderValue, headers: &HeaderMap, request: &Request) -> Response {
        let Some(allowed) = self.allowed(origin) else {
            let problem = Problem::new(
                StatusCode::FORBIDDEN,
                "origin_not_allowed",
                "Scripts of this origin may not call this API.",
                "Add the origin to the list \"origins\" in the API's configuration.",
            );
            let mut response = problem.response_as(false, &request.context.id);
            vary(response.headers_mut());
            return response;
        };
        let mut response = Response::new(Body::Empty);
        *response.status_mut() = StatusCode::NO_CONTENT;
        let out = response.headers_mut();
        self.allow(allowed, out);
        out.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS));
        if let Some(asked) = asked(headers) {
            out.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked);
        }
        out.insert(ACCESS_CONTROL_MAX_AGE, self.max_age.clone());
        out.append(VARY, HeaderValue::from_static("Access-Control-Request-Headers"));
        response
    }

    fn mark(&self, origin: Option<&HeaderValue>, out: &mut HeaderMap) {
        if let Some(allowed) = origin.and_then(|origin| self.allowed(origin)) {
            self.allow(allowed, out);
            out.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
        } else if !self.any {
            // The response to somebody else must not be taken from a cache for this origin.
            vary(out);
        }
    }

    fn allow(&self, allowed: HeaderValue, out: &mut HeaderMap) {
        out.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        if self.any {
            return;
        }
        // Only origins that the operator named may send cookies along.
        out.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        vary(out);
    }

    /// What Access-Control-Allow-Origin says to this origin.
    fn allowed(&self, origin: &HeaderValue) -> Option<HeaderValue> {
        if self.any {
            return Some(HeaderValue::from_static("*"));
        }
        let text = origin.to_str().ok()?.to_ascii_lowercase();
        self.origins.iter().any(|pattern| pattern.matches(&text)).then(|| origin.clone())
    }
}

impl Pattern {
    fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Any);
        }
        let text = text.to_ascii_lowercase();
        let (scheme, host) = text.split_once("://")?;
        let (host, below) = host.strip_prefix("*.").map_or((host, false), |host| (host, true));
        let is_host = |ch: char| ch.is_ascii_alphanumeric() || ".-:[]_".contains(ch);
        let is_scheme = |ch: char| ch.is_ascii_alphanumeric() || "+.-".contains(ch);
        if host.is_empty() || scheme.is_empty() || !host.chars().all(is_host) || !scheme.chars().all(is_scheme) {
            return None;
        }
        Some(if below { Self::Below(format!("{scheme}://"), format!(".{host}")) } else { Self::Exact(text) })
    }

    fn matches(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(ours) => ours == origin,
            Self::Below(scheme, parent) => origin
                .strip_prefix(scheme.as_str())
                .and_then(|host| host.strip_suffix(parent.as_str()))
                .is_some_and(|labels| !labels.is_empty() && labels.bytes().all(is_label)),
        }
    }
}

fn is_label(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b".-_".contains(&byte)
}

/// The headers that a preflight request asks for, all of them: the API refuses what it does not know by itself.
fn asked(headers: &HeaderMap) -> Option<HeaderValue> {
    let value = headers.get(ACCESS_CONTROL_REQUEST_HEADERS)?;
    let names = value.to_str().ok().filter(|names| names.len() <= ASKED)?;
    let well_formed = |name: &str| name.trim().is_empty() || HeaderName::try_from(name.trim()).is_ok();
    names.split(',').all(well_formed).then(|| value.clone())
}

fn vary(out: &mut HeaderMap) {
    out.append(VARY, HeaderValue::from_static("Origin"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Context, RequestBody};
    use crate::id::RequestId;

    struct Hello(bool);

    impl Handler for Hello {
        fn handle(&self, _: Request) -> Reply<'_> {
            let response = Response::new(Body::from("hello"));
            if self.0 { Reply::later(async move { response }) } else { Reply::Now(response) }
        }
    }

    async fn ask(origins: &[&str], method: Method, headers: &[(&'static str, &str)]) -> Response {
        let config =
            CorsConfig { origins: origins.iter().map(|&origin| origin.into()).collect(), ..CorsConfig::default() };
        assert_eq!(config.validate(), []);
        let mut request = http::Request::new(());
        *request.method_mut() = method;
        for (name, value) in headers {
            request.headers_mut().insert(*name, HeaderValue::from_str(value).unwrap());
        }
        let context = Context::refused(RequestId::new(), [127, 0, 0, 1].into());
        let request = Request { parts: request.into_parts().0, body: RequestBody::empty(), context };
        let cors = Cors::new(&config, Arc::new(Hello(headers.len() > 1)));
        match cors.handle(request) {
            Reply::Now(response) => response,
            Reply::Later(response) => response.await,
        }
    }

    fn get<'a>(response: &'a Response, name: &str) -> Vec<&'a str> {
        response.headers().get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
    }

    #[tokio::test]
    async fn a_preflight_request_may_ask_for_any_header() {
        let asked = "apikey,authorization,x-client-info,prefer,x-whatever";
        let response = ask(
            &["*"],
            Method::OPTIONS,
            &[
                ("origin", "https://app.example"),
                ("access-control-request-method", "PATCH"),
                ("access-control-request-headers", asked),
            ],
        )
        .await;
        assert_eq!(response.status(), 204);
        assert_eq!(get(&response, "access-control-allow-origin"), ["*"]);
        assert_eq!(get(&response, "access-control-allow-headers"), [asked]);
        assert!(get(&response, "access-control-allow-methods")[0].contains("PATCH"));
        assert_eq!(get(&response, "access-control-max-age"), ["3600"]);
        assert_eq!(get(&response, "access-control-allow-credentials"), [""; 0]);
        assert!(response.body().is_empty());
    }

    #[tokio::test]
    async fn other_requests_pass_and_their_responses_are_marked() {
        for method in [Method::GET, Method::OPTIONS] {
            let response = ask(&["*"], method, &[("origin", "https://app.example"), ("x-later", "1")]).await;
            assert_eq!(response.status(), 200);
            assert_eq!(get(&response, "access-control-allow-origin"), ["*"]);
            let exposed = get(&response, "access-control-expose-headers")[0];
            for name in ["Content-Range", "Location", "Preference-Applied", "X-Total-Count", "Upload-Offset", "Link"] {
                assert!(exposed.contains(name), "{name}");
            }
        }
        let same_origin = ask(&["*"], Method::GET, &[]).await;
        assert!(same_origin.headers().keys().all(|name| !name.as_str().starts_with("access-control")));
    }

    #[tokio::test]
    async fn only_listed_origins_are_let_in() {
        let list = ["https://app.example", "https://*.team.example", "capacitor://localhost", "http://localhost:5173"];
        for origin in [
            "https://app.example",
            "https://App.Example",
            "https://a.team.example",
            "https://a.b.team.example",
            "capacitor://localhost",
            "http://localhost:5173",
        ] {
            let response = ask(&list, Method::GET, &[("origin", origin)]).await;
            assert_eq!(get(&response, "access-control-allow-origin"), [origin]);
            assert_eq!(get(&response, "access-control-allow-credentials"), ["true"]);
            assert_eq!(get(&response, "vary"), ["Origin"]);
        }
        for origin in [
            "https://app.example.evil.example",
            "http://app.example",
            "https://app.example:8443",
            "https://team.example",
            "https://evilteam.example",
            "https://evil.example/.team.example",
            "https://evil.example?.team.example",
            "https://.team.example",
            "http://localhost:5174",
            "null",
            "",
        ] {
            let response = ask(&list, Method::GET, &[("origin", origin)]).await;
            assert_eq!(response.status(), 200);
            assert_eq!(get(&response, "access-control-allow-origin"), [""; 0], "{origin}");
            assert_eq!(get(&response, "vary"), ["Origin"]);
            let preflight = [("origin", origin), ("access-control-request-method", "GET")];
            let response = ask(&list, Method::OPTIONS, &preflight).await;
            assert_eq!(response.status(), 403, "{origin}");
            assert_eq!(get(&response, "access-control-allow-origin"), [""; 0]);
        }
    }

    #[tokio::test]
    async fn a_list_that_is_none_is_not_repeated() {
        for bad in ["a b", "x\u{e9}", "a;b", &"x,".repeat(3_000)] {
            let preflight = [
                ("origin", "https://app.example"),
                ("access-control-request-method", "GET"),
                ("access-control-request-headers", bad),
            ];
            let response = ask(&["*"], Method::OPTIONS, &preflight).await;
            assert_eq!(get(&response, "access-control-allow-headers"), [""; 0], "{bad}");
        }
    }

    #[test]
    fn what_is_no_origin_is_a_fault() {
        for bad in ["", "app.example", "https://", "https://a/b", "https://*", "https://a*", "null", "https://a?b"] {
            let config = CorsConfig { origins: vec![bad.into()], ..CorsConfig::default() };
            assert_eq!(config.validate().len(), 1, "{bad}");
        }
    }
}
