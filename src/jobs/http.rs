//! Tasks that call an address over HTTP: webhooks, and other programs' interfaces.
//!
//! Where a task names the address, or it has redirects, the host is looked up once and must lead to the public internet
//! or a network of the configuration: see [`crate::http::Reach`]. So must the operator's own, whose name somebody else
//! may have in hand.

use std::time::{Duration, SystemTime};

use ::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, COOKIE, LOCATION, RETRY_AFTER};
use ::http::{HeaderMap, HeaderValue, Method, StatusCode};
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::address::{self, Pattern, Template};
use super::body::{self, Body};
use super::call::{bind, forbidden, object, source, string, until_asked, unusable};
use super::config;
use crate::auth::hooks::signature::Key;
use crate::error::chain;
use crate::http::{Answer, Bounds, Destination, Message, Outbound, OutboundError, Reach, ReachError};
use crate::tasks::native::{Call, Failure, Handler};

/// What a task may hand over that names its address, in this order.
const ARGUMENTS: [&str; 4] = ["url", "method", "json", "headers"];
/// What an answer may put a task off for, at most.
const LONGEST_PAUSE: Duration = Duration::from_hours(24);
/// How much of a refusal is told.
const TOLD: usize = 300;

/// A task that calls an address.
pub(super) struct Request {
    outbound: Outbound,
    reach: Reach,
    /// None: the task names it.
    to: Option<Template>,
    hosts: Vec<Pattern>,
    plain: bool,
    method: Method,
    headers: HeaderMap,
    body: Option<Body>,
    keys: Vec<Key>,
    timeout: Duration,
    redirects: u8,
    answer_bytes: usize,
}

/// What is to be sent.
struct Prepared {
    to: Destination,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
}

impl Request {
    /// The task of a configuration that was validated.
    ///
    /// # Errors
    /// A value that cannot be used after all.
    pub(super) fn new(config: &config::Http, outbound: Outbound) -> Result<Self, String> {
        let mut headers = HeaderMap::new();
        for (name, value) in &config.headers {
            let (name, value) = body::header(name, value.expose())?;
            headers.insert(name, value);
        }
        let to = (!config.url.is_empty()).then(|| Template::parse(&config.url, config.allow_http)).transpose()?;
        Ok(Self {
            outbound,
            reach: Reach::new(&config.networks),
            to,
            hosts: config.hosts.iter().filter_map(|host| Pattern::parse(host)).collect(),
            plain: config.allow_http,
            method: body::method(&config.method).ok_or("the method is none")?,
            headers,
            body: (!config.body.is_empty()).then(|| Body::parse(&config.body)).transpose()?,
            keys: body::keys(&config.secret)?,
            timeout: config.timeout,
            redirects: config.redirects,
            answer_bytes: config.answer_bytes,
        })
    }

    fn prepare(&self, call: &Call) -> Result<Prepared, Failure> {
        let source = source(call);
        let mut headers = self.headers.clone();
        let (to, method, body) = if let Some(template) = &self.to {
            let to = template.fill(&source).map_err(|error| match error {
                address::Error::Missing(missing) => Failure::from(missing),
                other => unusable(other.to_string()),
            })?;
            let bodiless = [Method::GET, Method::HEAD, Method::DELETE].contains(&self.method);
            let body = match &self.body {
                Some(body) => Some(body.fill(&source)?),
                None if bodiless => None,
                None => Some(body::whole(&source)),
            };
            (to, self.method.clone(), body)
        } else {
            let bound = bind(call, &ARGUMENTS)?;
            let to = self.named(string(&bound, "url")?)?;
            let method = match string(&bound, "method")? {
                None => self.method.clone(),
                Some(name) => body::method(name).ok_or_else(|| unusable(format!("'{name}' is no method")))?,
            };
            let none = Map::new();
            for (name, value) in object(&bound, "headers")?.unwrap_or(&none) {
                let value = value.as_str().ok_or_else(|| Failure::arguments("the headers' values must be texts"))?;
                let problem = |problem| unusable(format!("the header {name} {problem}"));
                let (name, value) = body::header(name, value).map_err(problem)?;
                // What the operator has set stays.
                headers.entry(name).or_insert(value);
            }
            (to, method, bound.get("json").cloned())
        };
        let body = body.map_or_else(Bytes::new, |value| value.to_string().into());
        if !body.is_empty() {
            headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
        }
        headers.entry(ACCEPT).or_insert(HeaderValue::from_static("application/json, */*;q=0.5"));
        Ok(Prepared { to, method, headers, body })
    }

