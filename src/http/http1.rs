//! An HTTP/1.1 connection, which gives its buffers back while nothing comes.
//!
//! hyper keeps two buffers of 8 KiB for as long as its connection lives. Most connections wait for their next request
//! most of the time: those are taken from hyper until there is something to read.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::server::conn::http1::UpgradeableConnection;
use hyper::service::HttpService;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Limits;
use super::connection::Protocol;
use super::guard::Guard;
use super::record::Tracked;

/// A connection that can tell when there is something to read, without reading it.
pub trait Readable {
    /// Whether there may be something to read.
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()>;
}

impl Readable for crate::net::Stream {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_read_ready(cx)
    }
}

impl<T: Readable> Readable for tokio_rustls::server::TlsStream<T> {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.get_ref().0.poll_readable(cx)
    }
}

/// An HTTP/1.1 connection.
pub struct Http1<T, S>
where
    S: HttpService<hyper::body::Incoming>,
{
    limits: Limits,
    state: State<T, S>,
}

#[expect(clippy::large_enum_variant, reason = "a connection that rests, as most do, takes no more room than it needs")]
enum State<T, S>
where
    S: HttpService<hyper::body::Incoming>,
{
    Busy(Box<UpgradeableConnection<TokioIo<Guard<T>>, S>>),
    Resting(Guard<T>, S),
    Ended,
}

impl<T, S> Http1<T, S>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: HttpService<hyper::body::Incoming, ResBody = Tracked, Error = Infallible> + Unpin,
{
    /// Serves what comes over `guard`.
    pub fn new(guard: Guard<T>, service: S, limits: Limits) -> Self {
        let mut serving = Self { limits, state: State::Resting(guard, service) };
        // The first request may have come with the handshake, and wait in the TLS session.
        serving.wake();
        serving
    }

    fn wake(&mut self) {
        self.state = match std::mem::replace(&mut self.state, State::Ended) {
            State::Resting(guard, service) => {
                let builder = http1_builder(&self.limits);
                State::Busy(Box::new(builder.serve_connection(TokioIo::new(guard), service).with_upgrades()))
            }
            other => other,
        };
    }
}

impl<T, S> Future for Http1<T, S>
where
    T: AsyncRead + AsyncWrite + Readable + Unpin + Send + 'static,
    S: HttpService<hyper::body::Incoming, ResBody = Tracked, Error = Infallible> + Unpin,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        if let State::Resting(guard, _) = &this.state
            && guard.poll_readable(cx).is_ready()
        {
            this.wake();
        }
        match &mut this.state {
            // However it ended: the guard has said what there was to say.
            State::Busy(serving) => Pin::new(serving).poll(cx).map(drop),
            State::Resting(..) => Poll::Pending,
            State::Ended => Poll::Ready(()),
        }
    }
}

impl<T, S> Protocol for Http1<T, S>
where
    T: AsyncRead + AsyncWrite + Readable + Unpin + Send + 'static,
    S: HttpService<hyper::body::Incoming, ResBody = Tracked, Error = Infallible> + Unpin,
{
    fn graceful_shutdown(self: Pin<&mut Self>) {
        let this = self.get_mut();
        this.wake();
        if let State::Busy(serving) = &mut this.state {
            Pin::new(&mut **serving).graceful_shutdown();
        }
    }

    fn rest(self: Pin<&mut Self>) {
        let this = self.get_mut();
        this.state = match std::mem::replace(&mut this.state, State::Ended) {
            State::Busy(serving) => match serving.into_parts() {
                Some(parts) => {
                    let mut guard = parts.io.into_inner();
                    guard.unread(&parts.read_buf);
                    State::Resting(guard, parts.service)
                }
                None => State::Ended,
            },
            other => other,
        };
    }

    fn is_resting(&self) -> bool {
        matches!(self.state, State::Resting(..))
    }
}

fn http1_builder(limits: &Limits) -> hyper::server::conn::http1::Builder {
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .keep_alive(true)
        .half_close(false)
        .header_read_timeout(None)
        // The gate answers first; hyper's own limits stand a little behind it. This one bounds what is written ahead too.
        .max_buf_size(limits.header_bytes.max(8_192) + 8_192);
    // Up to its own limit of 100, hyper reads headers without an allocation.
    if limits.header_count > 100 {
        builder.max_headers(limits.header_count + 1);
    }
    builder
}
