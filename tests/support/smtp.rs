//! A mail server that keeps what it gets: enough of RFC 5321 and MIME for what an application sends.
//!
//! It also answers HTTP on a port of its own, for tests in other languages: `GET /take/ADDRESS` waits for the next mail to
//! that address and gives it as JSON. A mail that was taken is not given again.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde_json::json;

use super::BOUND;

/// A running sink; its threads end with the test process.
pub struct Smtp {
    address: SocketAddr,
    http: SocketAddr,
    shared: Arc<Shared>,
}

/// A mail, taken apart.
#[derive(Clone, Debug, Default)]
pub struct Mail {
    /// MAIL FROM.
    pub from: String,
    /// RCPT TO.
    pub to: Vec<String>,
    /// As it was sent, without the dot stuffing.
    pub raw: String,
    /// Names in lower case, values unfolded and with encoded words decoded.
    pub headers: HashMap<String, String>,
    /// The text/plain part.
    pub text: String,
    /// The text/html part.
    pub html: String,
}

/// What the sink answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Behaviour {
    /// Takes everything.
    #[default]
    Accept,
    /// Answers this to each recipient, as in "451 later".
    Answer(String),
    /// Says nothing after the greeting.
    Hang,
}

#[derive(Default)]
struct Shared {
    mails: Mutex<Vec<Mail>>,
    bell: Condvar,
    behaviour: Mutex<Behaviour>,
    sessions: Mutex<usize>,
    received: Mutex<usize>,
}

impl Smtp {
    /// Starts one on free ports.
    pub fn start() -> Self {
        let shared = Arc::new(Shared::default());
        let address = listen(shared.clone(), |stream, shared| {
            let _ = session(stream, shared);
        });
        let http = listen(shared.clone(), |stream, shared| {
            let _ = answer(stream, shared);
        });
        Self { address, http, shared }
    }

    /// Where it takes mail.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it gives mail, as an origin.
    pub fn mailbox(&self) -> String {
        format!("http://{}", self.http)
    }

    /// How to behave from the next command on.
    pub fn behave(&self, behaviour: Behaviour) {
        *self.shared.behaviour.lock().unwrap() = behaviour;
    }

    /// The next mail to an address, waited for and taken.
    #[track_caller]
    pub fn take(&self, to: &str) -> Mail {
        self.shared.take(to, BOUND).unwrap_or_else(|| panic!("no mail came for {to}"))
    }

    /// How many mails came, those taken included.
    pub fn received(&self) -> usize {
        *self.shared.received.lock().unwrap()
    }

    /// How many connections were made.
    pub fn sessions(&self) -> usize {
        *self.shared.sessions.lock().unwrap()
    }
}

impl Shared {
    fn take(&self, to: &str, bound: Duration) -> Option<Mail> {
        let begun = Instant::now();
        let mut mails = self.mails.lock().unwrap();
        loop {
            let place = mails.iter().position(|mail| mail.to.iter().any(|address| address.eq_ignore_ascii_case(to)));
            if let Some(place) = place {
                return Some(mails.remove(place));
            }
            let left = bound.checked_sub(begun.elapsed())?;
            mails = self.bell.wait_timeout(mails, left).unwrap().0;
        }
    }
}

impl Mail {
    /// The subject.
    pub fn subject(&self) -> &str {
        self.headers.get("subject").map_or("", String::as_str)
    }

    /// The first link in it that has `part`, with HTML's escapes undone.
    #[track_caller]
    pub fn link(&self, part: &str) -> String {
        let body = if self.text.is_empty() { &self.html } else { &self.text };
        let links = body.match_indices("http").map(|(at, _)| {
            let end = body[at..]
                .find(|ch: char| ch.is_whitespace() || "\"'<>".contains(ch))
                .map_or(body.len(), |end| at + end);
            body[at..end].replace("&amp;", "&")
        });
        let found: Vec<String> = links.collect();
        found
            .iter()
            .find(|link| link.contains(part))
            .cloned()
            .unwrap_or_else(|| panic!("no link with {part:?} in: {found:?}"))
    }

    /// The first run of exactly `digits` digits in its text: a code to type.
    #[track_caller]
    pub fn code(&self, digits: usize) -> String {
        let body = if self.text.is_empty() { &self.html } else { &self.text };
        let mut runs = body.split(|ch: char| !ch.is_ascii_alphanumeric());
        let fits = |run: &&str| run.len() == digits && run.bytes().all(|byte| byte.is_ascii_digit());
        runs.find(fits).unwrap_or_else(|| panic!("no code of {digits} digits in: {body}")).to_owned()
    }
}

fn listen(shared: Arc<Shared>, serve: fn(TcpStream, &Shared)) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let shared = shared.clone();
            std::thread::spawn(move || serve(stream, &shared));
        }
    });
    address
}

