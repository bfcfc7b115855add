//! Compression of responses as they go out, for those that no handler compressed.
//!
//! Streams keep flowing: whenever the source pauses, what it gave so far is flushed to the client. How many responses
//! are compressed at a time is bounded, because an encoder takes up to a few megabytes; beyond that they go out as they
//! are.

use std::io::{self, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, VARY,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body::{Frame, SizeHint};

use super::accept_encoding::{AcceptEncoding, Encoding};
use super::{Body, Compression, Response};
use crate::error::BoxError;

/// The most responses compressed at a time.
const MOST: usize = 256;
/// How much is compressed before the thread is given back, in bytes.
const PIECE: usize = 32 * 1024;
/// How much may go by without output before others on the thread come first, in bytes.
const PAUSE: usize = 128 * 1024;

/// Compresses responses.
pub struct Compressor {
    enabled: bool,
    min_bytes: u64,
    busy: Arc<AtomicUsize>,
}

impl Compressor {
    /// A compressor as configured.
    #[must_use]
    pub fn new(config: &Compression) -> Self {
        Self { enabled: config.enabled, min_bytes: config.min_bytes, busy: Arc::default() }
    }

    /// Compresses `response` if it is text, whole, not compressed yet, and the client takes it.
    #[must_use]
    pub fn apply(&self, mut response: Response, accepts: AcceptEncoding, head: bool) -> Response {
        if !self.enabled || !self.fits(&response) {
            return response;
        }
        vary(response.headers_mut());
        let Some(encoding) = accepts.best(|_| true) else { return response };
        let Some(seat) = self.seat() else { return response };
        let headers = response.headers_mut();
        headers.insert(CONTENT_ENCODING, encoding.value());
        headers.remove(CONTENT_LENGTH);
        headers.remove(ACCEPT_RANGES);
        weaken(headers);
        if head {
            return response.map(|_| Body::Empty);
        }
        response.map(|body| {
            Body::stream(Compressed {
                body,
                encoder: Some(Encoder::new(encoding)),
                rest: None,
                unflushed: false,
                since_pause: 0,
                _seat: seat,
            })
        })
    }

    fn fits(&self, response: &Response) -> bool {
        let headers = response.headers();
        response.status() != StatusCode::NO_CONTENT
            && response.status() != StatusCode::NOT_MODIFIED
            && response.status() != StatusCode::PARTIAL_CONTENT
            && !response.status().is_informational()
            && !headers.contains_key(CONTENT_ENCODING)
            && !headers.contains_key(CONTENT_RANGE)
            && response.body().len().is_none_or(|length| length >= self.min_bytes.max(1))
            && headers.get(CONTENT_TYPE).is_some_and(|value| is_text(value.as_bytes()))
            && headers
                .get(CACHE_CONTROL)
                .is_none_or(|value| memchr::memmem::find(value.as_bytes(), b"no-transform").is_none())
    }

    fn seat(&self) -> Option<Seat> {
        if self.busy.fetch_add(1, Relaxed) >= MOST {
            self.busy.fetch_sub(1, Relaxed);
            return None;
        }
        Some(Seat(self.busy.clone()))
    }
}

/// Whether a content type is worth compressing.
#[must_use]
pub fn is_text(content_type: &[u8]) -> bool {
    let name = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let name = name.to_ascii_lowercase();
    name.starts_with(b"text/")
        || name.ends_with(b"+json")
        || name.ends_with(b"+xml")
        || matches!(
            &name[..],
            b"application/json"
                | b"application/javascript"
                | b"application/xml"
                | b"application/wasm"
                | b"application/manifest+json"
                | b"application/x-ndjson"
                | b"application/vnd.ms-fontobject"
                | b"font/ttf"
                | b"font/otf"
                | b"image/bmp"
                | b"image/x-icon"
                | b"image/vnd.microsoft.icon"
        )
}

/// Says that the response depends on Accept-Encoding.
fn vary(headers: &mut HeaderMap) {
    let said = headers.get_all(VARY).iter().any(|value| {
        value
            .as_bytes()
            .split(|byte| *byte == b',')
            .any(|name| name.trim_ascii() == b"*" || name.trim_ascii().eq_ignore_ascii_case(b"accept-encoding"))
    });
    if !said {
        headers.append(VARY, HeaderValue::from_static("accept-encoding"));
    }
}

/// A compressed form is another representation: a strong tag would be wrong for it (RFC 9110 section 8.8.1).
fn weaken(headers: &mut HeaderMap) {
    if let Some(tag) = headers.get(ETAG)
        && !tag.as_bytes().starts_with(b"W/")
        && let Ok(weak) = HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat())
    {
        headers.insert(ETAG, weak);
    }
}

