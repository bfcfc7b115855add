//! Load: clients in the machine's network that ask without end, and count what they see.
//!
//! A failure is everything that a user would notice: an error in any phase, a status other than 200, a request lost on a
//! connection that was used before. A connection which the server has closed properly before the next request was sent
//! (after `Connection: close`, after GOAWAY, or while idle) is opened anew, and is no failure. Nor is a stream that the
//! server has expressly not taken up (RFC 9113 section 6.8), which is sent again; those are counted.

use std::fmt;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::http::{Secure, Tls};
use super::{Machine, enter};

/// What a request may take at most.
const PATIENCE: Duration = Duration::from_secs(10);
/// What each client of a kind lets pass between two requests: from hardly anything to what a reader takes for a click.
const PAUSES: [Duration; 3] = [Duration::from_millis(1), Duration::from_millis(40), Duration::from_millis(700)];
/// How many failures are kept with their words.
const WORDS: usize = 5;
/// Streams that are asked for at once on an HTTP/2 connection.
const STREAMS: usize = 3;

/// How clients use connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// HTTP/1.1, one connection for as long as the server keeps it.
    KeepAlive,
    /// HTTP/1.1, a connection a request.
    Close,
    /// HTTP/2, three streams at a time on one connection.
    Http2,
}

/// What the clients of a kind have seen.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    pub ok: u64,
    pub failed: u64,
    /// Connections that were closed properly and opened anew.
    pub reopened: u64,
    /// Streams that the server gave back unprocessed, and that were asked for again.
    pub again: u64,
    /// The slowest request that succeeded, its connection included.
    pub worst: Duration,
    /// The longest time in which a client got no answer; its pauses are part of it.
    pub silence: Duration,
    /// The first failures.
    pub failures: Vec<String>,
}

/// Clients of one kind at work; they stop with this value.
pub struct Load {
    kind: Kind,
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Counts>>,
}

/// Clients of every kind at work.
pub struct Loads(Vec<Load>);

impl Machine {
    /// Puts clients of this kind to work on https://localhost/, which must be serving.
    #[track_caller]
    pub fn load(&self, kind: Kind) -> Load {
        let alpn = if kind == Kind::Http2 { "h2" } else { "http/1.1" };
        let stop = Arc::new(AtomicBool::new(false));
        let clients = PAUSES.map(|pause| {
            let client = Client { kind, tls: self.tls(alpn).unwrap(), connection: None, counts: Counts::default() };
            let (network, stop) = (self.network(), stop.clone());
            std::thread::spawn(move || client.work(&network, pause, &stop))
        });
        Load { kind, stop, clients: clients.into() }
    }

    /// Puts clients of every kind to work.
    #[track_caller]
    pub fn loads(&self) -> Loads {
        Loads([Kind::KeepAlive, Kind::Close, Kind::Http2].map(|kind| self.load(kind)).into())
    }
}

impl Load {
    /// Stops the clients; gives what they have seen.
    #[track_caller]
    pub fn stop(mut self) -> Counts {
        self.end()
    }

    fn end(&mut self) -> Counts {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Counts::default();
        for client in self.clients.drain(..) {
            all.add(client.join().unwrap());
        }
        all
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            let _ = client.join();
        }
    }
}

impl Loads {
    /// Stops the clients; says what they have seen under this heading, and gives it.
    #[track_caller]
    pub fn stop(self, what: &str) -> Vec<(Kind, Counts)> {
        for load in &self.0 {
            load.stop.store(true, Ordering::Relaxed);
        }
        let counts: Vec<_> = self.0.into_iter().map(|load| (load.kind, load.stop())).collect();
        for (kind, counts) in &counts {
            super::say(&format!("{what}: {kind:?}: {counts}"));
        }
        counts
    }

