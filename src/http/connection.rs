//! Drives one connection: hyper for its protocol, and one timer for every deadline.
//!
//! The protocol is known before (from ALPN, or HTTP/1.1 without TLS): hyper-util's way to find it out has no deadline.

use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::time::Duration;

use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until};

use super::guard::Guard;
use super::http1::{Http1, Readable};
use super::registry::{Connection, Peer, Stage};
use super::streams::{Newborn, Streams};
use super::watch::Expiry;
use super::{Edge, Limits, Timeouts};
use crate::clock;
use crate::error::BoxError;

/// How long a connection that is being closed may take for its last words, in milliseconds.
const LAST_WORDS: u64 = 1_000;
/// After how long without a request HTTP/1.1's buffers are given back, in milliseconds.
const REST: u64 = 100;

/// What serves one connection to its end.
pub type Serving = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Edge {
    /// Serves one connection to its end, as HTTP/2 or HTTP/1.1.
    ///
    /// No async function: it would keep room for every place where the connection's state is on its way into hyper,
    /// which was most of the memory of an open connection.
    pub fn serve<T>(&self, io: T, http2: bool, peer: Peer) -> Serving
    where
        T: AsyncRead + AsyncWrite + Readable + Unpin + Send + 'static,
    {
        let served = self.served();
        let (limits, waits) = (served.config.limits, served.config.timeouts);
        let (id, connection) = self.registry().insert(peer);
        let entry = Entry { edge: self.clone(), id, connection: connection.clone() };
        let guard = Guard::new(io, http2, limits, connection.clone());
        let (edge, shared) = (self.clone(), connection.clone());
        let service = service_fn(move |request| {
            let answer = edge.clone().respond(request, shared.clone());
            async move { Ok::<_, Infallible>(answer.await) }
        });
        if http2 {
            let newborn = Newborn::default();
            let serving = http2_builder(&limits, newborn.clone()).serve_connection(TokioIo::new(guard), service);
            Box::pin(drive(Box::pin(serving), connection, waits, Some(Streams::new(newborn)), entry))
        } else {
            let serving = Http1::new(guard, service, limits);
            Box::pin(drive(Box::pin(serving), connection, waits, None, entry))
        }
    }
}

/// Takes the connection out of the registry, however it ends, and counts what was refused on it.
struct Entry {
    edge: Edge,
    id: u64,
    connection: Arc<Connection>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.edge.registry().remove(self.id);
        if let Some(status) = self.connection.watch.refused() {
            self.edge.refused(&self.connection, status);
        }
    }
}

fn http2_builder(limits: &Limits, newborn: Newborn) -> hyper::server::conn::http2::Builder<Newborn> {
    let mut builder = hyper::server::conn::http2::Builder::new(newborn);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.h2_streams)
        // Twice the limit, so that what is a little too large gets a status and not a reset.
        .max_header_list_size((limits.header_bytes * 2) as u32)
        .initial_stream_window_size(256 * 1024)
        .initial_connection_window_size(1024 * 1024)
        .max_frame_size(16 * 1024)
        .max_send_buf_size(256 * 1024)
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(200);
    builder
}

/// A connection of hyper's, of either protocol.
pub trait Protocol: Future {
    /// Says the last words, and takes no new requests.
    fn graceful_shutdown(self: Pin<&mut Self>);

    /// Gives back what only a busy connection needs. To be called while nothing is going on.
    fn rest(self: Pin<&mut Self>) {}

    /// Whether [`Self::rest`] was called, and nothing has come since.
    fn is_resting(&self) -> bool {
        false
    }
}

impl<I, S> Protocol for hyper::server::conn::http2::Connection<I, S, Newborn>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    S: HttpService<hyper::body::Incoming>,
    S::Error: Into<BoxError>,
    S::ResBody: 'static,
    <S::ResBody as http_body::Body>::Error: Into<BoxError>,
    Newborn: hyper::rt::bounds::Http2ServerConnExec<S::Future, S::ResBody>,
{
    fn graceful_shutdown(self: Pin<&mut Self>) {
        hyper::server::conn::http2::Connection::graceful_shutdown(self);
    }
}

/// Runs `serving` until it ends, a deadline passes, or a stop closes it.
async fn drive(
    mut serving: Pin<Box<impl Protocol>>,
    connection: Arc<Connection>,
    waits: Timeouts,
    mut streams: Option<Streams>,
    _entry: Entry,
) {
    let http2 = streams.is_some();
    let watch = &connection.watch;
    let waits = &waits;
    watch.reads_on(http2);
    let mut armed = 0;
    let mut timer = pin!(sleep_until(Instant::now()));
    let mut told = false;
    // When a connection that is being closed is dropped.
    let mut last: Option<u64> = None;
    std::future::poll_fn(move |cx| {
        watch.waker.register(cx.waker());
        let stage = watch.stage.load(Relaxed);
        if stage >= Stage::Abort as u8 {
            return Poll::Ready(());
        }
        if !told && (stage >= Stage::Graceful as u8 || (http2 && stage >= Stage::LameDuck as u8)) {
            told = true;
            serving.as_mut().graceful_shutdown();
        }
        loop {
            if serving.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            // What the streams have answered is for the connection to write.
            if streams.as_mut().is_some_and(|streams| streams.run(cx)) {
                continue;
            }
            if !watch.flush_begins() {
                break;
            }
            let ended = serving.as_mut().poll(cx).is_ready();
            watch.flush_ended();
            if ended {
                return Poll::Ready(());
            }
            if !streams.as_mut().is_some_and(|streams| streams.run(cx)) {
                break;
            }
        }
        loop {
            let now = clock::millis();
            let due = match last {
                Some(at) if at <= now => {
                    // A request that crossed the goodbye on its way is still served.
                    let finished = watch.is_quiet() || watch.ending() == Some(Expiry::Head);
                    if finished || matches!(watch.due(now, waits), Err(Expiry::SlowRead)) {
                        return Poll::Ready(());
                    }
                    last = Some(now + LAST_WORDS);
                    continue;
                }
                Some(at) => at,
                None => match watch.due(now, waits) {
                    Ok(at) => match watch.quiet_since().map(|since| since + REST) {
                        Some(rest) if !http2 && !serving.is_resting() => {
                            if rest <= now {
                                serving.as_mut().rest();
                                // Asks to be told when there is something to read.
                                cx.waker().wake_by_ref();
                                return Poll::Pending;
                            }
                            at.min(rest)
                        }
                        _ => at,
                    },
                    Err(Expiry::SlowRead) => return Poll::Ready(()),
                    Err(why) => {
                        watch.end_with(why);
                        if why == Expiry::Idle || http2 {
                            serving.as_mut().graceful_shutdown();
                        }
                        last = Some(now + LAST_WORDS);
                        // The next turn says the last words, and flushes them.
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                },
            };
            // The timer stays as it is while it would fire early enough: most polls set nothing. One that has fired is set
            // anew even if our clock, which is coarser, has not come so far.
            if armed > now && armed <= due && !timer.is_elapsed() {
                return Poll::Pending;
            }
            armed = due;
            timer.as_mut().reset(Instant::now() + Duration::from_millis(due.saturating_sub(now).max(1)));
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    })
    .await;
}