/// One of the responses being compressed.
struct Seat(Arc<AtomicUsize>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

enum Encoder {
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    Gzip(flate2::write::GzEncoder<Vec<u8>>),
}

impl Encoder {
    fn new(encoding: Encoding) -> Self {
        let gzip = || Self::Gzip(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6)));
        match encoding {
            Encoding::Brotli => Self::Brotli(Box::new(brotli::CompressorWriter::new(Vec::new(), 4_096, 4, 18))),
            Encoding::Zstd => zstd::stream::write::Encoder::new(Vec::new(), 3).map_or_else(|_| gzip(), Self::Zstd),
            Encoding::Gzip => gzip(),
        }
    }

    fn writer(&mut self) -> &mut dyn Write {
        match self {
            Self::Brotli(encoder) => encoder,
            Self::Zstd(encoder) => encoder,
            Self::Gzip(encoder) => encoder,
        }
    }

    /// What has come out so far.
    fn take(&mut self) -> Vec<u8> {
        match self {
            Self::Brotli(encoder) => std::mem::take(encoder.get_mut()),
            Self::Zstd(encoder) => std::mem::take(encoder.get_mut()),
            Self::Gzip(encoder) => std::mem::take(encoder.get_mut()),
        }
    }

    fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Brotli(encoder) => Ok(encoder.into_inner()),
            Self::Zstd(encoder) => encoder.finish(),
            Self::Gzip(encoder) => encoder.finish(),
        }
    }
}

struct Compressed {
    body: Body,
    encoder: Option<Encoder>,
    /// Taken from the body and not compressed yet.
    rest: Option<Bytes>,
    /// Whether the encoder may hold something back.
    unflushed: bool,
    /// Compressed since the thread was last given back, in bytes.
    since_pause: usize,
    _seat: Seat,
}

