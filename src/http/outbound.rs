//! Requests that Beacon makes itself, to addresses that the operator configured: identity providers and hooks.
//!
//! Few and small: each has a connection of its own, one deadline over everything, and a limit on the answer. A redirect
//! is an answer like any other and is never followed, so that nobody can send Beacon elsewhere. Plain HTTP goes to this
//! very machine only, because what is sent are secrets.

use std::convert::Infallible;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
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
    /// The body, whole.
    pub body: Bytes,
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
            "http" if is_loopback(&host) => false,
            "http" => return Err("is not https, and not on this machine"),
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
        match tokio::time::timeout(deadline, self.exchange(to, message, limit)).await {
            Ok(result) => result,
            Err(_) => Err(OutboundError::Timeout { host: to.host.clone(), deadline }),
        }
    }

    async fn exchange(&self, to: &Destination, message: Message, limit: usize) -> Result<Answer, OutboundError> {
        let unreachable = |error| OutboundError::Unreachable(to.host.clone(), error);
        let stream = TcpStream::connect((to.host.as_str(), to.port)).await.map_err(unreachable)?;
        let _ = stream.set_nodelay(true);
        if !to.tls {
            return speak(stream, to, message, limit).await;
        }
        let name = ServerName::try_from(to.host.clone()).map_err(|error| unreachable(std::io::Error::other(error)))?;
        let stream = self.tls.connect(name, stream).await.map_err(unreachable)?;
        speak(stream, to, message, limit).await
    }
}

async fn speak<S>(stream: S, to: &Destination, message: Message, limit: usize) -> Result<Answer, OutboundError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
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
        if hyper::body::Body::size_hint(&body).lower() > limit as u64 {
            return Err(OutboundError::TooLarge(to.host.clone(), limit));
        }
        let body = Limited::new(body, limit).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() { OutboundError::TooLarge(to.host.clone(), limit) } else { broken(error) }
        })?;
        Ok(Answer { status: head.status, headers: head.headers, body: body.to_bytes() })
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
