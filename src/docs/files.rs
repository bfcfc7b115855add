//! The other files of a documentation folder: images, downloads.

use std::io::{self, Read};
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body::{Frame, SizeHint};
use tokio::io::{AsyncRead, ReadBuf};

use super::encoded::{POLICY, REVALIDATE, hash, matches};
use super::source::{Entry, Source};
use super::tree::Tree;
use crate::error::BoxError;
use crate::http::{Body, Response};

/// A drawing opened by itself may style itself, and nothing else.
const DRAWING: HeaderValue =
    HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; sandbox");
/// Files up to this size are read at once, larger ones piece by piece, in bytes.
const PIECE: usize = 64 << 10;

/// The files of one edition.
pub struct Files {
    source: Source,
    files: Vec<(Entry, OnceLock<String>)>,
}

impl Files {
    /// The files of `tree`.
    pub fn new(source: &Source, tree: &Tree) -> Self {
        let files = tree.files.iter().map(|entry| (entry.clone(), OnceLock::new())).collect();
        Self { source: source.clone(), files }
    }

    /// The response for the file with index `at`, if it is still there.
    pub async fn response(&self, at: usize, request: &HeaderMap, body: bool) -> io::Result<Response> {
        let (entry, tag) = &self.files[at];
        if let Some(bytes) = self.source.embedded(&entry.path) {
            let tag = tag.get_or_init(|| hash(bytes));
            return Ok(response(request, entry, tag, bytes.len() as u64, Body::from(Bytes::from_static(bytes))));
        }
        let (source, path) = (self.source.clone(), entry.path.clone());
        let opened = tokio::task::spawn_blocking(move || {
            let (mut file, size) = source.open(&path)?;
            let stamp = file.metadata()?;
            let small = if body && size <= PIECE as u64 {
                let mut bytes = Vec::with_capacity(size as usize);
                file.by_ref().take(size).read_to_end(&mut bytes)?;
                Some(bytes)
            } else {
                None
            };
            Ok::<_, io::Error>((file, size, stamp, small))
        });
        let (file, size, stamp, small) = opened.await.map_err(io::Error::other)??;
        // Of the open file, not of the scan: a file that changed since must not answer with an old tag.
        let modified = stamp.modified()?.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let tag = hash(format!("{}:{size}:{}", entry.path, modified.as_nanos()).as_bytes());
        let body = match small {
            Some(bytes) if bytes.len() as u64 == size => Body::from(bytes),
            Some(_) => return Err(io::ErrorKind::UnexpectedEof.into()),
            None if body => {
                let mut file = tokio::fs::File::from_std(file);
                file.set_max_buf_size(PIECE);
                Body::stream(Pieces { file, left: size })
            }
            None => Body::Empty,
        };
        Ok(response(request, entry, &tag, size, body))
    }
}

fn response(request: &HeaderMap, entry: &Entry, tag: &str, size: u64, body: Body) -> Response {
    let kind = content_type(&entry.path);
    let policy = if kind == "image/svg+xml" { DRAWING } else { POLICY };
    let unchanged = matches(request, tag);
    let mut response = Response::new(if unchanged { Body::Empty } else { body });
    let headers = response.headers_mut();
    if let Ok(tag) = HeaderValue::try_from(format!("\"{tag}\"")) {
        headers.insert(ETAG, tag);
    }
    headers.insert(CACHE_CONTROL, REVALIDATE);
    headers.insert(CONTENT_SECURITY_POLICY, policy);
    if unchanged {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    } else {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(size));
        if let Ok(kind) = HeaderValue::try_from(kind) {
            headers.insert(CONTENT_TYPE, kind);
        }
    }
    response
}

/// The type by the name's extension; text is UTF-8.
fn content_type(path: &str) -> String {
    let kind = mime_guess::from_path(path).first_or_octet_stream();
    if kind.type_() == mime_guess::mime::TEXT { format!("{kind}; charset=utf-8") } else { kind.to_string() }
}

/// A file, sent piece by piece.
struct Pieces {
    file: tokio::fs::File,
    left: u64,
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let mut piece = BytesMut::zeroed((self.left as usize).min(PIECE));
        let mut buffer = ReadBuf::new(&mut piece);
        if let Err(error) = ready!(Pin::new(&mut self.file).poll_read(cx, &mut buffer)) {
            return Poll::Ready(Some(Err(error.into())));
        }
        let filled = buffer.filled().len();
        if filled == 0 {
            // Shorter than its announced length: the client must learn that this is not all.
            return Poll::Ready(Some(Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())));
        }
        self.left -= filled as u64;
        piece.truncate(filled);
        Poll::Ready(Some(Ok(Frame::data(piece.freeze()))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