    /// The address that a task names.
    fn named(&self, url: Option<&str>) -> Result<Destination, Failure> {
        let url = url.ok_or_else(|| Failure::arguments("'url' is missing"))?;
        let to = Destination::parse_any(url).map_err(|problem| unusable(format!("the address {problem}")))?;
        self.check(&to)?;
        Ok(to)
    }

    fn check(&self, to: &Destination) -> Result<(), Failure> {
        if !self.plain && !to.is_tls() {
            return Err(forbidden("the address is not https, and allow_http is not set"));
        }
        if !self.hosts.iter().any(|host| host.allows(to)) {
            return Err(forbidden(format!(
                "the host {}:{} is not allowed: http.hosts of the task's handler does not name it",
                to.host(),
                to.port()
            )));
        }
        Ok(())
    }

    async fn send(&self, call: &Call) -> Result<Value, Failure> {
        let Prepared { mut to, mut method, mut headers, mut body } = self.prepare(call)?;
        let deadline = Instant::now() + self.timeout;
        let mut redirects = self.redirects;
        loop {
            let answer = self.once(call, &to, &method, &headers, &body, deadline).await?;
            let next = answer.headers.get(LOCATION).filter(|_| is_redirect(answer.status) && redirects > 0);
            let Some(next) = next else { return outcome(&to, &answer) };
            redirects -= 1;
            let next = next.to_str().map_err(|_| unusable("the redirect leads nowhere"))?;
            let next = to.join(next).map_err(|problem| unusable(format!("the redirect's address {problem}")))?;
            if !next.same_origin(&to) {
                self.check(&next)?;
                // Another host has no business with what was meant for this one.
                for name in self.headers.keys().chain([&AUTHORIZATION, &COOKIE]) {
                    headers.remove(name);
                }
            }
            let repeats =
                matches!(answer.status.as_u16(), 307 | 308) || method == Method::GET || method == Method::HEAD;
            if !repeats {
                (method, body) = (Method::GET, Bytes::new());
                headers.remove(CONTENT_TYPE);
            }
            to = next;
        }
    }

    async fn once(
        &self,
        call: &Call,
        to: &Destination,
        method: &Method,
        headers: &HeaderMap,
        body: &Bytes,
        deadline: Instant,
    ) -> Result<Answer, Failure> {
        let left = || deadline.saturating_duration_since(Instant::now());
        let addresses = self.reach.resolve(to, left()).await.map_err(|error| match error {
            ReachError::Closed { .. } => {
                forbidden(format!("{error}; http.networks of the task's handler can allow it"))
            }
            ReachError::Unknown(..) => Failure::passing("Unreachable", chain(&error).to_string()),
            ReachError::Timeout(..) => Failure::passing("Timeout", error.to_string()),
        })?;
        let mut headers = headers.clone();
        let timestamp = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        body::sign(&mut headers, &self.keys, &call.id, timestamp, body);
        let message = Message { method: method.clone(), headers, body: body.clone() };
        let bounds = Bounds { deadline: left(), limit: self.answer_bytes, cut: true, addresses: Some(&addresses) };
        self.outbound.send_within(to, message, bounds).await.map_err(|error| {
            let class = match error {
                OutboundError::Timeout { .. } => "Timeout",
                OutboundError::Unreachable(..) => "Unreachable",
                OutboundError::Broken(..) | OutboundError::TooLarge(..) => "BrokenAnswer",
            };
            Failure::passing(class, chain(&error).to_string())
        })
    }
}

