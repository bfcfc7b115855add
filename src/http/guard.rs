//! The I/O of one connection, under watch: what comes in passes the gate (HTTP/1.1) or the frame watch (HTTP/2), and
//! every wait is noted.
//!
//! When the gate refuses, or a head does not end in time, the guard answers by itself and closes: hyper has not seen a
//! request yet and would only close.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Limits;
use super::frames::Frames;
use super::gate::{Gate, Refusal};
use super::http1::Readable;
use super::registry::Connection;
use super::watch::{Expiry, Watch};
use crate::clock;

/// How much of HTTP/2's output is gathered before it is sent, in bytes: four full TLS records.
const BATCH: usize = 64 * 1024;
/// How much room for it a quiet connection keeps, in bytes.
const KEPT: usize = 4 * 1024;

/// A connection under watch.
pub struct Guard<T> {
    io: T,
    protocol: Protocol,
    limits: Limits,
    connection: Arc<Connection>,
    /// A refusal that waits until the requests before it are answered.
    pending: Option<Refusal>,
    /// The answer being written, and how much of it has been.
    answer: Option<(Vec<u8>, usize)>,
    /// What HTTP/2 has written and is not on its way yet. The protocol library writes and flushes frame by frame; sent
    /// together they take one system call and full TLS records.
    out: Vec<u8>,
    /// Whether some of it was handed to the socket or to TLS, and may wait there for a flush.
    handed_over: bool,
    /// How many requests had begun when all that hyper had to say was last written. hyper looks for more input before
    /// it writes its last answer, and ours must not overtake that one.
    flushed: u64,
    /// What hyper had read and not begun with when it was last put to rest.
    unread: Bytes,
}

enum Protocol {
    Http1(Gate),
    Http2(Frames),
}

impl<T> Guard<T> {
    /// Guards a connection that speaks HTTP/1.1 or, if `http2`, HTTP/2.
    pub fn new(io: T, http2: bool, limits: Limits, connection: Arc<Connection>) -> Self {
        let protocol = if http2 { Protocol::Http2(Frames::default()) } else { Protocol::Http1(Gate::default()) };
        Self {
            io,
            protocol,
            limits,
            connection,
            pending: None,
            answer: None,
            out: Vec::new(),
            handed_over: false,
            flushed: 0,
            unread: Bytes::new(),
        }
    }

    /// Takes back what was read and not begun with; it is given again with the next read.
    pub fn unread(&mut self, bytes: &[u8]) {
        // A copy: an empty piece of hyper's buffer would keep all of it.
        self.unread = Bytes::copy_from_slice(bytes);
    }

    /// Looks at what came in; cuts off what must not be seen.
    fn inspect(&mut self, buf: &mut ReadBuf<'_>, before: usize) -> io::Result<()> {
        let bytes = &buf.filled()[before..];
        match &mut self.protocol {
            Protocol::Http2(frames) => {
                frames.pass(bytes, clock::millis(), self.limits.h2_control_frames).map_err(|_| {
                    io::Error::new(io::ErrorKind::InvalidData, "the client floods the connection with control frames")
                })?;
                self.connection.watch.head(frames.in_partial_head());
            }
            Protocol::Http1(gate) => {
                if self.connection.watch.is_upgraded() {
                    gate.open();
                }
                match gate.pass(bytes, &self.limits) {
                    Ok(()) => self.connection.watch.head(gate.in_partial_head()),
                    Err(refusal) if refusal.in_head => {
                        self.connection.watch.head(false);
                        buf.set_filled(before + refusal.from);
                        self.pending = Some(refusal);
                    }
                    Err(refusal) => return Err(io::Error::new(io::ErrorKind::InvalidData, refusal.code)),
                }
            }
        }
        Ok(())
    }
}

impl<T: Readable> Guard<T> {
    /// Whether there may be something to read.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.io.poll_readable(cx)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Guard<T> {
    fn is_http2(&self) -> bool {
        matches!(self.protocol, Protocol::Http2(_))
    }

    /// Takes what fits of `buf`; nothing when the batch is full.
    fn gather(&mut self, buf: &[u8]) -> usize {
        let taken = buf.len().min(BATCH - self.out.len());
        self.out.extend_from_slice(&buf[..taken]);
        taken
    }

