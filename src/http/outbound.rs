//! Requests that Beacon makes itself: to identity providers and hooks, and those that tasks make.
//!
//! Small ones: each has a connection of its own, one deadline over everything, and a limit on the answer. A redirect is an
//! answer like any other and is never followed here, so that nobody can send Beacon elsewhere. Plain HTTP goes to this
//! very machine only, unless the caller says otherwise, because what is sent are secrets. An address that is not the
//! operator's own word is to be looked up by [`super::Reach`] first.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT_ENCODING, CONNECTION, HOST, HeaderValue, USER_AGENT};
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::error::BoxError;

/// The longest head of an answer, in bytes.
const LARGEST_HEAD: usize = 64 * 1024;
/// Stores of the system, the first that is there counts; authorities of an organisation's own are in it.
const SYSTEM: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// An address that Beacon may send to: `https`, or `http` on this very machine; no user name, no fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    tls: bool,
    /// Without brackets, in lower case.
    host: String,
    port: u16,
    /// The path and query.
    path: String,
    /// As it stands in `Host`.
    authority: String,
}

/// What is sent.
#[derive(Clone, Debug)]
pub struct Message {
    /// The method.
    pub method: Method,
    /// Headers besides Host, Content-Length, User-Agent and Accept-Encoding.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// What came back, whatever its status.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// Whether the body is all of it: [`Bounds::cut`] may have ended it.
    pub whole: bool,
}

/// What an exchange may take.
#[derive(Clone, Copy, Debug)]
pub struct Bounds<'a> {
    /// How long it may take, with everything.
    pub deadline: Duration,
    /// The longest body of the answer, in bytes.
    pub limit: usize,
    /// A longer body is cut there, instead of being an error.
    pub cut: bool,
    /// Where to connect to, instead of looking the host up.
    pub addresses: Option<&'a [SocketAddr]>,
}

/// Why nothing came back.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    /// Not everything was done in time.
    #[error("{host} did not answer within {}", humantime::format_duration(*.deadline))]
    Timeout {
        /// Who.
        host: String,
        /// How long it had.
        deadline: Duration,
    },
    /// No connection, or no good certificate.
    #[error("{0} cannot be reached")]
    Unreachable(String, #[source] std::io::Error),
    /// The connection broke, or what came is no HTTP.
    #[error("{0} did not answer in HTTP")]
    Broken(String, #[source] BoxError),
    /// The answer has more bytes than the limit.
    #[error("the answer of {0} is longer than {1} bytes")]
    TooLarge(String, usize),
}

impl OutboundError {
    /// Whether nobody has seen the request: it may be sent again.
    #[must_use]
    pub fn is_unsent(&self) -> bool {
        matches!(self, Self::Unreachable(..))
    }
}

impl Destination {
    /// Reads an address.
    ///
    /// # Errors
    /// What is wrong with it, after "the address ".
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let to = Self::parse_any(text)?;
        if to.tls || is_loopback(&to.host) { Ok(to) } else { Err("is not https, and not on this machine") }
    }

    /// Reads an address that may be `http` anywhere.
    ///
    /// # Errors
    /// What is wrong with it, after "the address ".
    pub fn parse_any(text: &str) -> Result<Self, &'static str> {
        if text.contains('#') {
            return Err("has a fragment");
        }
        let uri: Uri = text.parse().map_err(|_| "cannot be read")?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err("does not begin with https://");
        };
        if authority.as_str().contains('@') {
            return Err("has a user name");
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        if ServerName::try_from(host.as_str()).is_err() {
            return Err("has no host");
        }
        let tls = match scheme {
            "https" => true,
            "http" => false,
            _ => return Err("is not https"),
        };
        if authority.as_str().ends_with(':') {
            return Err("has an empty port");
        }
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned();
        Ok(Self { tls, host, port, path, authority: authority.as_str().to_ascii_lowercase() })
    }

    /// The host, for messages.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where a redirect leads to (RFC 3986, section 5.2).
    ///
    /// # Errors
    /// What is wrong with it, after "the address ".
    pub fn join(&self, location: &str) -> Result<Self, &'static str> {
        let location = location.split('#').next().unwrap_or_default();
        let scheme = if self.tls { "https" } else { "http" };
        let front = location.split(['/', '?']).next().unwrap_or_default();
        if front.contains(':') {
            return Self::parse_any(location);
        }
        if location.starts_with("//") {
            return Self::parse_any(&format!("{scheme}:{location}"));
        }
        let path = self.path.split('?').next().unwrap_or_default();
        let path = if location.is_empty() {
            self.path.clone()
        } else if location.starts_with('/') {
            location.to_owned()
        } else if location.starts_with('?') {
            format!("{path}{location}")
        } else {
            format!("{}/{location}", path.rsplit_once('/').map_or("", |(folder, _)| folder))
        };
        Self::parse_any(&format!("{scheme}://{}{path}", self.authority))
    }

    /// Whether the connection is protected.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// Whether both are of one origin.
    #[must_use]
    pub fn same_origin(&self, other: &Self) -> bool {
        (self.tls, &self.host, self.port) == (other.tls, &other.host, other.port)
    }
}