/// One connection of a sender.
fn session(stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    *shared.sessions.lock().unwrap() += 1;
    let mut output = stream.try_clone()?;
    let mut input = BufReader::new(stream);
    let mut mail = Mail::default();
    output.write_all(b"220 sink.test ESMTP\r\n")?;
    let mut line = String::new();
    loop {
        line.clear();
        if input.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let behaviour = shared.behaviour.lock().unwrap().clone();
        if behaviour == Behaviour::Hang {
            // Until the other side has had enough.
            std::io::copy(&mut input, &mut std::io::sink())?;
            return Ok(());
        }
        let verb = line.get(..4).unwrap_or_default().to_ascii_uppercase();
        let reply = match verb.as_str() {
            "EHLO" => {
                "250-sink.test\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-AUTH PLAIN LOGIN\r\n250 SIZE 10485760".to_owned()
            }
            "HELO" | "NOOP" | "RSET" => "250 good".to_owned(),
            "AUTH" => "235 you are who you say".to_owned(),
            "MAIL" => {
                mail = Mail { from: address_in(&line), ..Mail::default() };
                "250 good".to_owned()
            }
            "RCPT" => {
                if let Behaviour::Answer(answer) = behaviour {
                    answer
                } else {
                    mail.to.push(address_in(&line));
                    "250 good".to_owned()
                }
            }
            "DATA" if mail.to.is_empty() => "554 to whom?".to_owned(),
            "DATA" => {
                output.write_all(b"354 go on\r\n")?;
                mail.raw = data(&mut input)?;
                let mut taken = std::mem::take(&mut mail);
                open(&mut taken);
                *shared.received.lock().unwrap() += 1;
                shared.mails.lock().unwrap().push(taken);
                shared.bell.notify_all();
                "250 kept".to_owned()
            }
            "QUIT" => {
                output.write_all(b"221 bye\r\n")?;
                return Ok(());
            }
            _ => "502 not here".to_owned(),
        };
        output.write_all(format!("{reply}\r\n").as_bytes())?;
    }
}

/// What stands between the angle brackets.
fn address_in(line: &str) -> String {
    line.split_once('<')
        .and_then(|(_, rest)| rest.split_once('>'))
        .map_or_else(String::new, |(address, _)| address.to_owned())
}

/// Lines up to the one with a dot (RFC 5321, 4.5.2).
fn data(input: &mut impl std::io::BufRead) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    loop {
        let mut line = Vec::new();
        if input.read_until(b'\n', &mut line)? == 0 || line == b".\r\n" {
            return Ok(String::from_utf8_lossy(&bytes).into_owned());
        }
        bytes.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
    }
}

/// Fills in the headers and the parts.
fn open(mail: &mut Mail) {
    let raw = mail.raw.clone();
    mail.headers = part(&raw, mail);
}

/// Reads a part, and those within it; gives its headers.
fn part(raw: &str, mail: &mut Mail) -> HashMap<String, String> {
    let (head, body) = raw.split_once("\r\n\r\n").unwrap_or((raw, ""));
    let head = head.replace("\r\n ", " ").replace("\r\n\t", " ");
    let headers: HashMap<String, String> = head
        .split("\r\n")
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_ascii_lowercase(), words(value.trim())))
        .collect();
    let kind = headers.get("content-type").cloned().unwrap_or_else(|| "text/plain".to_owned());
    if let Some((_, rest)) = kind.split_once("boundary=") {
        let boundary = rest.trim_start_matches('"').split(['"', ';']).next().unwrap_or_default();
        for inner in body.split(&format!("--{boundary}")).skip(1).filter(|inner| !inner.starts_with("--")) {
            part(inner.trim_start_matches("\r\n"), mail);
        }
        return headers;
    }
    let bytes = match headers.get("content-transfer-encoding").map(|name| name.to_ascii_lowercase()).as_deref() {
        Some("base64") => {
            let compact: String = body.split_whitespace().collect();
            base64::engine::general_purpose::STANDARD.decode(compact).unwrap_or_default()
        }
        Some("quoted-printable") => quoted(&body.replace("=\r\n", ""), b'='),
        _ => body.as_bytes().to_vec(),
    };
    let text = String::from_utf8_lossy(&bytes).replace("\r\n", "\n");
    if kind.starts_with("text/html") {
        mail.html = text;
    } else if kind.starts_with("text/plain") {
        mail.text = text;
    }
    headers
}

fn quoted(text: &str, mark: u8) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = bytes.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok());
        match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if bytes[at] == mark => {
                out.push(byte);
                at += 3;
            }
            _ => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    out
}

/// Encoded words (RFC 2047) within a header.
fn words(value: &str) -> String {
    let decoded = value.split(' ').map(|word| {
        let inner = word.strip_prefix("=?").and_then(|rest| rest.strip_suffix("?="));
        let mut parts = inner.map(|rest| rest.splitn(3, '?')).into_iter().flatten().skip(1);
        match (parts.next(), parts.next()) {
            (Some("b" | "B"), Some(text)) => {
                let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default();
                String::from_utf8_lossy(&bytes).into_owned()
            }
            (Some("q" | "Q"), Some(text)) => {
                String::from_utf8_lossy(&quoted(&text.replace('_', " "), b'=')).into_owned()
            }
            _ => word.to_owned(),
        }
    });
    decoded.collect::<Vec<_>>().join(" ")
}

/// One HTTP request for a mail.
fn answer(stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut output = stream.try_clone()?;
    let mut input = BufReader::new(stream);
    let mut first = String::new();
    input.read_line(&mut first)?;
    let mut line = String::new();
    while input.read_line(&mut line)? > 2 {
        line.clear();
    }
    let path = first.split(' ').nth(1).unwrap_or_default();
    let address = path.strip_prefix("/take/").unwrap_or_default();
    let address = percent_encoding::percent_decode_str(address).decode_utf8_lossy();
    let (status, body) = match shared.take(&address, Duration::from_secs(10)) {
        Some(mail) => (
            "200 OK",
            json!({ "from": mail.from, "to": mail.to, "subject": mail.subject(), "text": mail.text, "html": mail.html }),
        ),
        None => ("404 Not Found", json!({ "error": format!("no mail came for {address}") })),
    };
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    output.write_all((head + &body).as_bytes())
}
