//! From an admitted request to its response: what is served now, and everything that is done to each request in order.
//!
//! [`Edge::respond`] can be read as the list of what happens to a request. What is served is one value that a reload
//! swaps whole; requests that began under the old one end under it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use arc_swap::ArcSwap;
use futures_util::FutureExt as _;
use http::header::{self, HeaderName};
use http::{HeaderValue, Method, StatusCode, Version};
use hyper::body::Incoming;

use super::accept_encoding::AcceptEncoding;
use super::compress::Compressor;
use super::incoming::Limited;
use super::ingress::Rules;
use super::rate::Limiter;
use super::record::{Record, Tracked};
use super::registry::{Connection, Registry};
use super::router::{Found, Mount, Place, Router};
use super::{Body, Config, Context, Handler, Later, Problem, Reply, Request, RequestBody, Response, User};
use crate::id::RequestId;
use crate::telemetry::{AccessLine, AccessLog, MountMetrics};

/// Where an ACME authority looks for the answer to its challenge (RFC 8555 section 8.3).
const CHALLENGE: &str = "/.well-known/acme-challenge/";

/// Gives the answer to an ACME challenge by its token.
pub type Challenges = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Everything that is served, made whole from a configuration.
pub struct Served {
    /// Limits, deadlines and switches.
    pub config: Config,
    /// What a request must be.
    pub rules: Rules,
    /// Who answers.
    pub router: Router,
    /// The rate of requests from one client.
    pub limiter: Option<Limiter>,
    /// Headers for responses that do not have them.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The port to which plain HTTP is redirected, if it is.
    pub redirect: Option<u16>,
    /// Answers ACME challenges over plain HTTP.
    pub challenges: Option<Challenges>,
    /// Where access lines go.
    pub access: AccessLog,
    /// Counts requests that reach no mount.
    pub unrouted: MountMetrics,
    hsts: Option<HeaderValue>,
    compressor: Compressor,
}

/// Serves connections. A cheap handle.
#[derive(Clone)]
pub struct Edge(Arc<Inner>);

struct Inner {
    served: ArcSwap<Served>,
    registry: Registry,
}

impl Served {
    /// What is served: `config` says how, `rules` and `router` what and to whom.
    #[must_use]
    pub fn new(config: Config, rules: Rules, router: Router, unrouted: MountMetrics) -> Self {
        let headers = config.headers.values().collect();
        let hsts = (!config.hsts.is_zero()).then(|| {
            let subdomains = if config.hsts_subdomains { "; includeSubDomains" } else { "" };
            HeaderValue::try_from(format!("max-age={}{subdomains}", config.hsts.as_secs())).ok()
        });
        Self {
            limiter: Limiter::new(&config.rate),
            compressor: Compressor::new(&config.compression),
            hsts: hsts.flatten(),
            headers,
            rules,
            router,
            access: AccessLog::off(),
            redirect: None,
            challenges: None,
            unrouted,
            config,
        }
    }
}

/// A connection that was accepted and is not served yet: a stop waits for it. To be taken before anything else happens
/// to the connection, or a stop in between cuts it off.
pub struct Arrival(Edge);

impl Drop for Arrival {
    fn drop(&mut self) {
        self.0.registry().arrived();
    }
}

impl Edge {
    /// An edge that serves `served`.
    #[must_use]
    pub fn new(served: Served) -> Self {
        Self(Arc::new(Inner { served: ArcSwap::from_pointee(served), registry: Registry::default() }))
    }

    /// Serves `served` from the next request on.
    pub fn swap(&self, served: Served) {
        self.0.served.store(Arc::new(served));
    }

    /// Counts a connection that is on its way, until what this gives is dropped.
    #[must_use]
    pub fn arrive(&self) -> Arrival {
        self.registry().arrives();
        Arrival(self.clone())
    }