impl http_body::Body for Compressed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        while let Some(encoder) = &mut this.encoder {
            let data = match this.rest.take() {
                Some(data) => data,
                None => match Pin::new(&mut this.body).poll_frame(cx) {
                    Poll::Ready(Some(frame)) => match frame?.into_data() {
                        Ok(data) => data,
                        Err(_) => continue,
                    },
                    Poll::Ready(None) => {
                        let last = this.encoder.take().map(Encoder::finish).transpose()?.unwrap_or_default();
                        return Poll::Ready((!last.is_empty()).then(|| Ok(Frame::data(Bytes::from(last)))));
                    }
                    Poll::Pending if this.unflushed => {
                        this.unflushed = false;
                        encoder.writer().flush()?;
                        let out = encoder.take();
                        if out.is_empty() {
                            return Poll::Pending;
                        }
                        return Poll::Ready(Some(Ok(Frame::data(Bytes::from(out)))));
                    }
                    Poll::Pending => return Poll::Pending,
                },
            };
            let mut data = data;
            let piece = data.len().min(PIECE);
            encoder.writer().write_all(&data[..piece])?;
            this.unflushed = true;
            data.advance(piece);
            this.rest = (!data.is_empty()).then_some(data);
            let out = encoder.take();
            if !out.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(Bytes::from(out)))));
            }
            this.since_pause += piece;
            if this.since_pause >= PAUSE {
                // Others on this thread come first for a moment.
                this.since_pause = 0;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.encoder.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;
    use std::io::Read as _;

    fn accepts(text: &'static str) -> AcceptEncoding {
        let mut headers = HeaderMap::new();
        headers.insert(http::header::ACCEPT_ENCODING, HeaderValue::from_static(text));
        AcceptEncoding::of(&headers)
    }

    fn page(body: Body) -> Response {
        http::Response::builder().header(CONTENT_TYPE, "text/html").header(ETAG, "\"x\"").body(body).unwrap()
    }

    async fn body(response: Response) -> Vec<u8> {
        response.into_body().collect().await.unwrap().to_bytes().to_vec()
    }

    #[tokio::test]
    async fn every_coding_reads_back() {
        let text: String = "line of text, then another one\n".repeat(20_000);
        let compressor = Compressor::new(&Compression::default());
        for coding in ["br", "zstd", "gzip"] {
            let response = compressor.apply(page(Body::from(text.clone())), accepts(coding), false);
            assert_eq!(response.headers()[CONTENT_ENCODING], coding);
            assert_eq!(response.headers()[ETAG], "W/\"x\"");
            let bytes = body(response).await;
            assert!(bytes.len() < text.len() / 3, "{coding}: {}", bytes.len());
            let mut out = String::new();
            match coding {
                "br" => brotli::Decompressor::new(&bytes[..], 4_096).read_to_string(&mut out).unwrap(),
                "zstd" => zstd::stream::read::Decoder::new(&bytes[..]).unwrap().read_to_string(&mut out).unwrap(),
                _ => flate2::read::GzDecoder::new(&bytes[..]).read_to_string(&mut out).unwrap(),
            };
            assert_eq!(out, text);
        }
        assert_eq!(compressor.busy.load(Relaxed), 0, "every seat is given back");
    }

    #[tokio::test]
    async fn what_should_not_be_compressed_is_left_alone() {
        let compressor = Compressor::new(&Compression::default());
        let large = || Body::from(vec![b'x'; 4_096]);
        let unchanged = [
            page(Body::from("small")),
            http::Response::builder().header(CONTENT_TYPE, "image/png").body(large()).unwrap(),
            http::Response::builder().body(large()).unwrap(),
            http::Response::builder().status(206).header(CONTENT_TYPE, "text/css").body(large()).unwrap(),
            http::Response::builder()
                .header(CONTENT_TYPE, "text/css")
                .header(CACHE_CONTROL, "no-transform")
                .body(large())
                .unwrap(),
        ];
        for response in unchanged {
            let before = response.body().len();
            let after = compressor.apply(response, accepts("gzip"), false);
            assert!(!after.headers().contains_key(CONTENT_ENCODING));
            assert_eq!(after.body().len(), before);
        }
        let plain = compressor.apply(page(large()), accepts("identity"), false);
        assert_eq!(plain.headers()[VARY], "accept-encoding", "caches must know all the same");
    }

    #[tokio::test]
    async fn a_stream_that_pauses_is_flushed() {
        struct Source(tokio::sync::mpsc::UnboundedReceiver<Bytes>);
        impl http_body::Body for Source {
            type Data = Bytes;
            type Error = BoxError;
            fn poll_frame(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
            ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
                self.0.poll_recv(cx).map(|data| data.map(|data| Ok(Frame::data(data))))
            }
        }
        let compressor = Compressor::new(&Compression::default());
        for coding in ["br", "zstd", "gzip"] {
            // The sender stays, so that the stream pauses and does not end.
            let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
            sender.send(Bytes::from_static(b"event: hello\n\n")).unwrap();
            let mut response = compressor.apply(page(Body::stream(Source(receiver))), accepts(coding), false);
            let frame = response.body_mut().frame().await.unwrap().unwrap();
            assert!(!frame.into_data().unwrap().is_empty(), "{coding}");
        }
    }
}
