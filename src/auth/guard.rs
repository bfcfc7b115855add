//! A handler behind the wall: asks the gate, and dresses what goes in and out.

use std::sync::Arc;
use std::time::Duration;

use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, SET_COOKIE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::gate::{Decision, Parts, Pass};
use crate::http::{Body, Handler, Problem, Reply, Request, Response, User};
use crate::id::RequestId;

/// The body of the 401 of django-auth-wall 0.3.0, to the byte.
const PAGE: &str = "<html><title>Authorization Required</title><body>\n                                \
<h1>Authorization Required</h1></body></html>";
const ROBOTS: HeaderName = HeaderName::from_static("x-robots-tag");

/// A handler behind the wall.
pub struct Guard {
    gate: Arc<Parts>,
    inner: Arc<dyn Handler>,
}

impl Guard {
    /// Puts `gate` in front of `inner`.
    #[must_use]
    pub fn new(gate: Arc<Parts>, inner: Arc<dyn Handler>) -> Self {
        Self { gate, inner }
    }

    fn forward(&self, pass: Pass, mut request: Request) -> Reply<'_> {
        pass.apply(&mut request);
        let user = request.context.user.clone();
        match self.inner.handle(request) {
            Reply::Now(response) => Reply::Now(dress(response, pass.cookie, user)),
            Reply::Later(later) => Reply::later(async move { dress(later.await, pass.cookie, user) }),
        }
    }

    fn refuse(&self, decision: &Decision, headers: &HeaderMap, id: &RequestId) -> Response {
        let mut response = match decision {
            Decision::Hold(left) => hold(*left, headers, id),
            Decision::Busy => busy(headers, id),
            _ => self.challenge(),
        };
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(ROBOTS, noindex());
        response
    }

    fn challenge(&self) -> Response {
        let mut response = Response::new(Body::from(PAGE));
        *response.status_mut() = StatusCode::UNAUTHORIZED;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        headers.insert(WWW_AUTHENTICATE, self.gate.challenge.clone());
        response
    }
}

impl Handler for Guard {
    fn handle(&self, request: Request) -> Reply<'_> {
        if self.gate.is_exempt(&request.context.path) {
            return match self.inner.handle(request) {
                Reply::Now(response) => Reply::Now(hide(response)),
                Reply::Later(later) => Reply::later(async move { hide(later.await) }),
            };
        }
        match self.gate.decide(&request) {
            Decision::Pass(pass) => self.forward(pass, request),
            Decision::Prove(attempt) => Reply::later(async move {
                match self.gate.prove(attempt).await {
                    Decision::Pass(pass) => match self.forward(pass, request) {
                        Reply::Now(response) => response,
                        Reply::Later(later) => later.await,
                    },
                    refused => self.refuse(&refused, &request.parts.headers, &request.context.id),
                }
            }),
            refused => Reply::Now(self.refuse(&refused, &request.parts.headers, &request.context.id)),
        }
    }
}

fn hold(left: Duration, headers: &HeaderMap, id: &RequestId) -> Response {
    let problem = Problem::new(
        StatusCode::TOO_MANY_REQUESTS,
        "too_many_attempts",
        "Too many wrong passwords came from your network.",
        "Wait a minute, then try again with the right user name and password.",
    );
    retry(problem.response(headers, id), left.as_secs() + 1)
}

fn busy(headers: &HeaderMap, id: &RequestId) -> Response {
    let problem = Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "busy",
        "Too many people are signing in at this moment.",
        "Try again in a few seconds.",
    );
    retry(problem.response(headers, id), 5)
}

fn retry(mut response: Response, seconds: u64) -> Response {
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    response
}

/// A response to somebody who passed: not for search engines, not for shared caches.
fn dress(response: Response, cookie: Option<HeaderValue>, user: Option<Arc<str>>) -> Response {
    let mut response = hide(response);
    if let Some(user) = user {
        response.extensions_mut().insert(User(user));
    }
    let headers = response.headers_mut();
    if let Some(private) = private(headers) {
        headers.insert(CACHE_CONTROL, private);
    }
    if let Some(cookie) = cookie {
        headers.append(SET_COOKIE, cookie);
    }
    response
}

