//! Reads the framing of HTTP/1.1 requests a second time, strictly, before hyper sees them.
//!
//! hyper is lenient where a server on the internet must not be: it drops a Content-Length beside a Transfer-Encoding,
//! takes bare line feeds, and joins equal Content-Lengths, each of which two parties may understand differently
//! (request smuggling). The gate looks at the same bytes, keeps track of where each message ends, and refuses the
//! connection at the first byte that is ambiguous. What it lets pass has one meaning (RFC 9112 sections 2.2, 5, 6, 7).

use http::StatusCode;
use memchr::memchr;

use super::Limits;

/// Follows the requests on one connection.
pub struct Gate {
    phase: Phase,
    /// The part of a head that has come so far, when it did not come at once.
    partial: Vec<u8>,
    /// How much of `partial` has been looked at.
    scanned: usize,
    head: Head,
    /// Heads that passed.
    heads: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Head,
    Length(u64),
    Chunked(Chunk),
    /// After an upgrade: no longer HTTP.
    Through,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chunk {
    /// In the hexadecimal size: value and digits so far.
    Size(u64, u8),
    /// In a chunk extension: bytes so far.
    Extension(u64, u16),
    SizeEnd(u64),
    Data(u64),
    DataCr,
    DataLf,
    /// In a trailer line: bytes in this line, bytes in all.
    Trailer(u16, u16),
    TrailerLf(u16, u16),
}

/// What has been seen of the current head.
#[derive(Clone, Copy, Default)]
struct Head {
    lines: usize,
    headers: usize,
    http10: bool,
    length: Option<u64>,
    chunked: bool,
}

/// Why a connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status of the answer.
    pub status: StatusCode,
    /// A stable name, and what is wrong.
    pub code: &'static str,
    /// Where in the given bytes the refused message begins, as far as it is in them: what stands before it is good.
    pub from: usize,
    /// Whether it is a message's head; otherwise its request is being handled already.
    pub in_head: bool,
}

/// The longest chunk extension that is passed over, in bytes.
const MAX_EXTENSION: u16 = 256;
/// The longest trailer section, in bytes.
const MAX_TRAILER: u16 = 8_192;

impl Default for Gate {
    fn default() -> Self {
        Self { phase: Phase::Head, partial: Vec::new(), scanned: 0, head: Head::default(), heads: 0 }
    }
}

impl Gate {
    /// Whether a head has begun and not ended.
    pub fn in_partial_head(&self) -> bool {
        // An empty line before a request line is not the beginning of one.
        !matches!(&self.partial[..], b"" | b"\r" | b"\r\n")
    }

    /// Whether a body has begun and not ended.
    pub fn in_body(&self) -> bool {
        matches!(self.phase, Phase::Length(_) | Phase::Chunked(_))
    }

    /// How many heads have passed.
    pub fn heads(&self) -> u64 {
        self.heads
    }

    /// Stops looking: the connection speaks another protocol from here.
    pub fn open(&mut self) {
        self.phase = Phase::Through;
    }

    /// Looks at the next bytes of the connection.
    ///
    /// # Errors
    /// The first ambiguity or limit passed. The connection must not be read any further.
    pub fn pass(&mut self, bytes: &[u8], limits: &Limits) -> Result<(), Refusal> {
        let mut at = 0;
        while at < bytes.len() {
            match self.phase {
                Phase::Through => return Ok(()),
                Phase::Head => {
                    at += self.pass_head(&bytes[at..], limits).map_err(|(status, code)| Refusal {
                        status,
                        code,
                        from: at,
                        in_head: true,
                    })?;
                }
                Phase::Length(left) => {
                    let taken = left.min((bytes.len() - at) as u64);
                    at += taken as usize;
                    self.phase = if taken == left { Phase::Head } else { Phase::Length(left - taken) };
                }
                Phase::Chunked(chunk) => {
                    let (used, next) = pass_chunk(chunk, &bytes[at..]).map_err(|code| Refusal {
                        status: StatusCode::BAD_REQUEST,
                        code,
                        from: at,
                        in_head: false,
                    })?;
                    at += used;
                    self.phase = next.map_or(Phase::Head, Phase::Chunked);
                }
            }
        }
        Ok(())
    }

