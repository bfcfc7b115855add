//! An HTTP/1.1 client that sends whatever it is told, and reads answers strictly.

use std::io::{ErrorKind, Read as _, Write as _};
use std::time::Duration;

use super::Wire;

/// One connection.
pub struct Http1 {
    pub wire: Wire,
    buffer: Vec<u8>,
}

/// A response.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// A header that comes once at most.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
        let first = found.next();
        assert!(found.next().is_none(), "{name} comes twice: {self:?}");
        first.map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Http1 {
    pub fn new(wire: Wire) -> Self {
        Self { wire, buffer: Vec::new() }
    }

    /// Sends bytes. A peer that has closed already is no failure: its answer is still to be read.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.wire.write_all(bytes.as_ref()).and_then(|()| self.wire.flush());
    }

    /// GET on this connection.
    #[track_caller]
    pub fn get(&mut self, target: &str) -> Answer {
        self.ask("GET", target, "")
    }

    /// A request with more header lines, each ending in CRLF; the host is localhost unless one of them is Host.
    #[track_caller]
    pub fn ask(&mut self, method: &str, target: &str, headers: &str) -> Answer {
        let host = if headers.contains("Host:") { "" } else { "Host: localhost\r\n" };
        self.send(format!("{method} {target} HTTP/1.1\r\n{host}{headers}\r\n"));
        self.answer_to(method).unwrap_or_else(|| panic!("no answer to {method} {target} {headers:?}"))
    }

    /// The next response; `None` when the peer closes instead.
    #[track_caller]
    pub fn answer(&mut self) -> Option<Answer> {
        self.answer_to("GET")
    }

    #[track_caller]
    pub fn answer_to(&mut self, method: &str) -> Option<Answer> {
        loop {
            let end = loop {
                if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                    break at;
                }
                if !self.fill() {
                    assert!(self.buffer.is_empty(), "cut short: {:?}", String::from_utf8_lossy(&self.buffer));
                    return None;
                }
            };
            let head = String::from_utf8(self.buffer.drain(..end + 4).collect()).unwrap();
            let mut lines = head.trim_end().split("\r\n");
            let first = lines.next().unwrap();
            let status = first.strip_prefix("HTTP/1.").unwrap_or_else(|| panic!("{first:?}"))[2..5].parse().unwrap();
            if status == 100 {
                continue;
            }
            let headers = lines
                .map(|line| line.split_once(':').map(|(name, value)| (name.into(), value.trim().into())).unwrap())
                .collect();
            let mut answer = Answer { status, headers, body: Vec::new() };
            answer.body = self.body(&answer, method);
            return Some(answer);
        }
    }

    #[track_caller]
    fn body(&mut self, answer: &Answer, method: &str) -> Vec<u8> {
        if method == "HEAD" || matches!(answer.status, 204 | 304) {
            return Vec::new();
        }
        if answer.header("transfer-encoding").is_some() {
            let mut body = Vec::new();
            loop {
                let line = self.line();
                let size = usize::from_str_radix(line.trim(), 16).unwrap();
                let chunk = self.take(size + 2);
                if size == 0 {
                    return body;
                }
                body.extend_from_slice(&chunk[..size]);
            }
        }
        if let Some(length) = answer.header("content-length") {
            return self.take(length.parse().unwrap());
        }
        while self.fill() {}
        std::mem::take(&mut self.buffer)
    }

    #[track_caller]
    fn line(&mut self) -> String {
        let end = loop {
            if let Some(at) = find(&self.buffer, b"\r\n") {
                break at;
            }
            assert!(self.fill(), "cut short in a chunk's size");
        };
        String::from_utf8(self.buffer.drain(..end + 2).collect()).unwrap()
    }

    #[track_caller]
    fn take(&mut self, bytes: usize) -> Vec<u8> {
        while self.buffer.len() < bytes {
            assert!(self.fill(), "cut short after {} of {bytes} bytes", self.buffer.len());
        }
        self.buffer.drain(..bytes).collect()
    }

    /// Reads once; false at the end, however it comes.
    #[track_caller]
    fn fill(&mut self) -> bool {
        let mut chunk = [0; 16 * 1024];
        match self.wire.read(&mut chunk) {
            Ok(count) => {
                self.buffer.extend_from_slice(&chunk[..count]);
                count > 0
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("waited in vain; came: {:?}", String::from_utf8_lossy(&self.buffer))
            }
            Err(_) => false,
        }
    }

    /// GET of the front page, if this connection is served at all.
    #[track_caller]
    pub fn answer_if_served(&mut self) -> Option<Answer> {
        self.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
        self.answer().filter(|answer| answer.status == 200)
    }

    /// Whether the peer closes, with nothing more said; waits for it.
    #[track_caller]
    pub fn is_closed(&mut self) -> bool {
        let (rest, _) = self.wire.drain();
        self.buffer.is_empty() && rest.is_empty()
    }

    /// Whether nothing comes for so long, and the connection stays open.
    #[track_caller]
    pub fn is_silent_for(&mut self, wait: Duration) -> bool {
        self.wire.patience(wait);
        let mut byte = [0];
        let silent = match self.wire.read(&mut byte) {
            Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
            Ok(_) => false,
        };
        self.wire.patience(super::BOUND);
        silent
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    memchr::memmem::find(text, what)
}
