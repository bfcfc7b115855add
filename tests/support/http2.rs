//! An HTTP/2 client made of frames (RFC 9113), so that it can send what a library would not.
//!
//! It tells the server to keep no header table, so that a response's status is always a static or a literal field.

use std::io::{ErrorKind, Read as _, Write as _};

use super::{Beacon, Wire};

/// A frame as it came.
#[derive(Clone, Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// What became of a stream or a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An answer with this status and body.
    Answer(u16, Vec<u8>),
    /// RST_STREAM with this code.
    Reset(u32),
    /// GOAWAY with this code, or the connection's end without one.
    Gone(Option<u32>),
}

/// One connection.
pub struct Http2 {
    pub wire: Wire,
    buffer: Vec<u8>,
    next: u32,
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame of any shape.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// A field as a literal without indexing and with a new name (RFC 7541 section 6.2.2), in any spelling.
pub fn literal(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut out = vec![0];
    for text in [name, value] {
        // An integer of seven bits (section 5.1).
        if text.len() < 127 {
            out.push(text.len() as u8);
        } else {
            out.push(127);
            let mut rest = text.len() - 127;
            while rest >= 128 {
                out.push((rest % 128) as u8 | 128);
                rest /= 128;
            }
            out.push(rest as u8);
        }
        out.extend_from_slice(text);
    }
    out
}

/// The header block of a GET of `path` from `host`, with more fields behind.
pub fn request_block(host: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in [(":method", "GET"), (":scheme", "https"), (":authority", host), (":path", path)] {
        block.extend(literal(name.as_bytes(), value.as_bytes()));
    }
    for (name, value) in more {
        block.extend(literal(name.as_bytes(), value.as_bytes()));
    }
    block
}

impl Http2 {
    /// A connection over TLS with the preface and settings sent; `window` is what each stream may receive at first.
    #[track_caller]
    pub fn new(beacon: &Beacon, window: u32) -> Self {
        let mut ours = Self { wire: beacon.wire(&[b"h2"]), buffer: Vec::new(), next: 1 };
        // SETTINGS_HEADER_TABLE_SIZE 0, SETTINGS_INITIAL_WINDOW_SIZE.
        let mut settings = vec![0, 1, 0, 0, 0, 0, 0, 4];
        settings.extend_from_slice(&window.to_be_bytes());
        ours.send(PREFACE);
        ours.send(frame(4, 0, 0, &settings));
        // The server's settings come first, and are acknowledged before anything that must not be interrupted.
        while ours.next().is_some_and(|next| next.kind != 4) {}
        ours
    }

    /// Sends bytes; says whether the peer still took them.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.wire.write_all(bytes.as_ref()).and_then(|()| self.wire.flush()).is_ok()
    }

    /// A stream identifier that was not used yet.
    pub fn stream(&mut self) -> u32 {
        self.next += 2;
        self.next - 2
    }

    /// Sends a request without a body; gives its stream.
    pub fn request(&mut self, block: &[u8]) -> u32 {
        let stream = self.stream();
        self.send(frame(1, 5, stream, block));
        stream
    }

    /// GET, and what becomes of it.
    #[track_caller]
    pub fn get(&mut self, path: &str) -> Event {
        let stream = self.request(&request_block("localhost", path, &[]));
        self.outcome(stream)
    }

    /// Reads until the stream or the connection ends.
    #[track_caller]
    pub fn outcome(&mut self, stream: u32) -> Event {
        let mut status = 0;
        let mut body = Vec::new();
        loop {
            let Some(next) = self.next() else { return Event::Gone(None) };
            match (next.kind, next.stream) {
                (0, of) if of == stream => {
                    body.extend_from_slice(&next.payload);
                    let taken = (next.payload.len() as u32).to_be_bytes();
                    if !next.payload.is_empty() {
                        self.send([frame(8, 0, 0, &taken), frame(8, 0, stream, &taken)].concat());
                    }
                }
                (1, of) if of == stream => status = status_of(&next.payload),
                (3, of) if of == stream => return Event::Reset(code(&next.payload, 0)),
                // A GOAWAY without an error leaves the streams that have begun.
                (7, _) if code(&next.payload, 4) != 0 => return Event::Gone(Some(code(&next.payload, 4))),
                _ => continue,
            }
            if next.flags & 1 != 0 {
                return Event::Answer(status, body);
            }
        }
    }

    /// Reads until the connection's end; gives the last GOAWAY's code, if there was one.
    #[track_caller]
    pub fn end(&mut self) -> Option<u32> {
        let mut last = None;
        while let Some(next) = self.next() {
            if next.kind == 7 {
                last = Some(code(&next.payload, 4));
            }
        }
        last
    }

    /// The next frame; settings are acknowledged. `None` at the connection's end.
    #[track_caller]
    pub fn next(&mut self) -> Option<Frame> {
        while self.buffer.len() < 9 || self.buffer.len() < 9 + self.length() {
            let mut chunk = [0; 16 * 1024];
            match self.wire.read(&mut chunk) {
                Ok(0) => return None,
                Ok(count) => self.buffer.extend_from_slice(&chunk[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    panic!("waited in vain for a frame")
                }
                Err(_) => return None,
            }
        }
        let head: Vec<u8> = self.buffer.drain(..9).collect();
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let payload = self.buffer.drain(..length).collect();
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let next = Frame { kind: head[3], flags: head[4], stream, payload };
        if next.kind == 4 && next.flags & 1 == 0 {
            self.send(frame(4, 1, 0, &[]));
        }
        Some(next)
    }

    fn length(&self) -> usize {
        usize::from(self.buffer[0]) << 16 | usize::from(self.buffer[1]) << 8 | usize::from(self.buffer[2])
    }
}

fn code(payload: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(payload[at..at + 4].try_into().unwrap())
}

/// The status in a header block that begins with it, after changes of the table's size.
fn status_of(block: &[u8]) -> u16 {
    let mut block = block;
    while block[0] & 0xe0 == 0x20 {
        block = &block[1..];
    }
    if block[0] & 0x80 != 0 {
        return [200, 204, 206, 304, 400, 404, 500][usize::from(block[0] & 0x7f) - 8];
    }
    assert_eq!(block[0] & 0x0f, 8, "a literal :status: {block:?}");
    let length = usize::from(block[1] & 0x7f);
    let text = &block[2..2 + length];
    if block[1] & 0x80 == 0 {
        return std::str::from_utf8(text).unwrap().parse().unwrap();
    }
    // RFC 7541 appendix B: 0, 1 and 2 have five bits, the other digits six.
    let mut bits = text.iter().fold(0u64, |all, byte| all << 8 | u64::from(*byte));
    let mut left = length * 8;
    let mut status = 0;
    for _ in 0..3 {
        let five = (bits >> (left - 5)) & 31;
        let digit = if five < 3 {
            left -= 5;
            five
        } else {
            left -= 6;
            ((bits >> left) & 63) - 22
        };
        status = status * 10 + digit as u16;
        bits &= (1 << left) - 1;
    }
    status
}
