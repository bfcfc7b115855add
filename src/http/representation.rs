//! From a representation to a response: conditions, ranges, 200, 206, 304, 412 and 416.

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH,
    IF_UNMODIFIED_SINCE, RANGE,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, request::Parts};
use tokio::sync::Semaphore;

use super::conditional::{Verdict, judge, range_applies};
use super::file::{FileStream, Piece};
use super::range::{Pieces, pieces};
use super::{Body, Response};
use crate::clock::now_seconds;
use crate::id::RequestId;

/// Where the bytes of a representation come from.
pub enum Source<'a> {
    /// Memory.
    Memory(&'a Bytes),
    /// A file of this size, whose chunks are read under a gate.
    File(&'a Arc<File>, u64, &'a Arc<Semaphore>),
}

/// A selected representation.
pub struct Representation<'a> {
    /// Headers of a 200.
    pub head: &'a HeaderMap,
    /// The entity tag, quoted.
    pub etag: &'a HeaderValue,
    /// Last modification in seconds since 1970.
    pub modified: u64,
    /// The bytes.
    pub source: Source<'a>,
}

impl Source<'_> {
    fn size(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File(_, size, _) => *size,
        }
    }

    fn whole(&self) -> Body {
        match self {
            Self::Memory(bytes) => Body::from((*bytes).clone()),
            Self::File(_, 0, _) => Body::Empty,
            Self::File(file, size, gate) => {
                Body::stream(FileStream::new(Arc::clone(file), [Piece::File(0..*size)], gate))
            }
        }
    }

    fn one(&self, range: &Range<u64>) -> Body {
        match self {
            Self::Memory(bytes) => Body::from(bytes.slice(range.start as usize..range.end as usize)),
            Self::File(file, _, gate) => {
                Body::stream(FileStream::new(Arc::clone(file), [Piece::File(range.clone())], gate))
            }
        }
    }

    fn many(&self, parts: Vec<(Bytes, Range<u64>)>, end: Bytes) -> Body {
        match self {
            Self::Memory(bytes) => {
                let mut out = Vec::new();
                for (head, range) in parts {
                    out.extend_from_slice(&head);
                    out.extend_from_slice(&bytes[range.start as usize..range.end as usize]);
                }
                out.extend_from_slice(&end);
                Body::from(out)
            }
            Self::File(file, _, gate) => {
                let pieces = parts
                    .into_iter()
                    .flat_map(|(head, range)| [Piece::Memory(head), Piece::File(range)])
                    .chain([Piece::Memory(end)]);
                Body::stream(FileStream::new(Arc::clone(file), pieces, gate))
            }
        }
    }
}

/// What a request for a representation comes to, before its bytes are fetched.
pub enum Decision {
    /// The answer needs no bytes: 304, 412, 416.
    Done(Response),
    /// 200 with everything.
    Whole,
    /// 206 with one piece, for [`partial`].
    One(Range<u64>),
    /// 206 with several pieces.
    Many(Vec<Range<u64>>),
}

/// Applies conditions and Range (RFC 9110, sections 13 and 14) to a representation with these headers, strong entity
/// tag (quoted), time of last modification in seconds since 1970, and size in bytes.
pub fn decide(request: &Parts, head: &HeaderMap, etag: &HeaderValue, modified: u64, size: u64) -> Decision {
    let headers = &request.headers;
    let conditional = [IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE];
    if conditional.iter().any(|name| headers.contains_key(name)) {
        match judge(headers, etag.as_bytes(), modified) {
            Verdict::Proceed => {}
            Verdict::NotModified => return Decision::Done(without_content(head, StatusCode::NOT_MODIFIED)),
            Verdict::Failed => return Decision::Done(without_content(head, StatusCode::PRECONDITION_FAILED)),
        }
    }
    // Range means something for GET only (RFC 9110 section 14.2).
    if request.method == Method::GET
        && headers.contains_key(RANGE)
        && range_applies(headers, etag.as_bytes(), modified, now_seconds())
    {
        return match pieces(headers, size) {
            Pieces::Whole => Decision::Whole,
            Pieces::Unsatisfiable => Decision::Done(unsatisfiable(head, size)),
            Pieces::One(range) => Decision::One(range),
            Pieces::Many(ranges) => Decision::Many(ranges),
        };
    }
    Decision::Whole
}

/// Answers a GET or HEAD with a representation.
pub fn answer(request: &Parts, chosen: &Representation<'_>) -> Response {
    match decide(request, chosen.head, chosen.etag, chosen.modified, chosen.source.size()) {
        Decision::Done(response) => response,
        Decision::Whole => response(StatusCode::OK, chosen.head.clone(), chosen.source.whole()),
        Decision::One(range) => partial(chosen.head, &range, chosen.source.size(), chosen.source.one(&range)),
        Decision::Many(ranges) => many(chosen, ranges),
    }
}

/// 206 with one piece of a representation of `size` bytes.
#[must_use]
pub fn partial(head: &HeaderMap, range: &Range<u64>, size: u64, body: Body) -> Response {
    let mut head = head.clone();
    head.insert(CONTENT_RANGE, value(content_range(range, size)));
    response(StatusCode::PARTIAL_CONTENT, head, body)
}

fn response(status: StatusCode, head: HeaderMap, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = head;
    response
}

fn without_content(head: &HeaderMap, status: StatusCode) -> Response {
    let mut head = head.clone();
    for name in [CONTENT_TYPE, CONTENT_ENCODING, ACCEPT_RANGES] {
        head.remove(name);
    }
    response(status, head, Body::Empty)
}

fn unsatisfiable(head: &HeaderMap, size: u64) -> Response {
    let mut response = without_content(head, StatusCode::RANGE_NOT_SATISFIABLE);
    response.headers_mut().insert(CONTENT_RANGE, value(format!("bytes */{size}")));
    response
}

fn many(chosen: &Representation<'_>, ranges: Vec<Range<u64>>) -> Response {
    // The boundary holds 80 random bits, so no file contains it.
    let boundary = RequestId::new();
    let content_type =
        chosen.head.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("application/octet-stream");
    let size = chosen.source.size();
    let parts = ranges
        .into_iter()
        .map(|range| {
            let head = format!(
                "\r\n--{boundary}\r\ncontent-type: {content_type}\r\ncontent-range: {}\r\n\r\n",
                content_range(&range, size)
            );
            (Bytes::from(head), range)
        })
        .collect();
    let body = chosen.source.many(parts, Bytes::from(format!("\r\n--{boundary}--\r\n")));
    let mut head = chosen.head.clone();
    head.insert(CONTENT_TYPE, value(format!("multipart/byteranges; boundary={boundary}")));
    response(StatusCode::PARTIAL_CONTENT, head, body)
}

fn content_range(range: &Range<u64>, size: u64) -> String {
    format!("bytes {}-{}/{size}", range.start, range.end - 1)
}

fn value(text: String) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}
