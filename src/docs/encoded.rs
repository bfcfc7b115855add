//! A response made once: bytes, their compressed forms, and a strong ETag for each.

use std::io::{Read, Write};

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    IF_NONE_MATCH, VARY,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use sha2::{Digest, Sha256};

use crate::http::{Body, Response};

/// What pages may do: show themselves, and load what is beside them. Scripts come from files only.
pub const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self'; \
     connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'",
);
/// Asked again each time, answered with 304 if nothing has changed.
pub const REVALIDATE: HeaderValue = HeaderValue::from_static("no-cache");
/// For addresses that hold a hash of their content.
pub const IMMUTABLE: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");

/// Below this a compressed form saves less than its headers cost, in bytes.
const MIN_COMPRESSED: usize = 512;

/// A response body in all its forms.
#[derive(Debug)]
pub struct Encoded {
    status: StatusCode,
    kind: HeaderValue,
    cache: HeaderValue,
    hash: String,
    plain: Form,
    gzip: Option<Form>,
    brotli: Option<Form>,
}

#[derive(Debug)]
struct Form {
    bytes: Bytes,
    tag: HeaderValue,
}

impl Encoded {
    /// Compresses and hashes `bytes`. `quality` is brotli's: 4 is quick, 9 and more is for what lives long.
    pub fn new(
        status: StatusCode,
        kind: &'static str,
        cache: HeaderValue,
        bytes: impl Into<Bytes>,
        quality: u32,
    ) -> Self {
        let bytes = bytes.into();
        let hash = hash(&bytes);
        let (gzip, brotli) = if bytes.len() < MIN_COMPRESSED {
            (None, None)
        } else {
            (smaller(&bytes, gzip(&bytes)), smaller(&bytes, brotli(&bytes, quality)))
        };
        Self {
            status,
            kind: HeaderValue::from_static(kind),
            cache,
            plain: Form::new(bytes, &hash, ""),
            gzip: gzip.map(|bytes| Form::new(bytes, &hash, "-gzip")),
            brotli: brotli.map(|bytes| Form::new(bytes, &hash, "-br")),
            hash,
        }
    }

    /// Lets go of the uncompressed bytes; the few clients that want them get them from the compressed ones. For large
    /// sites, where they would be most of the memory.
    #[must_use]
    pub fn compact(mut self) -> Self {
        if self.gzip.is_some() {
            self.plain.bytes = Bytes::new();
        }
        self
    }

    /// The uncompressed bytes.
    pub fn bytes(&self) -> Bytes {
        match &self.gzip {
            Some(gzip) if self.plain.bytes.is_empty() => gunzip(&gzip.bytes),
            _ => self.plain.bytes.clone(),
        }
    }

    /// The response to a GET or HEAD with these headers.
    pub fn response(&self, request: &HeaderMap) -> Response {
        let accepted = |coding| accepts(request, coding);
        let (form, coding) = match (&self.brotli, &self.gzip) {
            (Some(form), _) if accepted("br") => (form, Some("br")),
            (_, Some(form)) if accepted("gzip") => (form, Some("gzip")),
            _ => (&self.plain, None),
        };
        let bytes = if coding.is_some() { form.bytes.clone() } else { self.bytes() };
        let length = bytes.len();
        let unchanged = self.status == StatusCode::OK && matches(request, &self.hash);
        let mut response = Response::new(if unchanged { Body::Empty } else { Body::from(bytes) });
        *response.status_mut() = if unchanged { StatusCode::NOT_MODIFIED } else { self.status };
        let headers = response.headers_mut();
        headers.insert(ETAG, form.tag.clone());
        headers.insert(CACHE_CONTROL, self.cache.clone());
        headers.insert(CONTENT_SECURITY_POLICY, POLICY);
        if self.brotli.is_some() || self.gzip.is_some() {
            headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
        }
        if !unchanged {
            headers.insert(CONTENT_TYPE, self.kind.clone());
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
            if let Some(coding) = coding {
                headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding));
            }
        }
        response
    }
}

impl Form {
    fn new(bytes: Bytes, hash: &str, suffix: &str) -> Self {
        // A hash in hexadecimal is always a valid header value.
        let tag = HeaderValue::try_from(format!("\"{hash}{suffix}\"")).unwrap_or(HeaderValue::from_static("\"\""));
        Self { bytes, tag }
    }
}

/// The first 128 bits of a SHA-256, in hexadecimal.
pub fn hash(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(bytes).iter().take(16).fold(String::with_capacity(32), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// Whether If-None-Match names one of the forms of `hash`, by weak comparison (RFC 9110, section 13.1.2).
pub fn matches(request: &HeaderMap, hash: &str) -> bool {
    request.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok()).any(|value| {
        value.split(',').map(str::trim).any(|tag| {
            let tag = tag.strip_prefix("W/").unwrap_or(tag).trim_matches('"');
            tag == "*" || tag.split_once('-').map_or(tag, |(hash, _)| hash) == hash
        })
    })
}

/// Whether a client takes a content coding (RFC 9110, section 12.5.3): named, or by `*`, and not with a weight of 0.
fn accepts(request: &HeaderMap, coding: &str) -> bool {
    let mut any = false;
    for value in request.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok()) {
        for item in value.split(',') {
            let (name, weight) = item.split_once(';').unwrap_or((item, ""));
            let refused = weight
                .trim()
                .strip_prefix("q=")
                .is_some_and(|weight| weight.trim().parse::<f32>().is_ok_and(|weight| weight <= 0.0));
            match name.trim() {
                name if name.eq_ignore_ascii_case(coding) => return !refused,
                "*" => any = !refused,
                _ => {}
            }
        }
    }
    any
}