    /// Takes bytes of a head, and says how many: all of them, or up to the head's end.
    fn pass_head(&mut self, bytes: &[u8], limits: &Limits) -> Result<usize, (StatusCode, &'static str)> {
        if self.partial.is_empty() {
            let (scanned, ended) = self.head.scan(bytes, 0, 0, limits)?;
            if ended {
                self.finish_head()?;
                return Ok(scanned);
            }
            if bytes.len() > limits.header_bytes {
                return Err(too_large(&self.head));
            }
            self.partial.extend_from_slice(bytes);
            self.scanned = scanned;
            return Ok(bytes.len());
        }
        let before = self.partial.len();
        // One byte more than the limit tells that it was passed.
        let taken = bytes.len().min((limits.header_bytes + 1).saturating_sub(before));
        self.partial.extend_from_slice(&bytes[..taken]);
        let mut head = self.head;
        let (scanned, ended) = head.scan(&self.partial, self.scanned, before, limits)?;
        self.head = head;
        self.scanned = scanned;
        if ended {
            self.finish_head()?;
            self.partial = Vec::new();
            self.scanned = 0;
            return Ok(scanned - before);
        }
        if self.partial.len() > limits.header_bytes {
            return Err(too_large(&self.head));
        }
        Ok(taken)
    }

    fn finish_head(&mut self) -> Result<(), (StatusCode, &'static str)> {
        let head = std::mem::take(&mut self.head);
        self.phase = match (head.chunked, head.length) {
            (true, Some(_)) => return Err((StatusCode::BAD_REQUEST, "content_length_with_transfer_encoding")),
            (true, None) if head.http10 => return Err((StatusCode::BAD_REQUEST, "transfer_encoding_in_http_1_0")),
            (true, None) => Phase::Chunked(Chunk::Size(0, 0)),
            (false, None | Some(0)) => Phase::Head,
            (false, Some(length)) => Phase::Length(length),
        };
        self.heads += 1;
        Ok(())
    }
}

fn too_large(head: &Head) -> (StatusCode, &'static str) {
    if head.lines == 0 {
        (StatusCode::URI_TOO_LONG, "uri_too_long")
    } else {
        (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "headers_too_large")
    }
}

impl Head {
    /// Looks at whole lines from `at`, where no line ends before `seen`; gives where the next line starts, and whether
    /// the head has ended there.
    fn scan(
        &mut self,
        bytes: &[u8],
        mut at: usize,
        seen: usize,
        limits: &Limits,
    ) -> Result<(usize, bool), (StatusCode, &'static str)> {
        while let Some(found) = memchr(b'\n', &bytes[at.max(seen)..]) {
            let end = at.max(seen) + found;
            if end == at || bytes[end - 1] != b'\r' {
                return Err((StatusCode::BAD_REQUEST, "bare_line_feed"));
            }
            let line = &bytes[at..end - 1];
            at = end + 1;
            if at > limits.header_bytes {
                return Err(too_large(self));
            }
            if line.is_empty() {
                if self.lines > 0 {
                    return Ok((at, true));
                }
                // RFC 9112 section 2.2: at least one empty line before a request line is to be ignored.
                if at > 2 {
                    return Err((StatusCode::BAD_REQUEST, "empty_lines"));
                }
                continue;
            }
            self.lines += 1;
            if self.lines == 1 { self.request_line(line, limits)? } else { self.header(line, limits)? }
        }
        Ok((at, false))
    }

    fn request_line(&mut self, line: &[u8], limits: &Limits) -> Result<(), (StatusCode, &'static str)> {
        let bad = (StatusCode::BAD_REQUEST, "bad_request_line");
        let first = memchr(b' ', line).ok_or(bad)?;
        let last = memchr::memrchr(b' ', line).ok_or(bad)?;
        // A third space too: two parties may cut the line at different ones (RFC 9112 section 3).
        if first == last
            || memchr(b' ', &line[first + 1..last]).is_some()
            || line.iter().any(|byte| *byte < b' ' || *byte == 0x7f)
        {
            return Err(bad);
        }
        let target = &line[first + 1..last];
        let split = memchr(b'?', target).unwrap_or(target.len());
        let (path, query) = target.split_at(split);
        // What hyper does not take would end the connection without a word (RFC 9112 section 3.2 wants a 400).
        if path.iter().any(|byte| matches!(byte, b'<' | b'>' | b'`'))
            || query.iter().any(|byte| matches!(byte, b'"' | b'<' | b'>'))
        {
            return Err((StatusCode::BAD_REQUEST, "unescaped_target"));
        }
        if last - first - 1 > limits.uri_bytes {
            return Err((StatusCode::URI_TOO_LONG, "uri_too_long"));
        }
        match &line[last + 1..] {
            b"HTTP/1.1" => Ok(()),
            b"HTTP/1.0" => {
                self.http10 = true;
                Ok(())
            }
            other if other.starts_with(b"HTTP/") => {
                Err((StatusCode::HTTP_VERSION_NOT_SUPPORTED, "http_version_not_supported"))
            }
            _ => Err(bad),
        }
    }