    /// Sends what was gathered.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut sent = 0;
        let result = loop {
            if sent == self.out.len() {
                break Poll::Ready(Ok(()));
            }
            let written = Pin::new(&mut self.io).poll_write(cx, &self.out[sent..]);
            note(&self.connection.watch, &written);
            self.handed_over = true;
            match written {
                Poll::Ready(Ok(0)) => break Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(bytes)) => sent += bytes,
                Poll::Ready(Err(error)) => break Poll::Ready(Err(error)),
                Poll::Pending => break Poll::Pending,
            }
        };
        if sent == self.out.len() && self.out.capacity() > KEPT {
            // A quiet connection keeps no large room.
            self.out = Vec::new();
        } else {
            self.out.drain(..sent);
        }
        result
    }

    /// Whether the answers to all requests before have been written: those too that hyper has read and not begun.
    fn may_answer(&self) -> bool {
        let passed = match &self.protocol {
            Protocol::Http1(gate) => gate.heads(),
            Protocol::Http2(_) => return false,
        };
        self.flushed == passed && self.connection.watch.is_quiet()
    }

    /// Reads on and forgets, for a moment, when the client is still sending what nobody wants: closing with unread input
    /// resets the connection, and a reset destroys the answer on its way (RFC 9112 section 9.6).
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let unread = self.answer.is_some() || matches!(&self.protocol, Protocol::Http1(gate) if gate.in_body());
        if !unread {
            return Poll::Ready(());
        }
        // The connection's timer ends this.
        self.connection.watch.linger();
        let mut scratch = [0; 8 * 1024];
        loop {
            let mut buf = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut self.io).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => {}
                _ => return Poll::Ready(()),
            }
        }
    }

    /// Writes the answer that ends the connection.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some((bytes, done)) = &mut self.answer {
            while *done < bytes.len() {
                let written = ready!(Pin::new(&mut self.io).poll_write(cx, &bytes[*done..]))?;
                if written == 0 {
                    break;
                }
                *done += written;
            }
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
            ready!(self.poll_linger(cx));
        }
        Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "the request was refused")))
    }
}

/// The whole response to a request that was refused before it was one.
fn answer(status: StatusCode, code: &str) -> Vec<u8> {
    let body = format!("{{\"code\":\"{code}\",\"message\":\"The request is not well formed, or beyond a limit.\"}}");
    format!(
        "HTTP/1.1 {} {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\ncache-control: no-store\r\n\
         x-content-type-options: nosniff\r\nconnection: close\r\n\r\n{body}",
        status.as_u16(),
        status.canonical_reason().unwrap_or("Error"),
        body.len(),
    )
    .into_bytes()
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Guard<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.answer.is_some() {
            return this.poll_answer(cx);
        }
        if let Some(refusal) = this.pending {
            if !this.may_answer() {
                // The connection reads again when it has answered what came before.
                this.connection.watch.waker.register(cx.waker());
                return Poll::Pending;
            }
            this.connection.watch.refuse(refusal.status);
            this.answer = Some((answer(refusal.status, refusal.code), 0));
            return this.poll_answer(cx);
        }
        if this.connection.watch.ending() == Some(Expiry::Head) {
            if this.may_answer() {
                this.connection.watch.refuse(StatusCode::REQUEST_TIMEOUT);
                this.answer = Some((answer(StatusCode::REQUEST_TIMEOUT, "header_timeout"), 0));
                return this.poll_answer(cx);
            }
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if !this.unread.is_empty() {
            buf.put_slice(&this.unread.split_to(this.unread.len().min(buf.remaining())));
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
        if buf.filled().len() == before {
            return Poll::Ready(Ok(()));
        }
        this.inspect(buf, before)?;
        if this.pending.is_some() && buf.filled().len() == before {
            // Nothing good came before the refused message; an empty read would mean the end of the stream.
            if this.may_answer() {
                return Pin::new(this).poll_read(cx, buf);
            }
            this.connection.watch.waker.register(cx.waker());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guard<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.is_http2() {
            if this.out.len() == BATCH {
                ready!(this.poll_send(cx))?;
            }
            return Poll::Ready(Ok(this.gather(buf)));
        }
        let result = Pin::new(&mut this.io).poll_write(cx, buf);
        note(&this.connection.watch, &result);
        result
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.is_http2() {
            if this.out.len() == BATCH {
                ready!(this.poll_send(cx))?;
            }
            return Poll::Ready(Ok(bufs.iter().map(|buf| this.gather(buf)).sum()));
        }
        let result = Pin::new(&mut this.io).poll_write_vectored(cx, bufs);
        note(&this.connection.watch, &result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.is_http2() {
            if !this.connection.watch.flushes_now() {
                // The connection's driver comes back for it when nobody has more to add.
                if !this.out.is_empty() || this.handed_over {
                    this.connection.watch.flush_later();
                }
                return Poll::Ready(Ok(()));
            }
            ready!(this.poll_send(cx))?;
        }
        let result = Pin::new(&mut this.io).poll_flush(cx);
        match &result {
            Poll::Pending => this.connection.watch.write_waits(),
            Poll::Ready(_) => {
                this.handed_over = false;
                this.connection.watch.flushed();
                if this.connection.watch.is_idle() {
                    this.flushed = this.connection.watch.served();
                    if this.pending.is_some() {
                        this.connection.watch.waker.wake();
                    }
                }
            }
        }
        result
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_send(cx))?;
        ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
        ready!(this.poll_linger(cx));
        Poll::Ready(Ok(()))
    }
}

fn note(watch: &Watch, result: &Poll<io::Result<usize>>) {
    match result {
        Poll::Pending => watch.write_waits(),
        Poll::Ready(Ok(bytes)) => watch.wrote(*bytes),
        Poll::Ready(Err(_)) => {}
    }
}