impl Handler for Request {
    fn run(&self, call: Call) -> BoxFuture<'_, Result<Value, Failure>> {
        async move { until_asked(&call.cancel, self.send(&call)).await }.boxed()
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// What an answer means for the task.
fn outcome(to: &Destination, answer: &Answer) -> Result<Value, Failure> {
    let kind = answer.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if answer.status.is_success() {
        let json = is_json(kind) && answer.whole;
        let body = json.then(|| serde_json::from_slice(&answer.body).ok()).flatten();
        let text = || Value::String(String::from_utf8_lossy(&answer.body).into_owned());
        return Ok(json!({
            "status": answer.status.as_u16(),
            "type": kind,
            "body": body.unwrap_or_else(text),
            "whole": answer.whole,
        }));
    }
    let text = String::from_utf8_lossy(&answer.body);
    let told: String = text.chars().map(|ch| if ch.is_control() { ' ' } else { ch }).take(TOLD).collect();
    let message = format!("{} answered {}: {told}", to.host(), answer.status);
    let message = message.trim_end_matches([':', ' ']).to_owned();
    if !answer.status.is_server_error() && answer.status != StatusCode::TOO_MANY_REQUESTS {
        return Err(Failure::permanent("HttpStatus", message));
    }
    let failure = Failure::passing("HttpStatus", message);
    Err(match pause(&answer.headers, SystemTime::now()) {
        Some(pause) => failure.after(pause),
        None => failure,
    })
}

fn is_json(kind: &str) -> bool {
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || kind.ends_with("+json")
}

/// For how long a server puts us off (RFC 9110, section 10.2.3).
fn pause(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let pause = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(text).ok()?.duration_since(now).unwrap_or_default(),
    };
    Some(pause.min(LONGEST_PAUSE))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::super::call::tests::call;
    use super::*;
    use crate::auth::hooks::signature;
    use crate::secret::Secret;
    use crate::tasks::native::Again;

    const OK: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 7\r\n\r\n{\"a\":1}";
    const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    /// Gives these answers in turn, "PORT" in them replaced by its own, and tells what was asked.
    async fn server(answers: &[&'static str]) -> (SocketAddr, UnboundedReceiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answers = answers.to_vec();
        let (told, asked) = unbounded_channel();
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = String::new();
                loop {
                    let mut buffer = vec![0; 4_096];
                    let read = stream.read(&mut buffer).await.unwrap();
                    request.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
                    let (head, body) = request.split_once("\r\n\r\n").unwrap_or((&request, ""));
                    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                    if request.contains("\r\n\r\n") && body.len() >= length.map_or(0, |it| it.parse().unwrap()) {
                        break;
                    }
                }
                let _ = told.send(request);
                if answer.is_empty() {
                    std::future::pending::<()>().await;
                }
                let answer = answer.replace("PORT", &address.port().to_string());
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        (address, asked)
    }

    fn local(url: String) -> config::Http {
        let networks = vec!["127.0.0.0/8".parse().unwrap()];
        config::Http { url, networks, timeout: Duration::from_secs(5), allow_http: true, ..config::Http::default() }
    }

    async fn run(config: &config::Http, args: Value, kwargs: Value) -> Result<Value, Failure> {
        Request::new(config, Outbound::new().unwrap()).unwrap().run(call(args, kwargs)).await
    }

    fn header<'a>(request: &'a str, name: &str) -> &'a str {
        request.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap_or_default()
    }