    fn header(&mut self, line: &[u8], limits: &Limits) -> Result<(), (StatusCode, &'static str)> {
        let bad = (StatusCode::BAD_REQUEST, "bad_header");
        self.headers += 1;
        if self.headers > limits.header_count {
            return Err((StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "too_many_headers"));
        }
        if matches!(line[0], b' ' | b'\t') {
            return Err((StatusCode::BAD_REQUEST, "folded_header"));
        }
        let colon = memchr(b':', line).ok_or(bad)?;
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
            return Err(bad);
        }
        if value.iter().any(|byte| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f) {
            return Err(bad);
        }
        if name.eq_ignore_ascii_case(b"content-length") {
            if self.length.is_some() {
                return Err((StatusCode::BAD_REQUEST, "repeated_content_length"));
            }
            self.length = Some(parse_length(value).ok_or((StatusCode::BAD_REQUEST, "bad_content_length"))?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.chunked || !trim(value).eq_ignore_ascii_case(b"chunked") {
                return Err((StatusCode::NOT_IMPLEMENTED, "transfer_encoding_not_implemented"));
            }
            self.chunked = true;
        }
        Ok(())
    }
}

/// Digits alone: no sign, no list, no overflow.
fn parse_length(value: &[u8]) -> Option<u64> {
    let digits = trim(value);
    if digits.is_empty() || digits.len() > 19 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Without the white space that may surround a value: spaces and tabs, and no form feed (RFC 9110 section 5.5).
fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Takes bytes of a chunked body; gives how many, and what comes next: nothing after the last trailer.
fn pass_chunk(mut chunk: Chunk, bytes: &[u8]) -> Result<(usize, Option<Chunk>), &'static str> {
    const BAD: &str = "bad_chunk";
    let mut at = 0;
    while at < bytes.len() {
        if let Chunk::Data(left) = chunk {
            let taken = left.min((bytes.len() - at) as u64);
            at += taken as usize;
            chunk = if taken == left { Chunk::DataCr } else { Chunk::Data(left - taken) };
            continue;
        }
        let byte = bytes[at];
        at += 1;
        chunk = match (chunk, byte) {
            (Chunk::Size(value, digits), _) if byte.is_ascii_hexdigit() && digits < 15 => {
                let digit = (byte as char).to_digit(16).unwrap_or_default();
                Chunk::Size((value << 4) | u64::from(digit), digits + 1)
            }
            (Chunk::Size(value, 1..), b';') => Chunk::Extension(value, 0),
            (Chunk::Size(value, 1..) | Chunk::Extension(value, _), b'\r') => Chunk::SizeEnd(value),
            (Chunk::Extension(value, seen), b'\t' | b' '..=b'~' | 0x80..) if seen < MAX_EXTENSION => {
                Chunk::Extension(value, seen + 1)
            }
            (Chunk::SizeEnd(0), b'\n') => Chunk::Trailer(0, 0),
            (Chunk::SizeEnd(value), b'\n') => Chunk::Data(value),
            (Chunk::DataCr, b'\r') => Chunk::DataLf,
            (Chunk::DataLf, b'\n') => Chunk::Size(0, 0),
            (Chunk::Trailer(line, all), b'\r') => Chunk::TrailerLf(line, all),
            (Chunk::Trailer(line, all), b'\t' | b' '..=b'~' | 0x80..) if all < MAX_TRAILER => {
                Chunk::Trailer(line + 1, all + 1)
            }
            (Chunk::TrailerLf(0, _), b'\n') => return Ok((at, None)),
            (Chunk::TrailerLf(_, all), b'\n') => Chunk::Trailer(0, all),
            _ => return Err(BAD),
        };
    }
    Ok((at, Some(chunk)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str) -> Result<Gate, (u16, &'static str)> {
        let mut gate = Gate::default();
        gate.pass(text.as_bytes(), &Limits::default())
            .map(|()| gate)
            .map_err(|refusal| (refusal.status.as_u16(), refusal.code))
    }

    fn run_bytewise(text: &str) -> Result<(), (u16, &'static str)> {
        let mut gate = Gate::default();
        for byte in text.as_bytes() {
            gate.pass(&[*byte], &Limits::default()).map_err(|refusal| (refusal.status.as_u16(), refusal.code))?;
        }
        Ok(())
    }

    #[test]
    fn good_messages_pass_whole_and_byte_by_byte() {
        for text in [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nT: v\r\n\r\n\
             GET / HTTP/1.0\r\n\r\n",
        ] {
            let gate = run(text).unwrap();
            assert_eq!(gate.phase, Phase::Head, "{text}");
            assert!(!gate.in_partial_head());
            run_bytewise(text).unwrap();
        }
    }

    #[test]
    fn ambiguous_framing_is_refused_whole_and_byte_by_byte() {
        let long = format!("GET /{} HTTP/1.1\r\n", "a".repeat(33_000));
        let endless = format!("GET /{}", "a".repeat(70_000));
        let wide = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(70_000));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(101));
        for (text, status, code) in [
            (
                "POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
                400,
                "content_length_with_transfer_encoding",
            ),
            (
                "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
                400,
                "content_length_with_transfer_encoding",
            ),
            ("POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n", 400, "repeated_content_length"),
            ("GET /a b HTTP/1.1\r\n\r\n", 400, "bad_request_line"),
            ("POST / HTTP/1.1\r\nContent-Length: \x0c3\r\n\r\n", 400, "bad_header"),
            ("POST / HTTP/1.1\r\nContent-Length: +3\r\n\r\n", 400, "bad_content_length"),
            ("POST / HTTP/1.1\r\nContent-Length: 3, 3\r\n\r\n", 400, "bad_content_length"),
            ("POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", 400, "bad_content_length"),
            ("POST / HTTP/1.1\r\nContent-Length:\r\n\r\n", 400, "bad_content_length"),
            ("POST / HTTP/1.1\r\nContent-Length : 3\r\n\r\n", 400, "bad_header"),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501, "transfer_encoding_not_implemented"),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n", 501, "transfer_encoding_not_implemented"),
            (
                "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
                501,
                "transfer_encoding_not_implemented",
            ),
            ("POST / HTTP/1.1\r\nTransfer-Encoding:\x0bchunked\r\n\r\n", 400, "bad_header"),
            ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "transfer_encoding_in_http_1_0"),
            ("GET / HTTP/1.1\nHost: a\n\n", 400, "bare_line_feed"),
            ("GET / HTTP/1.1\r\nHost: a\n\r\n", 400, "bare_line_feed"),
            ("GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", 400, "folded_header"),
            ("GET / HTTP/1.1\r\nHost: a\rb: c\r\n\r\n", 400, "bad_header"),
            ("GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n", 400, "bad_header"),
            ("GET / HTTP/1.1\r\n: a\r\n\r\n", 400, "bad_header"),
            ("GET / HTTP/1.1\r\nnocolon\r\n\r\n", 400, "bad_header"),
            ("PRI * HTTP/2.0\r\n\r\n", 505, "http_version_not_supported"),
            ("GET /\r\n\r\n", 400, "bad_request_line"),
            ("GET / JTTP/1.1\r\n\r\n", 400, "bad_request_line"),
            ("\r\n\r\nGET / HTTP/1.1\r\n\r\n", 400, "empty_lines"),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n", 400, "bad_chunk"),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\r\n", 400, "bad_chunk"),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n", 400, "bad_chunk"),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\r\n", 400, "bad_chunk"),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n", 400, "bad_chunk"),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;a\nb\r\nabc\r\n", 400, "bad_chunk"),
            (&long, 414, "uri_too_long"),
            (&endless, 414, "uri_too_long"),
            (&wide, 431, "headers_too_large"),
            (&many, 431, "too_many_headers"),
        ] {
            assert_eq!(run(text).err(), Some((status, code)), "{text:.80?}");
            assert_eq!(run_bytewise(text).err(), Some((status, code)), "byte by byte: {text:.80?}");
        }
    }

    #[test]
    fn a_target_that_hyper_would_not_take_is_refused_and_no_other() {
        let mut faults = Vec::new();
        for byte in (0x21..=0x7e_u8).filter(|byte| *byte != b'#') {
            for target in [format!("/a{}b", char::from(byte)), format!("/a?b{}c", char::from(byte))] {
                let taken = target.parse::<http::Uri>().is_ok();
                let passed = run(&format!("GET {target} HTTP/1.1\r\n\r\n")).is_ok();
                if taken != passed {
                    faults.push(format!("{target} taken: {taken}, passed: {passed}"));
                }
            }
        }
        assert!(faults.is_empty(), "{faults:#?}");
    }

    #[test]
    fn a_good_message_before_a_bad_one_is_told_apart() {
        let good = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let both = format!("{good}GET / HTTP/1.1\nHost: a\n\n");
        let refusal = Gate::default().pass(both.as_bytes(), &Limits::default()).unwrap_err();
        assert_eq!(refusal.from, good.len());
    }
}