impl std::fmt::Display for Destination {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}://{}{}", if self.tls { "https" } else { "http" }, self.authority, self.path)
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// What sends. A cheap clone.
#[derive(Clone)]
pub struct Outbound {
    tls: TlsConnector,
}

impl Outbound {
    /// Trusts the authorities of Mozilla's list and of the system's store.
    ///
    /// # Errors
    /// The cryptographic provider lacks what TLS needs; not expected.
    pub fn new() -> Result<Self, rustls::Error> {
        let mut roots = RootCertStore::empty();
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        if let Some(path) = SYSTEM.iter().map(Path::new).find(|path| path.is_file())
            && let Ok(found) = CertificateDer::pem_file_iter(path)
        {
            // A store may have a certificate that we cannot read; the rest of it counts.
            roots.add_parsable_certificates(found.filter_map(Result::ok));
        }
        Self::trusting(roots)
    }

    /// Trusts these authorities alone.
    ///
    /// # Errors
    /// The cryptographic provider lacks what TLS needs; not expected.
    pub fn trusting(roots: RootCertStore) -> Result<Self, rustls::Error> {
        let mut config = ClientConfig::builder_with_provider(Arc::clone(crate::tls::provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { tls: TlsConnector::from(Arc::new(config)) })
    }

    /// Sends a message and reads the answer, at most `limit` bytes of body, all within `deadline`.
    ///
    /// # Errors
    /// No answer.
    pub async fn send(
        &self,
        to: &Destination,
        message: Message,
        deadline: Duration,
        limit: usize,
    ) -> Result<Answer, OutboundError> {
        self.send_within(to, message, Bounds { deadline, limit, cut: false, addresses: None }).await
    }

    /// Sends a message and reads the answer within `bounds`.
    ///
    /// # Errors
    /// No answer.
    pub async fn send_within(
        &self,
        to: &Destination,
        message: Message,
        bounds: Bounds<'_>,
    ) -> Result<Answer, OutboundError> {
        match tokio::time::timeout(bounds.deadline, self.exchange(to, message, bounds)).await {
            Ok(result) => result,
            Err(_) => Err(OutboundError::Timeout { host: to.host.clone(), deadline: bounds.deadline }),
        }
    }

    async fn exchange(&self, to: &Destination, message: Message, bounds: Bounds<'_>) -> Result<Answer, OutboundError> {
        let unreachable = |error| OutboundError::Unreachable(to.host.clone(), error);
        let stream = match bounds.addresses {
            Some(addresses) => TcpStream::connect(addresses).await,
            None => TcpStream::connect((to.host.as_str(), to.port)).await,
        };
        let stream = stream.map_err(unreachable)?;
        let _ = stream.set_nodelay(true);
        if !to.tls {
            return speak(stream, to, message, bounds).await;
        }
        let name = ServerName::try_from(to.host.clone()).map_err(|error| unreachable(std::io::Error::other(error)))?;
        let stream = self.tls.connect(name, stream).await.map_err(unreachable)?;
        speak(stream, to, message, bounds).await
    }
}

async fn speak<S>(stream: S, to: &Destination, message: Message, bounds: Bounds<'_>) -> Result<Answer, OutboundError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Bounds { limit, cut, .. } = bounds;
    let broken = |error: BoxError| OutboundError::Broken(to.host.clone(), error);
    let mut request = Request::new(Full::new(message.body));
    *request.method_mut() = message.method;
    *request.uri_mut() = to.path.parse().map_err(|error: http::uri::InvalidUri| broken(error.into()))?;
    *request.headers_mut() = message.headers;
    let host = HeaderValue::from_str(&to.authority).map_err(|error| broken(error.into()))?;
    for (name, value) in [
        (HOST, host),
        (USER_AGENT, HeaderValue::from_static(concat!("beacon/", env!("CARGO_PKG_VERSION")))),
        (ACCEPT_ENCODING, HeaderValue::from_static("identity")),
        (CONNECTION, HeaderValue::from_static("close")),
    ] {
        request.headers_mut().insert(name, value);
    }
    let handshake = http1::Builder::new().max_buf_size(LARGEST_HEAD).handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| broken(error.into()))?;
    let exchange = async move {
        let response = sender.send_request(request).await.map_err(|error| broken(error.into()))?;
        let (head, body) = response.into_parts();
        if cut {
            let (body, whole) = first(body, limit).await.map_err(|error| broken(error.into()))?;
            return Ok(Answer { status: head.status, headers: head.headers, body, whole });
        }
        if hyper::body::Body::size_hint(&body).lower() > limit as u64 {
            return Err(OutboundError::TooLarge(to.host.clone(), limit));
        }
        let body = Limited::new(body, limit).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() { OutboundError::TooLarge(to.host.clone(), limit) } else { broken(error) }
        })?;
        Ok(Answer { status: head.status, headers: head.headers, body: body.to_bytes(), whole: true })
    };
    // In one task, so that the connection ends with whoever waits for the answer.
    let connection = async move {
        let _ = connection.await;
        std::future::pending::<Infallible>().await
    };
    tokio::select! {
        answer = exchange => answer,
        never = connection => match never {},
    }
}

