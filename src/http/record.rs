//! What is remembered of a request until its response has ended, and then written to the access log and counted.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use http::header::{REFERER, USER_AGENT};
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, Uri, Version};
use http_body::{Frame, SizeHint};

use super::edge::Served;
use super::registry::Connection;
use super::router::{Mount, Place};
use super::{Body, Context, User};
use crate::error::BoxError;
use crate::id::RequestId;
use crate::telemetry::AccessLine;

/// The status that NGINX made usual in logs for a client that left before it was answered.
const CLIENT_CLOSED_REQUEST: StatusCode = match StatusCode::from_u16(499) {
    Ok(status) => status,
    Err(_) => StatusCode::BAD_REQUEST,
};

/// What is remembered of a request; dropped when the request has ended.
pub(super) struct Record {
    served: Arc<Served>,
    connection: Arc<Connection>,
    mount: Option<Place>,
    received: Instant,
    time: SystemTime,
    method: Method,
    uri: Uri,
    version: Version,
    referer: Option<HeaderValue>,
    agent: Option<HeaderValue>,
    id: RequestId,
    client: IpAddr,
    host: Arc<str>,
    secure: bool,
    user: Option<Arc<str>>,
    status: StatusCode,
    bytes: u64,
    complete: bool,
}

impl Record {
    pub(super) fn new(
        served: Arc<Served>,
        connection: Arc<Connection>,
        parts: &Parts,
        received: Instant,
        time: SystemTime,
    ) -> Self {
        Self {
            served,
            mount: None,
            received,
            time,
            method: parts.method.clone(),
            uri: parts.uri.clone(),
            version: parts.version,
            referer: parts.headers.get(REFERER).cloned(),
            agent: parts.headers.get(USER_AGENT).cloned(),
            id: RequestId::NONE,
            client: connection.peer.address,
            host: Arc::default(),
            secure: connection.peer.secure,
            // What the log shows when the client goes away before there is a response.
            status: CLIENT_CLOSED_REQUEST,
            bytes: 0,
            complete: false,
            user: None,
            connection,
        }
    }

    pub(super) fn note(&mut self, context: &Context) {
        self.id = context.id;
        self.client = context.client;
        self.host = context.host.clone();
        self.secure = context.secure;
    }

    pub(super) fn mounted(&mut self, place: Place) {
        self.served.router.mount(place).metrics.started();
        self.mount = Some(place);
    }

    /// What was served when the request came.
    pub(super) fn served(&self) -> &Arc<Served> {
        &self.served
    }

    /// The mount that answers, if one does.
    pub(super) fn mount(&self) -> Option<&Mount> {
        self.mount.map(|place| self.served.router.mount(place))
    }

    pub(super) fn answered(&mut self, status: StatusCode, user: Option<User>) {
        self.status = status;
        self.user = user.map(|user| user.0);
    }

    pub(super) fn version(&self) -> Version {
        self.version
    }

    pub(super) fn is_head(&self) -> bool {
        self.method == Method::HEAD
    }
}

impl Drop for Record {
    /// However the request ended, it is counted, logged, and no longer in flight.
    fn drop(&mut self) {
        let (bytes, complete) = (self.bytes, self.complete);
        let duration = self.received.elapsed();
        let status = self.status.as_u16();
        let mount = if let Some(mount) = self.mount() {
            mount.metrics.ended(status, duration, bytes);
            &*mount.name
        } else {
            self.served.unrouted.started();
            self.served.unrouted.ended(status, duration, bytes);
            ""
        };
        let target = self.uri.path_and_query().map_or("", |target| target.as_str());
        self.served.access.write(&AccessLine {
            time: self.time,
            client: self.client,
            method: self.method.as_str(),
            host: &self.host,
            target,
            version: self.version,
            status,
            bytes,
            duration,
            request_id: self.id.as_str(),
            user: self.user.as_deref(),
            referer: self.referer.as_ref().map(HeaderValue::as_bytes),
            user_agent: self.agent.as_ref().map(HeaderValue::as_bytes),
            mount,
            secure: self.secure,
            complete,
        });
        self.connection.watch.end();
    }
}

/// A response's body that tells when it has ended, one way or the other.
pub struct Tracked {
    body: Body,
    record: Box<Record>,
    /// Whether there is more for the client than it has taken.
    owed: bool,
}

impl Tracked {
    pub(super) fn new(body: Body, mut record: Box<Record>) -> Self {
        // The bodies of HEAD, 204 and 304 are dropped unread, and an empty one is not asked for.
        let unread = record.is_head()
            || matches!(record.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
            || record.status.is_informational();
        record.complete = unread || http_body::Body::is_end_stream(&body);
        let mut tracked = Self { owed: false, body, record };
        // With no window open, HTTP/2 does not even ask for the first piece.
        tracked.owe(!tracked.record.complete);
        tracked
    }
}

impl Tracked {
    fn owe(&mut self, more: bool) {
        if self.owed != more {
            self.owed = more;
            self.record.connection.watch.owes(more);
        }
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.owe(false);
    }
}

impl http_body::Body for Tracked {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        // The last piece is owed too: HTTP/2 keeps the body until the client's window has taken it.
        this.owe(matches!(polled, Poll::Ready(Some(Ok(_)))));
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                this.record.bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
                this.record.complete = http_body::Body::is_end_stream(&this.body);
            }
            Poll::Ready(None) => this.record.complete = true,
            _ => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        http_body::Body::is_end_stream(&self.body)
    }

    fn size_hint(&self) -> SizeHint {
        http_body::Body::size_hint(&self.body)
    }
}
