//! The connections to S3: HTTP/1.1 over our own TLS, as many at once as is said, with a deadline on silence.
//!
//! Answers that are not successes become errors here, with the code that S3 gives them, because the crate above keeps
//! that in texts alone. The deadline is one of silence and not of the whole: a large part over a slow line is no fault.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{HeaderValue, USER_AGENT};
use http::{Method, Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector as Plain;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse, HttpResponseBody,
    HttpService,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

use super::errors::{Fault, Loss};
use crate::error::BoxError;

/// The host that gives credentials to an EC2 instance. It answers at once or is not there.
const INSTANCE: &str = "169.254.169.254";
/// How long that host has.
const INSTANCE_DEADLINE: Duration = Duration::from_secs(3);
/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a connection is kept that nobody uses; S3 closes its side after about 20 s.
const IDLE: Duration = Duration::from_secs(15);
/// The longest answer that says what is wrong, and the longest that is read whole, in bytes.
const LONGEST_ANSWER: usize = 1024 * 1024;
/// Bytes that are given to a connection at once, so that its progress is seen.
const PIECE: usize = 64 * 1024;
/// Stores of the system's authorities, the first that is there counts.
const SYSTEM: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// What makes requests. Clones share the connections.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    client: Client<HttpsConnector<Plain>, Sending>,
    slots: Arc<Semaphore>,
    silence: Duration,
}

impl Connector {
    /// `silence`: how long nothing may move; `connections`: how many at once.
    pub(super) fn new(silence: Duration, connections: u32) -> Result<Self, rustls::Error> {
        let mut roots = RootCertStore::empty();
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        if let Some(path) = SYSTEM.iter().map(Path::new).find(|path| path.is_file())
            && let Ok(found) = CertificateDer::pem_file_iter(path)
        {
            // A store may have a certificate that we cannot read; the rest of it counts.
            roots.add_parsable_certificates(found.filter_map(Result::ok));
        }
        let tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut plain = Plain::new();
        plain.set_nodelay(true);
        plain.set_connect_timeout(Some(CONNECT));
        plain.enforce_http(false);
        // Plain HTTP is for endpoints that say so and for the instance's credentials; no redirect is ever followed.
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(plain);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(connector);
        Ok(Self { client, slots: Arc::new(Semaphore::new(connections.max(1) as usize)), silence })
    }

    /// The same as the crate wants it.
    pub(super) fn client(&self) -> HttpClient {
        HttpClient::new(self.clone())
    }

    async fn exchange(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let instance = request.uri().host() == Some(INSTANCE);
        let loss = |what: Loss| lost(what.of(instance));
        let silence = if instance { INSTANCE_DEADLINE.min(self.silence) } else { self.silence };
        let slot = match tokio::time::timeout(silence, Arc::clone(&self.slots).acquire_owned()).await {
            Ok(slot) => slot.map_err(|error| loss(Loss::unreachable(error.into())))?,
            Err(_) => return Err(loss(Loss::crowded(silence))),
        };
        let read_whole = may_fail_late(&request);
        let (mut head, body) = request.into_parts();
        head.headers.insert(USER_AGENT, HeaderValue::from_static(concat!("beacon/", env!("CARGO_PKG_VERSION"))));
        let progress = Progress::new();
        let sending = Sending { body, rest: Bytes::new(), progress: progress.clone() };
        let answer = self.client.request(Request::from_parts(head, sending));
        let answer = tokio::select! {
            answer = answer => answer.map_err(|error| loss(Loss::unreachable(error.into())))?,
            () = progress.stalled(silence) => return Err(loss(Loss::silent(silence))),
        };
        let (head, body) = answer.into_parts();
        let body = Receiving { body, silence, sleep: None, instance, _slot: slot };
        if head.status.is_success() && !read_whole {
            return Ok(Response::from_parts(head, HttpResponseBody::new(body)));
        }
        let text = match Limited::new(body, LONGEST_ANSWER).collect().await {
            Ok(text) => text.to_bytes(),
            // The status counts, whatever becomes of the words.
            Err(_) if !head.status.is_success() => Bytes::new(),
            Err(error) => return Err(loss(Loss::broken(error))),
        };
        match Fault::read(head.status, &text) {
            Some(fault) => Err(HttpError::new(HttpErrorKind::Unknown, fault.of(instance))),
            None => Ok(Response::from_parts(head, HttpResponseBody::from(text))),
        }
    }
}

/// Whether S3 may answer 200 and say only in the body that it failed: it does for what takes long.
fn may_fail_late(request: &HttpRequest) -> bool {
    (request.method() == Method::POST && request.uri().query().is_some())
        || request.headers().contains_key("x-amz-copy-source")
}

fn lost(loss: Loss) -> HttpError {
    HttpError::new(HttpErrorKind::Unknown, loss)
}

impl HttpService for Connector {
    fn call<'life0, 'async_trait>(
        &'life0 self,
        request: HttpRequest,
    ) -> BoxFuture<'async_trait, Result<HttpResponse, HttpError>>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(self.exchange(request))
    }
}

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(self.client())
    }
}

/// When something moved last.
#[derive(Clone, Debug)]
struct Progress(Arc<(Instant, AtomicU64)>);

impl Progress {
    fn new() -> Self {
        Self(Arc::new((Instant::now(), AtomicU64::new(0))))
    }

    fn made(&self) {
        self.0.1.store(self.0.0.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// Returns when nothing has moved for `silence`.
    async fn stalled(&self, silence: Duration) {
        loop {
            let deadline = self.0.0 + Duration::from_millis(self.0.1.load(Ordering::Relaxed)) + silence;
            if Instant::now() >= deadline {
                return;
            }
            tokio::time::sleep_until(deadline.into()).await;
        }
    }
}

/// A body on its way to S3.
#[derive(Debug)]
struct Sending {
    body: HttpRequestBody,
    rest: Bytes,
    progress: Progress,
}

impl Body for Sending {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        self.progress.made();
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => self.rest = frame.into_data().unwrap_or_default(),
                other => return Poll::Ready(other),
            }
        }
        let length = self.rest.len().min(PIECE);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.body.size_hint().exact() {
            Some(length) => SizeHint::with_exact(length + self.rest.len() as u64),
            None => SizeHint::default(),
        }
    }
}

/// A body on its way from S3. It has its slot until it ends.
struct Receiving {
    body: Incoming,
    silence: Duration,
    /// Runs only while S3 is waited for, not while nobody asks.
    sleep: Option<Pin<Box<Sleep>>>,
    instance: bool,
    _slot: OwnedSemaphorePermit,
}

impl Body for Receiving {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let instance = self.instance;
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            self.sleep = None;
            let broken = |error: hyper::Error| lost(Loss::broken(BoxError::from(error)).of(instance));
            return Poll::Ready(frame.map(|frame| frame.map_err(broken)));
        }
        let silence = self.silence;
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(silence)));
        ready!(sleep.as_mut().poll(context));
        Poll::Ready(Some(Err(lost(Loss::silent(silence).of(instance)))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