/// The first bytes of a body, and whether that is all of it.
async fn first(mut body: hyper::body::Incoming, limit: usize) -> Result<(Bytes, bool), hyper::Error> {
    let mut taken = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        let room = limit - taken.len();
        taken.extend_from_slice(&data[..data.len().min(room)]);
        if data.len() > room {
            return Ok((taken.freeze(), false));
        }
    }
    Ok((taken.freeze(), true))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn only_protected_addresses_are_taken() {
        let good = Destination::parse("https://Auth.Example.org:8443/a/b?c=d").unwrap();
        assert_eq!(
            (good.host(), good.port, good.path.as_str(), good.tls),
            ("auth.example.org", 8443, "/a/b?c=d", true)
        );
        assert_eq!(Destination::parse("https://example.org").unwrap().path, "/");
        for local in ["http://localhost:1/", "http://127.0.0.1/x", "http://[::1]:9/"] {
            assert!(!Destination::parse(local).unwrap().is_tls(), "{local}");
        }
        for bad in [
            "http://example.org/",
            "http://127.0.0.1.example.org/",
            "http://localhost@example.org/",
            "https://user:pass@example.org/",
            "https://example.org/#x",
            "https://example.org:/",
            "https://exa mple.org/",
            "ftp://example.org/",
            "/relative",
            "example.org",
            "https:///path",
            "",
        ] {
            assert!(Destination::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let one = Destination::parse("https://example.org/a").unwrap();
        assert!(one.same_origin(&Destination::parse("https://EXAMPLE.org:443/b").unwrap()));
        assert!(!one.same_origin(&Destination::parse("https://example.org:444/a").unwrap()));
    }

    #[test]
    fn a_redirect_leads_where_a_browser_would_go() {
        let from = Destination::parse("https://a.example:8443/x/y?z=1").unwrap();
        for (location, to) in [
            ("https://b.example/q", "https://b.example/q"),
            ("http://b.example", "http://b.example/"),
            ("//b.example/q", "https://b.example/q"),
            ("/q?r#s", "https://a.example:8443/q?r"),
            ("q", "https://a.example:8443/x/q"),
            ("?q", "https://a.example:8443/x/y?q"),
            ("", "https://a.example:8443/x/y?z=1"),
        ] {
            assert_eq!(from.join(location).unwrap().to_string(), to, "{location}");
        }
        for bad in ["javascript:alert(1)", "ftp://b.example/", "https://u@b.example/", "https:///"] {
            assert!(from.join(bad).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_long_answer_is_cut_for_one_who_wants_its_beginning() {
        let outbound = Outbound::new().unwrap();
        for (limit, body, whole) in [(10, "1234567890", false), (11, "12345678901", true)] {
            let (to, _task) = server("HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n12345678901").await;
            let bounds = Bounds { deadline: Duration::from_secs(5), limit, cut: true, addresses: None };
            let answer = outbound.send_within(&to, get(), bounds).await.unwrap();
            assert_eq!((&answer.body[..], answer.whole), (body.as_bytes(), whole));
        }
    }

    #[tokio::test]
    async fn a_given_address_is_not_looked_up() {
        let (local, task) = server("HTTP/1.1 204 No Content\r\n\r\n").await;
        let to = Destination::parse_any(&format!("http://nowhere.invalid:{}/", local.port)).unwrap();
        let addresses = [SocketAddr::from(([127, 0, 0, 1], local.port))];
        let bounds = Bounds { deadline: Duration::from_secs(5), limit: 1, cut: false, addresses: Some(&addresses) };
        assert_eq!(Outbound::new().unwrap().send_within(&to, get(), bounds).await.unwrap().status, 204);
        assert!(task.await.unwrap().contains(&format!("host: nowhere.invalid:{}\r\n", local.port)));
    }

    /// Answers one request with `reply`, and gives what was asked.
    async fn server(reply: &'static str) -> (Destination, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = Destination::parse(&format!("http://{}/p?q=1", listener.local_addr().unwrap())).unwrap();
        let task = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = vec![0; 4_096];
            let read = stream.read(&mut asked).await.unwrap();
            stream.write_all(reply.as_bytes()).await.unwrap();
            if reply.is_empty() {
                tokio::time::sleep(Duration::from_mins(1)).await;
            }
            String::from_utf8_lossy(&asked[..read]).into_owned()
        });
        (to, task)
    }

    fn get() -> Message {
        Message { method: Method::GET, headers: HeaderMap::new(), body: Bytes::new() }
    }

    #[tokio::test]
    async fn a_redirect_is_an_answer() {
        let (to, task) =
            server("HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 2\r\n\r\nhi").await;
        let answer = Outbound::new().unwrap().send(&to, get(), Duration::from_secs(5), 10).await.unwrap();
        assert_eq!((answer.status.as_u16(), &answer.body[..]), (302, b"hi".as_slice()));
        let asked = task.await.unwrap();
        assert!(asked.starts_with("GET /p?q=1 HTTP/1.1\r\n"), "{asked}");
        assert!(asked.contains(&format!("host: 127.0.0.1:{}\r\n", to.port)), "{asked}");
    }

    #[tokio::test]
    async fn answers_have_limits() {
        let outbound = Outbound::new().unwrap();
        for reply in [
            "HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n12345678901",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nb\r\n12345678901\r\n0\r\n\r\n",
        ] {
            let (to, _task) = server(reply).await;
            let refused = outbound.send(&to, get(), Duration::from_secs(5), 10).await.unwrap_err();
            assert!(matches!(refused, OutboundError::TooLarge(..)), "{refused:?}");
        }
        let (to, task) = server("").await;
        let refused = outbound.send(&to, get(), Duration::from_millis(50), 10).await.unwrap_err();
        assert!(matches!(refused, OutboundError::Timeout { .. }), "{refused:?}");
        task.abort();
        let (to, _task) = server("nonsense\r\n\r\n").await;
        let refused = outbound.send(&to, get(), Duration::from_secs(5), 10).await.unwrap_err();
        assert!(matches!(refused, OutboundError::Broken(..)) && !refused.is_unsent(), "{refused:?}");
    }

    #[tokio::test]
    async fn a_stranger_s_certificate_is_refused() {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(crate::tls::provider().clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = Destination::parse(&format!("https://localhost:{}/", listener.local_addr().unwrap().port())).unwrap();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    let mut asked = vec![0; 4_096];
                    let _ = stream.read(&mut asked).await;
                    let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
                }
            }
        });
        let refused = Outbound::new().unwrap().send(&to, get(), Duration::from_secs(5), 10).await.unwrap_err();
        assert!(refused.is_unsent(), "{refused:?}");
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let trusting = Outbound::trusting(roots).unwrap();
        let answer = trusting.send(&to, get(), Duration::from_secs(5), 10).await.unwrap();
        assert_eq!(answer.status.as_u16(), 204);
        task.abort();
    }
}