    /// The connections being served.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.0.registry
    }

    pub(super) fn served(&self) -> Arc<Served> {
        self.0.served.load_full()
    }

    /// Counts and logs what was refused before it was a request: there is no more of it than its sender and its answer.
    pub(super) fn refused(&self, connection: &Connection, status: u16) {
        let served = self.served();
        served.unrouted.started();
        served.unrouted.ended(status, std::time::Duration::ZERO, 0);
        served.access.write(&AccessLine {
            time: SystemTime::now(),
            client: connection.peer.address,
            method: "",
            host: "",
            target: "",
            version: Version::HTTP_11,
            status,
            bytes: 0,
            duration: std::time::Duration::ZERO,
            request_id: "",
            user: None,
            referer: None,
            user_agent: None,
            mount: "",
            secure: connection.peer.secure,
            complete: true,
        });
    }

    /// Answers one request.
    pub(super) async fn respond(
        self,
        request: hyper::Request<Incoming>,
        connection: Arc<Connection>,
    ) -> http::Response<Tracked> {
        let received = Instant::now();
        connection.watch.begin();
        let (mut parts, body) = request.into_parts();
        let upgrade = parts.extensions.get::<hyper::upgrade::OnUpgrade>().is_some();
        let mut record = Box::new(Record::new(self.served(), connection.clone(), &parts, received, SystemTime::now()));
        let admitted = record.served().rules.admit(&mut parts, &connection.peer);
        let (mut context, refused) = match admitted {
            Ok(context) => (context, None),
            Err((problem, id)) => {
                let mut context = Context::refused(id, connection.peer.address);
                context.secure = connection.peer.secure;
                (context, Some(problem))
            }
        };
        record.note(&context);
        let finish = Finish {
            accepts: AcceptEncoding::of(&parts.headers),
            draining: connection.is_draining(),
            secure: context.secure,
            id: context.id,
        };
        let found = match refused {
            Some(problem) => Err(problem.response(&parts.headers, &finish.id)),
            None => record.served().route(&mut context, &parts),
        };
        let place = match found {
            Ok(place) => place,
            Err(response) => return finish.apply(response, record),
        };
        record.mounted(place);
        let served = record.served();
        let mount = served.router.mount(place);
        let body = match served.limit(mount, &parts, body) {
            Ok(body) => body,
            Err(problem) => return finish.apply(problem.response(&parts.headers, &finish.id), record),
        };
        let html = Problem::wants_html(&parts.headers);
        // Called here and not in a future of its own: what waits has no room for the request.
        let response = match call(&*mount.handler, Request { parts, body, context }) {
            Ok(Reply::Now(response)) => Ok(response),
            Ok(Reply::Later(future)) => wait(future, served.config.timeouts.handler, finish.id).await,
            Err(problem) => Err(problem),
        };
        let response = response.unwrap_or_else(|problem| problem.response_as(html, &finish.id));
        if upgrade && response.status() == StatusCode::SWITCHING_PROTOCOLS {
            connection.watch.upgrade();
        }
        finish.apply(response, record)
    }
}

/// What is known of the request when its response is finished.
struct Finish {
    accepts: AcceptEncoding,
    draining: bool,
    secure: bool,
    id: RequestId,
}

impl Served {
    /// Finds the mount, unless something else answers first.
    fn route(&self, context: &mut Context, parts: &http::request::Parts) -> Result<Place, Response> {
        if let Some(answer) = self.challenge(context, parts) {
            return Err(answer);
        }
        if let Some(port) = self.redirect
            && !context.secure
        {
            return Err(redirect_to_https(context, parts, port));
        }
        let too_many = |wait: std::time::Duration| {
            let problem = Problem::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_requests",
                "There were too many requests from this address.",
                "Wait as long as the Retry-After header says.",
            );
            let mut response = problem.response(&parts.headers, &context.id);
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(wait.as_millis().div_ceil(1_000) as u64));
            response
        };
        if let Some(limiter) = &self.limiter {
            limiter.take(context.client).map_err(too_many)?;
        }
        let (place, taken) = match self.router.find(&context.host, &context.path) {
            Found::Mount(place, taken) => (place, taken),
            Found::Slash => return Err(redirect_to_slash(parts)),
            Found::Nothing => return Err(Problem::not_found().response(&parts.headers, &context.id)),
        };
        if let Some(limiter) = &self.router.mount(place).limiter {
            limiter.take(context.client).map_err(too_many)?;
        }
        context.mounted = taken;
        Ok(place)
    }

    fn challenge(&self, context: &Context, parts: &http::request::Parts) -> Option<Response> {
        let token = context.path.strip_prefix(CHALLENGE)?;
        if context.secure || !matches!(parts.method, Method::GET | Method::HEAD) {
            return None;
        }
        let answer = self.challenges.as_ref()?(token)?;
        let mut response = Response::new(Body::from(answer));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Some(response)
    }

    /// Puts the body under the mount's limits.
    fn limit(&self, mount: &Mount, parts: &http::request::Parts, body: Incoming) -> Result<RequestBody, Problem> {
        if http_body::Body::is_end_stream(&body) {
            return Ok(RequestBody::empty());
        }
        let most = mount.body_bytes;
        let declared =
            parts.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if declared.is_some_and(|length| length > most) {
            return Err(super::BodyError::TooLarge(most).problem());
        }
        Ok(RequestBody::limited(Limited::new(body, most, &self.config.timeouts)))
    }
}

