//! A request that has passed the ingress.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::error::BoxError;
use crate::id::RequestId;

/// A request that has passed the ingress: its host, path and sender are known and well formed.
pub struct Request {
    /// Method, target, version and headers as they came, without hop-by-hop headers.
    pub parts: http::request::Parts,
    /// The body, under the mount's limits.
    pub body: RequestBody,
    /// What the ingress found out.
    pub context: Context,
}

/// What the ingress knows of a request.
#[derive(Clone, Debug)]
pub struct Context {
    /// Identifies the request in logs and in the response.
    pub id: RequestId,
    /// Whose request it is: the connection's peer, or who a trusted proxy says it is.
    pub client: IpAddr,
    /// Whether the client's connection is encrypted (here, or at a trusted proxy).
    pub secure: bool,
    /// The host asked for: lower case, without port and trailing dot; an IPv6 address keeps its brackets.
    pub host: Arc<str>,
    /// The path, decoded once, free of dot segments, empty segments other than a last one, NUL, backslash and encoded
    /// slashes. Starts with a slash.
    pub path: Arc<str>,
    /// How many bytes of `path` the mount's prefix takes.
    pub mounted: usize,
    /// Who is asking, once somebody has found out.
    pub user: Option<Arc<str>>,
}

impl Context {
    /// What is known of a request that was refused.
    #[must_use]
    pub fn refused(id: RequestId, client: IpAddr) -> Self {
        Self { id, client, secure: false, host: Arc::default(), path: Arc::default(), mounted: 0, user: None }
    }

    /// The path below the mount, without a leading slash.
    #[must_use]
    pub fn rest(&self) -> &str {
        self.path.get(self.mounted..).unwrap_or_default().trim_start_matches('/')
    }
}

/// The body of a request.
pub struct RequestBody(Inner);

enum Inner {
    Empty,
    Limited(Pin<Box<dyn http_body::Body<Data = Bytes, Error = BoxError> + Send>>),
}

impl RequestBody {
    /// A request without a body.
    #[must_use]
    pub fn empty() -> Self {
        Self(Inner::Empty)
    }

    /// A body under limits.
    pub fn limited(body: impl http_body::Body<Data = Bytes, Error = BoxError> + Send + 'static) -> Self {
        Self(Inner::Limited(Box::pin(body)))
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.0 {
            Inner::Empty => Poll::Ready(None),
            Inner::Limited(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Empty => true,
            Inner::Limited(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Empty => SizeHint::with_exact(0),
            Inner::Limited(body) => body.size_hint(),
        }
    }
}
