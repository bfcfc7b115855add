//! A request's body under limits: its size, and the rate at which the client sends it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep};

use super::{Problem, RequestBody, Timeouts};
use crate::error::BoxError;

/// Why a body was not read to its end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It is larger than allowed.
    #[error("the body is larger than {0} bytes")]
    TooLarge(u64),
    /// The client stalls, or sends more slowly than it may.
    #[error("the body comes too slowly")]
    TooSlow,
    /// The connection failed, or the body is malformed.
    #[error("the body could not be read")]
    Broken(#[source] BoxError),
}

impl BodyError {
    /// The answer to the client.
    #[must_use]
    pub fn problem(&self) -> Problem {
        match self {
            Self::TooLarge(most) => Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "body_too_large",
                format!("The request's body is larger than {most} bytes."),
                "Send less, or ask the operator to raise the limit.",
            ),
            Self::TooSlow => Problem::new(
                StatusCode::REQUEST_TIMEOUT,
                "body_timeout",
                "The request's body came too slowly.",
                "Try again over a better connection.",
            ),
            Self::Broken(_) => Problem::new(
                StatusCode::BAD_REQUEST,
                "bad_body",
                "The request's body is not well formed.",
                "Check how the client frames its body.",
            ),
        }
    }
}

/// A body that ends with an error when it passes a limit.
pub struct Limited {
    inner: Incoming,
    most: u64,
    seen: u64,
    stall: Duration,
    least: u64,
    /// Runs while the client is waited for: the end of the period, and the bytes since it began.
    window: Option<(Pin<Box<Sleep>>, u64)>,
}

impl Limited {
    /// Limits `inner` to `most` bytes and to the rate of `waits`.
    pub fn new(inner: Incoming, most: u64, waits: &Timeouts) -> Self {
        let least = (u128::from(waits.min_rate) * waits.stall.as_millis() / 1_000) as u64;
        Self { inner, most, seen: 0, stall: waits.stall, least: least.max(1), window: None }
    }
}

impl http_body::Body for Limited {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        match Pin::new(&mut this.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
                this.seen += bytes;
                if this.seen > this.most {
                    return Poll::Ready(Some(Err(BodyError::TooLarge(this.most).into())));
                }
                if let Some((_, since)) = &mut this.window {
                    *since += bytes;
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(BodyError::Broken(error.into()).into()))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                let stall = this.stall;
                let (timer, since) = this.window.get_or_insert_with(|| (Box::pin(sleep(stall)), 0));
                while timer.as_mut().poll(cx).is_ready() {
                    if *since < this.least {
                        return Poll::Ready(Some(Err(BodyError::TooSlow.into())));
                    }
                    *since = 0;
                    timer.as_mut().reset(Instant::now() + stall);
                }
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl RequestBody {
    /// Reads the whole body into memory; the mount's limits hold, and `most` bytes besides.
    ///
    /// # Errors
    /// Which limit was passed, or how the connection failed.
    pub async fn collect(mut self, most: u64) -> Result<Bytes, BodyError> {
        let mut first: Option<Bytes> = None;
        let mut all = BytesMut::new();
        while let Some(frame) = self.frame().await {
            let frame = frame.map_err(|error| match error.downcast::<BodyError>() {
                Ok(ours) => *ours,
                Err(other) => BodyError::Broken(other),
            })?;
            let Ok(data) = frame.into_data() else { continue };
            let have = first.as_ref().map_or(all.len(), Bytes::len);
            if (have + data.len()) as u64 > most {
                return Err(BodyError::TooLarge(most));
            }
            // Most bodies come in one piece, which need not be copied.
            if have == 0 {
                first = Some(data);
            } else {
                if let Some(first) = first.take() {
                    all.extend_from_slice(&first);
                }
                all.extend_from_slice(&data);
            }
        }
        Ok(first.unwrap_or_else(|| all.freeze()))
    }
}