impl Finish {
    /// Adds what every response has, and compresses.
    fn apply(&self, mut response: Response, mut record: Box<Record>) -> http::Response<Tracked> {
        let served = record.served();
        let headers = response.headers_mut();
        headers.reserve(served.headers.len() + 2);
        if let Some(mount) = record.mount() {
            for (name, value) in &mount.headers {
                headers.insert(name.clone(), value.clone());
            }
        }
        for (name, value) in &served.headers {
            headers.entry(name).or_insert_with(|| value.clone());
        }
        if self.secure
            && let Some(value) = &served.hsts
        {
            headers.insert(header::STRICT_TRANSPORT_SECURITY, value.clone());
        }
        if let Ok(mut value) = HeaderValue::from_str(self.id.as_str()) {
            // Never the same again: it would only push others out of HTTP/2's table of headers.
            value.set_sensitive(true);
            headers.insert(served.rules.id_header.clone(), value);
        }
        if self.draining && record.version() != Version::HTTP_2 {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        let mut response = served.compressor.apply(response, self.accepts, record.is_head());
        let user = response.extensions_mut().remove::<User>();
        record.answered(response.status(), user);
        if record.is_head() {
            drop_body(&mut response);
        }
        response.map(|body| Tracked::new(body, record))
    }
}

/// Takes the body off an answer to HEAD and says how long it was: hyper does so in HTTP/1.1 only.
fn drop_body(response: &mut Response) {
    let body = std::mem::take(response.body_mut());
    let status = response.status();
    let bodiless = status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
    if let Some(length) = body.len()
        && length > 0
        && !bodiless
    {
        response.headers_mut().entry(header::CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(length));
    }
}

/// Calls a handler; a panic becomes a problem.
fn call(handler: &dyn Handler, request: Request) -> Result<Reply<'_>, Problem> {
    let id = request.context.id;
    std::panic::catch_unwind(AssertUnwindSafe(|| handler.handle(request))).map_err(|_| panicked(id))
}

/// Waits for a handler's response; a panic or a deadline passed becomes a problem.
async fn wait(future: Later<'_>, most: std::time::Duration, id: RequestId) -> Result<Response, Problem> {
    match tokio::time::timeout(most, AssertUnwindSafe(future).catch_unwind()).await {
        Ok(result) => result.map_err(|_| panicked(id)),
        Err(_) => Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "handler_timeout",
            "The server took too long to answer.",
            "Try again later.",
        )),
    }
}

fn panicked(id: RequestId) -> Problem {
    tracing::error!(request_id = %id, "a handler panicked; the request was answered with status 500");
    Problem::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "internal_error",
        "Something went wrong on the server.",
        "Try again. If it goes on, tell the operator the request's identifier.",
    )
}

fn redirect(to: String) -> Response {
    let mut response = Response::new(Body::Empty);
    match HeaderValue::try_from(to) {
        Ok(value) => {
            *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
            response.headers_mut().insert(header::LOCATION, value);
        }
        Err(_) => *response.status_mut() = StatusCode::BAD_REQUEST,
    }
    response
}

fn redirect_to_https(context: &Context, parts: &http::request::Parts, port: u16) -> Response {
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let port = if port == 443 { String::new() } else { format!(":{port}") };
    redirect(format!("https://{}{port}{target}", context.host))
}

fn redirect_to_slash(parts: &http::request::Parts) -> Response {
    let query = parts.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    // Runs of slashes are joined, or "//evil.test" would lead to another host.
    let path = parts.uri.path().trim_start_matches('/').trim_end_matches('/');
    redirect(format!("/{path}/{query}"))
}