    /// Stops the clients; panics when one of them has seen a failure, or a kind has hardly asked at all.
    #[track_caller]
    pub fn stop_unharmed(self, what: &str) {
        for (kind, counts) in self.stop(what) {
            assert_eq!(counts.failed, 0, "{what}: {kind:?}: {counts}\n{}", counts.failures.join("\n"));
            assert!(counts.ok >= 10, "{what}: {kind:?} has hardly asked: {counts}");
        }
    }
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.ok += other.ok;
        self.failed += other.failed;
        self.reopened += other.reopened;
        self.again += other.again;
        self.worst = self.worst.max(other.worst);
        self.silence = self.silence.max(other.silence);
        self.failures.extend(other.failures);
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ok, failed, reopened, again, worst, silence, .. } = self;
        write!(
            f,
            "{ok} ok, {failed} failed, {reopened} connections reopened, {again} streams asked again, slowest {} ms, \
             longest silence {} ms",
            worst.as_millis(),
            silence.as_millis()
        )
    }
}

struct Client {
    kind: Kind,
    tls: Tls,
    connection: Option<Connection>,
    counts: Counts,
}

struct Connection {
    secure: Secure,
    /// The next stream's identifier, on HTTP/2.
    next: u32,
    /// After a GOAWAY: the last stream that will still be answered.
    going: Option<u32>,
}

impl Client {
    fn work(mut self, network: &File, pause: Duration, stop: &AtomicBool) -> Counts {
        enter(network);
        let begun = Instant::now();
        let mut last = begun;
        while !stop.load(Ordering::Relaxed) {
            let asked = Instant::now();
            let outcome = match self.kind {
                Kind::KeepAlive => self.http1(false),
                Kind::Close => self.http1(true),
                Kind::Http2 => self.http2(),
            };
            match outcome {
                Ok(answers) => {
                    self.counts.ok += answers;
                    self.counts.worst = self.counts.worst.max(asked.elapsed());
                    self.counts.silence = self.counts.silence.max(last.elapsed());
                    last = Instant::now();
                }
                Err(reason) => {
                    self.connection = None;
                    self.counts.failed += if self.kind == Kind::Http2 { STREAMS as u64 } else { 1 };
                    if self.counts.failures.len() < WORDS {
                        self.counts.failures.push(format!("{:?} at {:?}: {reason}", self.kind, begun.elapsed()));
                    }
                }
            }
            std::thread::sleep(pause);
        }
        self.counts.silence = self.counts.silence.max(last.elapsed());
        self.counts
    }

    /// The connection that is open, if it still is.
    fn usable(&mut self) -> Result<bool, String> {
        let Some(connection) = &mut self.connection else { return Ok(false) };
        let open = connection.secure.is_open()?;
        match self.kind {
            Kind::Http2 => connection.read_pending()?,
            _ if !connection.secure.buffer.is_empty() => {
                let words = String::from_utf8_lossy(&connection.secure.buffer).into_owned();
                return Err(format!("unasked, while idle: {words}"));
            }
            _ => {}
        }
        if open && connection.going.is_none() {
            return Ok(true);
        }
        self.counts.reopened += 1;
        self.connection = None;
        Ok(false)
    }

    fn connect(&mut self) -> Result<(), String> {
        let mut secure = Secure::connect(&self.tls, PATIENCE)?;
        if self.kind == Kind::Http2 {
            // No table for headers, so that a status is a static field; no other settings.
            secure.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")?;
            secure.send(&frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0]))?;
        }
        self.connection = Some(Connection { secure, next: 1, going: None });
        Ok(())
    }

    fn http1(&mut self, close: bool) -> Result<u64, String> {
        let used = self.usable()?;
        if !used {
            self.connect()?;
        }
        let Some(connection) = &mut self.connection else { return Err("no connection".into()) };
        let how = if used { "on a connection used before" } else { "on a new connection" };
        let answer = connection.secure.http1("/", close).map_err(|error| format!("{how}: {error}"))?;
        if answer.status != 200 {
            return Err(format!("{how}: status {}", answer.status));
        }
        let last = answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        if close {
            self.connection = None;
        } else if last {
            self.counts.reopened += 1;
            self.connection = None;
        }
        Ok(1)
    }

    fn http2(&mut self) -> Result<u64, String> {
        let mut left = STREAMS;
        // A second round only for what the server has not taken up.
        for _ in 0..2 {
            if !self.usable()? {
                self.connect()?;
            }
            let Some(connection) = &mut self.connection else { return Err("no connection".into()) };
            left = connection.ask(left)?;
            if left == 0 {
                return Ok(STREAMS as u64);
            }
            self.counts.again += left as u64;
            self.connection = None;
        }
        Err(format!("{left} streams were refused twice"))
    }
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW: u8 = 8;
const REFUSED_STREAM: u32 = 7;