    #[tokio::test]
    async fn a_webhook_is_signed_and_has_the_same_identifier_at_every_try() {
        let (at, mut asked) = server(&[OK, OK]).await;
        let config = config::Http {
            secret: Secret::new(KEY),
            headers: [("authorization".to_owned(), Secret::new("Bearer x"))].into(),
            ..local(format!("http://{at}/hook/{{kwargs.what}}?v=1"))
        };
        for _ in 0..2 {
            let value = run(&config, json!([1]), json!({"what": "a/b"})).await.unwrap();
            assert_eq!(value, json!({"status": 200, "type": "application/json", "body": {"a": 1}, "whole": true}));
            let request = asked.recv().await.unwrap();
            assert!(request.starts_with("POST /hook/a%2Fb?v=1 HTTP/1.1\r\n"), "{request}");
            assert_eq!(header(&request, "authorization"), "Bearer x");
            assert_eq!(header(&request, "content-type"), "application/json");
            let id = "0b0f6c55-2f5c-4c68-a4b7-a0b6c2d2a1de";
            assert_eq!(header(&request, "webhook-id"), id);
            let body = request.split_once("\r\n\r\n").unwrap().1;
            let told: Value = serde_json::from_str(body).unwrap();
            assert_eq!(told, json!({"id": id, "task": "test.task", "args": [1], "kwargs": {"what": "a/b"}}));
            let keys = signature::keys(&Secret::new(format!("v1,{KEY}"))).unwrap();
            let timestamp = header(&request, "webhook-timestamp").parse().unwrap();
            let right = signature::sign(&keys, id, timestamp, body.as_bytes());
            assert_eq!(header(&request, "webhook-signature"), right);
        }
    }

    #[tokio::test]
    async fn what_may_pass_is_tried_again_and_what_may_not_is_not() {
        for (answer, again) in [
            ("HTTP/1.1 503 X\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n", Again::After(Duration::from_secs(7))),
            ("HTTP/1.1 429 X\r\ncontent-length: 0\r\n\r\n", Again::Backoff),
            ("HTTP/1.1 500 X\r\ncontent-length: 0\r\n\r\n", Again::Backoff),
            ("HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n", Again::Never),
            ("HTTP/1.1 400 X\r\ncontent-length: 7\r\n\r\nbad\r\nxx", Again::Never),
            ("HTTP/1.1 302 X\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n", Again::Never),
            ("nonsense\r\n\r\n", Again::Backoff),
        ] {
            let (at, _asked) = server(&[answer]).await;
            let failure = run(&local(format!("http://{at}/")), json!([]), json!({})).await.unwrap_err();
            assert_eq!(failure.again, again, "{answer}: {failure:?}");
        }
        let (at, _asked) = server(&[""]).await;
        let config = config::Http { timeout: Duration::from_millis(50), ..local(format!("http://{at}/")) };
        let failure = run(&config, json!([]), json!({})).await.unwrap_err();
        assert_eq!((failure.exception.class.as_str(), failure.again), ("Timeout", Again::Backoff));
        let failure = run(&local("http://127.0.0.1:1/".into()), json!([]), json!({})).await.unwrap_err();
        assert_eq!((failure.exception.class.as_str(), failure.again), ("Unreachable", Again::Backoff));
    }