fn smaller(bytes: &Bytes, compressed: Option<Vec<u8>>) -> Option<Bytes> {
    compressed.filter(|compressed| compressed.len() < bytes.len()).map(|mut compressed| {
        compressed.shrink_to_fit();
        compressed.into()
    })
}

fn gzip(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(7));
    encoder.write_all(bytes).ok()?;
    encoder.finish().ok()
}

/// Undoes [`gzip`].
fn gunzip(bytes: &[u8]) -> Bytes {
    let mut out = Vec::new();
    // What we compressed ourselves decompresses.
    let _ = flate2::read::GzDecoder::new(bytes).read_to_end(&mut out);
    out.into()
}

fn brotli(bytes: &[u8], quality: u32) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    // A window as large as the content: a larger one only costs memory to clear.
    let window = (bytes.len().ilog2() + 1).clamp(10, 22);
    let mut writer = brotli::CompressorWriter::new(&mut out, 16 << 10, quality, window);
    writer.write_all(bytes).ok()?;
    drop(writer);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> Encoded {
        let text = "Beacon serves. ".repeat(200);
        Encoded::new(StatusCode::OK, "text/html; charset=utf-8", REVALIDATE, text, 9)
    }

    fn ask(page: &Encoded, headers: &[(http::HeaderName, &str)]) -> (Response, Vec<u8>) {
        let map = headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
        let mut response = page.response(&map);
        let body = match std::mem::take(response.body_mut()) {
            Body::Full(bytes) => bytes.to_vec(),
            _ => Vec::new(),
        };
        (response, body)
    }

    #[test]
    fn each_coding_decodes_to_the_same() {
        let page = page();
        let (response, body) = ask(&page, &[(ACCEPT_ENCODING, "gzip, deflate, br, zstd")]);
        assert_eq!(
            (&response.headers()[CONTENT_ENCODING], &response.headers()[VARY]),
            (&"br".parse().unwrap(), &"accept-encoding".parse().unwrap())
        );
        let mut out = Vec::new();
        brotli::Decompressor::new(&body[..], 4096).read_to_end(&mut out).unwrap();
        assert_eq!(out[..], page.bytes()[..]);
        let (response, body) = ask(&page, &[(ACCEPT_ENCODING, "br;q=0, gzip")]);
        assert_eq!(response.headers()[CONTENT_ENCODING], "gzip");
        out.clear();
        flate2::read::GzDecoder::new(&body[..]).read_to_end(&mut out).unwrap();
        assert_eq!(out[..], page.bytes()[..]);
        let (response, body) = ask(&page, &[]);
        assert!(!response.headers().contains_key(CONTENT_ENCODING));
        assert_eq!(body[..], page.bytes()[..]);
        assert_eq!(response.headers()[CONTENT_LENGTH], body.len().to_string().as_str());
    }

    #[test]
    fn a_compact_page_is_the_same_to_everybody() {
        let (page, compact) = (page(), page().compact());
        assert!(compact.plain.bytes.is_empty());
        for coding in ["br", "gzip", "identity"] {
            let (one, other) = (ask(&page, &[(ACCEPT_ENCODING, coding)]), ask(&compact, &[(ACCEPT_ENCODING, coding)]));
            assert_eq!(one.0.headers(), other.0.headers());
            assert_eq!(one.1, other.1);
        }
        assert_eq!(page.bytes(), compact.bytes());
    }

    #[test]
    fn a_client_that_has_it_gets_304_and_each_form_has_its_own_tag() {
        let page = page();
        let (brotli, _) = ask(&page, &[(ACCEPT_ENCODING, "br")]);
        let (plain, _) = ask(&page, &[]);
        assert_ne!(brotli.headers()[ETAG], plain.headers()[ETAG]);
        let tag = brotli.headers()[ETAG].to_str().unwrap().to_owned();
        for value in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}"), "*".into()] {
            let (response, body) = ask(&page, &[(ACCEPT_ENCODING, "br"), (IF_NONE_MATCH, &value)]);
            assert_eq!(response.status(), StatusCode::NOT_MODIFIED, "{value}");
            assert!(body.is_empty() && response.headers()[ETAG] == tag.as_str());
        }
        let (response, _) = ask(&page, &[(IF_NONE_MATCH, "\"other\"")]);
        assert_eq!(response.status(), StatusCode::OK);
    }

    #[test]
    fn a_refused_coding_is_not_sent() {
        let with = |value: &str| HeaderMap::from_iter([(ACCEPT_ENCODING, value.parse().unwrap())]);
        assert!(accepts(&with("gzip, br;q=0.5"), "br") && accepts(&with("*"), "br") && accepts(&with("BR"), "br"));
        assert!(
            !accepts(&with("gzip"), "br") && !accepts(&with("br;q=0, *"), "br") && !accepts(&with("*;q=0.0"), "br")
        );
        assert!(!accepts(&HeaderMap::new(), "gzip"));
    }
}