/// A frame (RFC 9113 section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

fn number(payload: &[u8], at: usize) -> Result<u32, String> {
    let bytes = payload.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
    bytes.map(u32::from_be_bytes).ok_or_else(|| format!("a frame cut short: {payload:?}"))
}

impl Connection {
    /// Asks for `/` on so many streams; gives how many of them the server did not take up.
    fn ask(&mut self, streams: usize) -> Result<usize, String> {
        // GET, https and / from the static table; :authority by its index there, and the value as a literal.
        let mut block = vec![0x82, 0x87, 0x84, 0x01, 9];
        block.extend_from_slice(b"localhost");
        let mut open = Vec::new();
        let mut bytes = Vec::new();
        for _ in 0..streams {
            bytes.extend(frame(HEADERS, 5, self.next, &block));
            open.push(self.next);
            self.next += 2;
        }
        self.secure.send(&bytes).map_err(|error| format!("{error}, with stream {}", open[0]))?;
        let mut refused = 0;
        while !open.is_empty() {
            let (kind, flags, stream, payload) =
                self.frame().map_err(|error| format!("{error}, with the streams {open:?} of {}", self.next))?;
            if kind == HEADERS && open.contains(&stream) {
                // Index 8 of the static table; before it, the change of the table's size that we asked for.
                let field = payload.iter().find(|byte| *byte & 0xe0 != 0x20);
                if field != Some(&0x88) {
                    return Err(format!("the status is not 200: {payload:?}"));
                }
            }
            if kind == RESET && open.contains(&stream) {
                let code = number(&payload, 0)?;
                if code != REFUSED_STREAM {
                    return Err(format!("reset with code {code}"));
                }
                refused += 1;
                open.retain(|other| *other != stream);
            }
            if matches!(kind, HEADERS | DATA) && flags & 1 != 0 {
                open.retain(|other| *other != stream);
            }
            if let Some(last) = self.going {
                let before = open.len();
                open.retain(|other| *other <= last);
                refused += before - open.len();
            }
        }
        Ok(refused)
    }

    /// The next frame, waited for; what it asks for in general is done.
    fn frame(&mut self) -> Result<(u8, u8, u32, Vec<u8>), String> {
        let head = self.secure.take(9)?;
        let length = number(&[0, head[0], head[1], head[2]], 0)? as usize;
        let (kind, flags, stream) = (head[3], head[4], number(&head, 5)?);
        let payload = self.secure.take(length)?;
        let reply = match kind {
            SETTINGS if flags & 1 == 0 => frame(SETTINGS, 1, 0, &[]),
            PING if flags & 1 == 0 => frame(PING, 1, 0, &payload),
            DATA if length > 0 => frame(WINDOW, 0, 0, &(length as u32).to_be_bytes()),
            GOAWAY => {
                let code = number(&payload, 4)?;
                if code != 0 {
                    return Err(format!("GOAWAY with code {code}"));
                }
                self.going = Some(number(&payload, 0)?);
                Vec::new()
            }
            _ => Vec::new(),
        };
        // A peer that has said goodbye need not listen any more; an answer that is missing will be missed.
        let _ = self.secure.send(&reply);
        Ok((kind, flags, stream, payload))
    }

    /// The frames that have come while no answer was waited for.
    fn read_pending(&mut self) -> Result<(), String> {
        while let [a, b, c, ..] = self.secure.buffer[..] {
            if self.secure.buffer.len() < 9 + number(&[0, a, b, c], 0)? as usize {
                break;
            }
            self.frame()?;
        }
        Ok(())
    }
}