fn hide(mut response: Response) -> Response {
    response.headers_mut().insert(ROBOTS, noindex());
    response
}

fn noindex() -> HeaderValue {
    HeaderValue::from_static("noindex, nofollow")
}

/// The Cache-Control that keeps shared caches out (RFC 9111 section 5.2.2.7), unless it is there already: `private`
/// with what was there, less `public` and `s-maxage`, which are for shared caches alone.
fn private(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut kept = String::from("private");
    let lines = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    for directive in lines.flat_map(|line| line.split(',')).map(str::trim).filter(|directive| !directive.is_empty()) {
        let name = directive.split('=').next().unwrap_or_default().trim_end();
        // `private="field"` keeps shared caches from one field only.
        if directive.eq_ignore_ascii_case("private") || name.eq_ignore_ascii_case("no-store") {
            return None;
        }
        if !["public", "s-maxage", "private"].iter().any(|shared| name.eq_ignore_ascii_case(shared)) {
            kept.push_str(", ");
            kept.push_str(directive);
        }
    }
    HeaderValue::try_from(kept).ok()
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::Mutex;

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use http::header::{AUTHORIZATION, COOKIE};

    use super::*;
    use crate::auth::{Gate, Wall};
    use crate::http::{Context, RequestBody};
    use crate::secret::Secret;

    /// Answers with a Cache-Control, and keeps what it was asked.
    #[derive(Default)]
    struct Recorder {
        asked: Mutex<Option<(HeaderMap, Option<Arc<str>>)>>,
        caching: Option<&'static str>,
    }

    impl Handler for Recorder {
        fn handle(&self, request: Request) -> Reply<'_> {
            *self.asked.lock().unwrap() = Some((request.parts.headers, request.context.user));
            let mut response = Response::new(Body::from("inside"));
            if let Some(caching) = self.caching {
                response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static(caching));
            }
            Reply::later(async { response })
        }
    }

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));

    fn config() -> Wall {
        Wall {
            username: "ann".into(),
            password: Secret::new("secret"),
            exempt: vec!["/hooks/".into()],
            ..Wall::default()
        }
    }

    fn with_hash() -> Wall {
        use argon2::PasswordHasher as _;
        let params = argon2::Params::new(8, 1, 1, None).unwrap();
        let hash = argon2::Argon2::from(params).hash_password(b"bens").unwrap().to_string();
        Wall { users: [("ben".into(), Secret::new(hash))].into(), ..config() }
    }

    fn guard(config: &Wall, inner: &Arc<Recorder>) -> Arc<dyn Handler> {
        Gate::new(config, [3; 32]).unwrap().protect(inner.clone())
    }

    fn basic(pair: &str) -> String {
        format!("Basic {}", STANDARD.encode(pair))
    }

    async fn ask(handler: &Arc<dyn Handler>, client: IpAddr, path: &str, headers: &[(HeaderName, &str)]) -> Response {
        let (mut parts, ()) = http::Request::new(()).into_parts();
        for (name, value) in headers {
            parts.headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        let context = Context {
            id: RequestId::new(),
            client,
            secure: true,
            host: "localhost".into(),
            path: path.into(),
            mounted: 0,
            user: None,
        };
        match handler.handle(Request { parts, body: RequestBody::empty(), context }) {
            Reply::Now(response) => response,
            Reply::Later(later) => later.await,
        }
    }

    async fn sign_in(handler: &Arc<dyn Handler>, client: IpAddr, pair: &str) -> Response {
        ask(handler, client, "/", &[(AUTHORIZATION, &basic(pair))]).await
    }

    fn cookie_of(response: &Response) -> String {
        response.headers()[SET_COOKIE].to_str().unwrap().split(';').next().unwrap().to_owned()
    }

    #[tokio::test]
    async fn who_knows_the_password_passes_and_leaves_it_at_the_wall() {
        let inner = Arc::new(Recorder { caching: Some("public, max-age=60, s-maxage=9"), ..Recorder::default() });
        let response = sign_in(&guard(&config(), &inner), HERE, "ann:secret").await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[CACHE_CONTROL], "private, max-age=60");
        assert_eq!(response.headers()[ROBOTS], "noindex, nofollow");
        let (headers, user) = inner.asked.lock().unwrap().take().unwrap();
        assert!(!headers.contains_key(AUTHORIZATION));
        assert_eq!(user.as_deref(), Some("ann"));
    }

    #[tokio::test]
    async fn who_does_not_is_asked_for_it() {
        let inner = Arc::new(Recorder::default());
        let wall = guard(&Wall { realm: "The \"inner\" \\ circle".into(), ..config() }, &inner);
        for headers in [vec![], vec![(AUTHORIZATION, basic("ann:wrong"))], vec![(AUTHORIZATION, "Bearer x".into())]] {
            let headers: Vec<_> = headers.iter().map(|(name, value)| (name.clone(), value.as_str())).collect();
            let response = ask(&wall, HERE, "/", &headers).await;
            assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
            assert_eq!(response.headers()[WWW_AUTHENTICATE], r#"Basic realm="The \"inner\" \\ circle""#);
            assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
            assert!(!response.headers().contains_key(SET_COOKIE));
        }
        assert!(inner.asked.lock().unwrap().is_none());
    }

    #[tokio::test]
    async fn a_cookie_lets_a_bearer_token_through_to_the_application() {
        let inner = Arc::new(Recorder::default());
        let wall = guard(&config(), &inner);
        let cookie = cookie_of(&sign_in(&wall, HERE, "ann:secret").await);
        for (theirs, kept) in [("Bearer token", true), (&*basic("app:own"), true), (&*basic("ann:secret"), false)] {
            let response = ask(&wall, THERE, "/", &[(AUTHORIZATION, theirs), (COOKIE, &cookie)]).await;
            assert_eq!(response.status(), StatusCode::OK);
            assert!(!response.headers().contains_key(SET_COOKIE), "a young cookie is good enough");
            let (headers, user) = inner.asked.lock().unwrap().take().unwrap();
            assert_eq!(headers.contains_key(AUTHORIZATION), kept, "{theirs}");
            assert!(!headers.contains_key(COOKIE), "what opens the wall stays at the wall");
            assert_eq!(user.as_deref(), Some("ann"));
        }
    }

    #[tokio::test]
    async fn exempt_paths_end_at_a_segment() {
        let inner = Arc::new(Recorder { caching: Some("public"), ..Recorder::default() });
        let wall = guard(&config(), &inner);
        for (path, status) in [("/hooks", 200), ("/hooks/x", 200), ("/hookshot", 401), ("/x/hooks", 401), ("/", 401)] {
            assert_eq!(ask(&wall, HERE, path, &[]).await.status(), status, "{path}");
        }
        let open = ask(&wall, HERE, "/hooks/x", &[(AUTHORIZATION, "Bearer hook")]).await;
        assert_eq!(
            (&open.headers()[CACHE_CONTROL], &open.headers()[ROBOTS]),
            (&"public".try_into().unwrap(), &noindex())
        );
        assert!(inner.asked.lock().unwrap().take().unwrap().0.contains_key(AUTHORIZATION));
    }

    #[tokio::test]
    async fn guessing_is_held_off_without_locking_out_who_got_in_before() {
        for config in [config(), with_hash()] {
            let wall = guard(&config, &Arc::new(Recorder::default()));
            assert_eq!(sign_in(&wall, HERE, "ann:secret").await.status(), 200);
            for guess in 0..super::super::throttle::FAILURES {
                assert_eq!(sign_in(&wall, HERE, &format!("ann:{guess}")).await.status(), 401);
            }
            let held = sign_in(&wall, HERE, "ann:guess").await;
            assert_eq!(held.status(), StatusCode::TOO_MANY_REQUESTS);
            assert!((1..=60).contains(&held.headers()[RETRY_AFTER].to_str().unwrap().parse::<u64>().unwrap()));
            assert_eq!(ask(&wall, HERE, "/", &[]).await.status(), 401, "a browser may still ask for a password");
            assert_eq!(sign_in(&wall, HERE, "ann:secret").await.status(), 200);
            assert_eq!(sign_in(&wall, THERE, "ann:guess").await.status(), 401);
        }
    }

    #[tokio::test]
    async fn the_right_password_is_not_told_from_a_wrong_one_while_held_off() {
        let wall = guard(&with_hash(), &Arc::new(Recorder::default()));
        for guess in 0..super::super::throttle::FAILURES {
            sign_in(&wall, HERE, &format!("zoe:{guess}")).await;
        }
        for pair in ["ann:secret", "ben:bens", "ben:wrong"] {
            assert_eq!(sign_in(&wall, HERE, pair).await.status(), StatusCode::TOO_MANY_REQUESTS, "{pair}");
        }
        assert_eq!(sign_in(&wall, THERE, "ben:bens").await.status(), 200);
    }

    #[tokio::test]
    async fn a_hashed_user_passes_and_the_second_time_at_once() {
        let inner = Arc::new(Recorder::default());
        let gate = Gate::new(&with_hash(), [3; 32]).unwrap();
        let wall = gate.protect(inner.clone());
        assert_eq!(sign_in(&wall, HERE, "ben:bens").await.status(), 200);
        assert_eq!(inner.asked.lock().unwrap().take().unwrap().1.as_deref(), Some("ben"));
        let mut parts = http::Request::new(()).into_parts().0;
        parts.headers.insert(AUTHORIZATION, basic("ben:bens").try_into().unwrap());
        let context = Context {
            id: RequestId::new(),
            client: HERE,
            secure: true,
            host: "localhost".into(),
            path: "/".into(),
            mounted: 0,
            user: None,
        };
        let request = Request { parts, body: RequestBody::empty(), context };
        assert!(matches!(gate.parts().unwrap().decide(&request), Decision::Pass(_)));
    }

    #[tokio::test]
    async fn many_sign_ins_at_once_are_answered_and_bounded() {
        let inner = Arc::new(Recorder::default());
        let wall = guard(&with_hash(), &inner);
        let asked = (0..200_u8).map(|number| {
            let wall = wall.clone();
            async move { sign_in(&wall, IpAddr::V4(Ipv4Addr::new(10, 0, 0, number)), "ben:wrong").await.status() }
        });
        let statuses = futures_util::future::join_all(asked).await;
        let of = |status: StatusCode| statuses.iter().filter(|got| **got == status).count();
        assert_eq!(of(StatusCode::UNAUTHORIZED) + of(StatusCode::SERVICE_UNAVAILABLE), 200);
        assert!(of(StatusCode::UNAUTHORIZED) >= 64 && of(StatusCode::SERVICE_UNAVAILABLE) > 0, "{statuses:?}");
        assert_eq!(sign_in(&wall, HERE, "ben:bens").await.status(), 200, "and it goes on");
    }

    #[test]
    fn a_wall_without_users_or_turned_off_is_no_wall() {
        let off = Wall { mode: crate::auth::Mode::Off, ..config() };
        for config in [Wall::default(), off] {
            let inner: Arc<dyn Handler> = Arc::new(Recorder::default());
            let gate = Gate::new(&config, [3; 32]).unwrap();
            assert!(Arc::ptr_eq(&gate.protect(inner.clone()), &inner) && !gate.is_on());
        }
    }

    #[test]
    fn what_is_private_already_stays_as_it_is() {
        let of = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CACHE_CONTROL, HeaderValue::from_static(value));
            private(&headers).map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(of("no-store"), None);
        assert_eq!(of("max-age=5, Private"), None);
        assert_eq!(of("no-cache").unwrap(), "private, no-cache");
        assert_eq!(of("Public, max-age=1, immutable").unwrap(), "private, max-age=1, immutable");
        assert_eq!(of("private=\"set-cookie\", max-age=1").unwrap(), "private, max-age=1");
        assert_eq!(private(&HeaderMap::new()).unwrap(), "private");
    }
}