    #[test]
    fn a_server_says_when_to_come_back() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let pause = |text: &str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_str(text).unwrap())]);
            pause(&headers, now).map(|pause| pause.as_secs())
        };
        assert_eq!(pause("120"), Some(120));
        assert_eq!(pause(&httpdate::fmt_http_date(now + Duration::from_secs(90))), Some(90));
        assert_eq!(pause(&httpdate::fmt_http_date(now - Duration::from_secs(90))), Some(0));
        assert_eq!(pause("999999999"), Some(24 * 3600));
        assert_eq!(pause("soon"), None);
    }

    #[tokio::test]
    async fn nobody_reaches_what_only_this_machine_may() {
        let (at, mut asked) = server(&[OK]).await;
        let closed = config::Http { networks: Vec::new(), ..local(format!("http://{at}/")) };
        let failure = run(&closed, json!([]), json!({})).await.unwrap_err();
        assert_eq!((failure.exception.class.as_str(), failure.again), ("PermissionError", Again::Never));
        assert!(failure.exception.message.contains("127.0.0.1"), "{failure:?}");
        assert!(asked.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_task_names_only_hosts_that_are_allowed() {
        let (at, mut asked) = server(&[OK]).await;
        let open = config::Http { hosts: vec![format!("127.0.0.1:{}", at.port())], ..local(String::new()) };
        let url = format!("http://{at}/x");
        let kwargs = json!({"method": "put", "json": {"b": 2}, "headers": {"x-y": "z"}});
        run(&open, json!([url]), kwargs).await.unwrap();
        let request = asked.recv().await.unwrap();
        assert!(request.starts_with("PUT /x HTTP/1.1\r\n") && request.ends_with("{\"b\":2}"), "{request}");
        assert_eq!(header(&request, "x-y"), "z");
        for (kwargs, class) in [
            (json!({"url": "https://example.org/"}), "PermissionError"),
            (json!({"url": "http://127.0.0.1:1/"}), "PermissionError"),
            (json!({"url": "nonsense"}), "ValueError"),
            (json!({"url": url, "method": "CONNECT"}), "ValueError"),
            (json!({"url": url, "headers": {"host": "x"}}), "ValueError"),
            (json!({"url": url, "body": "x"}), "TypeError"),
            (json!({}), "TypeError"),
        ] {
            let failure = run(&open, json!([]), kwargs.clone()).await.unwrap_err();
            assert_eq!((failure.exception.class.as_str(), failure.again), (class, Again::Never), "{kwargs}");
        }
        let none = config::Http::default();
        let failure = run(&none, json!(["https://example.org/"]), json!({})).await.unwrap_err();
        assert_eq!(failure.exception.class, "PermissionError");
    }

    #[tokio::test]
    async fn redirects_are_followed_as_far_as_they_may_be() {
        let away = "HTTP/1.1 303 X\r\nlocation: /next?a=b\r\ncontent-length: 0\r\n\r\n";
        let (at, mut asked) = server(&[away, OK]).await;
        let config = config::Http { redirects: 1, ..local(format!("http://{at}/first")) };
        run(&config, json!([]), json!({})).await.unwrap();
        assert!(asked.recv().await.unwrap().starts_with("POST /first "));
        let second = asked.recv().await.unwrap();
        assert!(second.starts_with("GET /next?a=b ") && header(&second, "content-type").is_empty(), "{second}");
        // Too many, elsewhere, and to where nobody may go.
        let (at, _asked) = server(&[away, away]).await;
        let config = config::Http { redirects: 1, ..local(format!("http://{at}/first")) };
        assert_eq!(run(&config, json!([]), json!({})).await.unwrap_err().exception.class, "HttpStatus");
        for (location, hosts) in [
            ("http://localhost:PORT/", vec![]),
            ("http://169.254.169.254/latest/meta-data/", vec!["169.254.169.254".to_owned()]),
        ] {
            let answer = format!("HTTP/1.1 307 X\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
            let (at, _asked) = server(&[Box::leak(answer.into_boxed_str()), OK]).await;
            let config = config::Http { redirects: 3, hosts, ..local(format!("http://{at}/")) };
            let failure = run(&config, json!([]), json!({})).await.unwrap_err();
            assert_eq!(failure.exception.class, "PermissionError", "{location}: {failure:?}");
        }
    }

    #[tokio::test]
    async fn another_host_does_not_get_the_operator_s_headers() {
        let (other, mut asked) = server(&[OK]).await;
        let answer =
            format!("HTTP/1.1 307 X\r\nlocation: http://localhost:{}/x\r\ncontent-length: 0\r\n\r\n", other.port());
        let (at, _first) = server(&[Box::leak(answer.into_boxed_str())]).await;
        let config = config::Http {
            redirects: 1,
            hosts: vec![format!("localhost:{}", other.port())],
            headers: [("x-key".to_owned(), Secret::new("secret"))].into(),
            ..local(format!("http://{at}/"))
        };
        run(&config, json!([]), json!({})).await.unwrap();
        let request = asked.recv().await.unwrap();
        assert!(request.starts_with("POST /x ") && !request.contains("secret"), "{request}");
    }

    #[tokio::test]
    async fn a_long_answer_is_cut() {
        let (at, _asked) = server(&[OK]).await;
        let config = config::Http { answer_bytes: 3, ..local(format!("http://{at}/")) };
        let value = run(&config, json!([]), json!({})).await.unwrap();
        assert_eq!((&value["body"], &value["whole"]), (&json!("{\"a"), &json!(false)));
    }
}
