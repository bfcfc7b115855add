//! Clients that ask the machine's port 443 over TLS, and see exactly what a browser would: every way in which an answer
//! can be lost is an error with words, and never a panic.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::Machine;

/// Where the packaged Beacon keeps the authority that has signed the certificate for localhost.
const AUTHORITY: &str = "/var/lib/beacon/tls/ca.crt";

/// A client's TLS. Sessions are resumed between the connections of one configuration, as in a browser.
pub type Tls = Arc<ClientConfig>;

/// An answer to an HTTP/1.1 request.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

impl Machine {
    /// A TLS client that trusts the machine's authority and nothing else; an error before there is one.
    pub fn tls(&self, alpn: &str) -> Result<Tls, String> {
        let ran = self.run(&["cat", AUTHORITY]);
        if !ran.status.success() {
            return Err(ran.report());
        }
        beacon::tls::provider();
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(ran.stdout.as_bytes()) {
            let certificate = certificate.map_err(|error| format!("{AUTHORITY}: {error}"))?;
            roots.add(certificate).map_err(|error| format!("{AUTHORITY}: {error}"))?;
        }
        let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        Ok(Arc::new(config))
    }

    /// One request to https://localhost.
    pub fn https(&self, target: &str) -> Result<Answer, String> {
        let tls = self.tls("http/1.1")?;
        self.inside(|| Secure::connect(&tls, Duration::from_secs(10))?.http1(target, true))
    }

    /// Waits until https://localhost/ answers with 200; gives how long that took.
    #[track_caller]
    pub fn until_serves(&self, bound: Duration) -> Duration {
        let begun = Instant::now();
        let mut last = String::new();
        while begun.elapsed() < bound {
            last = match self.https("/") {
                Ok(answer) if answer.status == 200 => return begun.elapsed(),
                Ok(answer) => format!("{answer:?}"),
                Err(error) => error,
            };
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("it does not serve within {bound:?}: {last}\n{}", self.journal("beacon*"));
    }
}

/// A connection over TLS, and what came on it but was not read yet.
pub struct Secure {
    stream: StreamOwned<ClientConnection, TcpStream>,
    pub buffer: Vec<u8>,
}

impl Secure {
    /// Connects to port 443 of this thread's network; no single wait takes longer than `patience`.
    pub fn connect(tls: &Tls, patience: Duration) -> Result<Self, String> {
        let what = |error: std::io::Error| format!("while connecting: {error}");
        let stream = TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], 443)), patience).map_err(what)?;
        stream.set_read_timeout(Some(patience)).map_err(what)?;
        stream.set_write_timeout(Some(patience)).map_err(what)?;
        stream.set_nodelay(true).map_err(what)?;
        let name = ServerName::try_from("localhost").map_err(|error| error.to_string())?;
        let connection = ClientConnection::new(tls.clone(), name).map_err(|error| error.to_string())?;
        let mut stream = StreamOwned::new(connection, stream);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).map_err(what)?;
        }
        Ok(Self { stream, buffer: Vec::new() })
    }

    /// Takes what has come without waiting. False when the peer has closed properly; its words before are in the buffer.
    pub fn is_open(&mut self) -> Result<bool, String> {
        let what = |error: &dyn std::fmt::Display| format!("while idle: {error}");
        self.stream.sock.set_nonblocking(true).map_err(|error| what(&error))?;
        let mut open = true;
        loop {
            match self.stream.conn.read_tls(&mut self.stream.sock) {
                Ok(0) => {
                    open = false;
                    break;
                }
                Ok(_) => {
                    let state = self.stream.conn.process_new_packets().map_err(|error| what(&error))?;
                    open &= !state.peer_has_closed();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(what(&error)),
            }
        }
        self.stream.sock.set_nonblocking(false).map_err(|error| what(&error))?;
        let mut chunk = [0; 16 * 1024];
        while let Ok(count @ 1..) = self.stream.conn.reader().read(&mut chunk) {
            self.buffer.extend_from_slice(&chunk[..count]);
        }
        Ok(open)
    }

    pub fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        let sent = self.stream.write_all(bytes).and_then(|()| self.stream.flush());
        sent.map_err(|error| format!("while sending: {error}"))
    }

    /// Reads once more into the buffer.
    pub fn fill(&mut self) -> Result<(), String> {
        let mut chunk = [0; 16 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(0) => Err(format!("closed in the midst of an answer, after {} bytes", self.buffer.len())),
            Ok(count) => {
                self.buffer.extend_from_slice(&chunk[..count]);
                Ok(())
            }
            Err(error) => Err(format!("while waiting for an answer: {error}")),
        }
    }

    /// GET over HTTP/1.1, and the whole answer.
    pub fn http1(&mut self, target: &str, close: bool) -> Result<Answer, String> {
        let connection = if close { "Connection: close\r\n" } else { "" };
        self.send(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{connection}\r\n").as_bytes())?;
        let head = self.until(b"\r\n\r\n")?;
        let head = String::from_utf8(head).map_err(|error| error.to_string())?;
        let mut lines = head.trim_end().split("\r\n");
        let first = lines.next().unwrap_or_default();
        let status = first.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).and_then(|text| text.parse().ok());
        let status = status.ok_or_else(|| format!("no status in {first:?}"))?;
        let split = |line: &str| line.split_once(':').map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
        let mut answer = Answer { status, headers: lines.filter_map(split).collect(), body: Vec::new() };
        answer.body = if let Some(length) = answer.header("content-length") {
            self.take(length.parse().map_err(|_| format!("a length of {length:?}"))?)?
        } else if answer.header("transfer-encoding").is_some() {
            self.chunks()?
        } else {
            return Err(format!("an answer without a length: {answer:?}"));
        };
        Ok(answer)
    }

    fn chunks(&mut self) -> Result<Vec<u8>, String> {
        let mut body = Vec::new();
        loop {
            let line = self.until(b"\r\n")?;
            let text = String::from_utf8_lossy(&line);
            let size = usize::from_str_radix(text.trim(), 16).map_err(|_| format!("a chunk of {text:?}"))?;
            let chunk = self.take(size + 2)?;
            if size == 0 {
                return Ok(body);
            }
            body.extend_from_slice(&chunk[..size]);
        }
    }

    /// Everything up to and with `end`.
    fn until(&mut self, end: &[u8]) -> Result<Vec<u8>, String> {
        loop {
            if let Some(at) = memchr::memmem::find(&self.buffer, end) {
                return Ok(self.buffer.drain(..at + end.len()).collect());
            }
            self.fill()?;
        }
    }

    /// So many bytes.
    pub fn take(&mut self, count: usize) -> Result<Vec<u8>, String> {
        while self.buffer.len() < count {
            self.fill()?;
        }
        Ok(self.buffer.drain(..count).collect())
    }
}
