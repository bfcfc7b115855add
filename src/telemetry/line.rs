//! One access line: what it says, and how it is written as JSON, as "combined", and as a journal record.
//!
//! Lines are put together in a buffer of the thread, without an allocation, and the calendar part of the time is
//! computed once a second.

use std::io::Write as _;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::clock::Civil;

use super::escape;

/// What is known about a request that has ended.
#[derive(Clone, Copy, Debug)]
pub struct AccessLine<'a> {
    /// When the request began.
    pub time: SystemTime,
    /// The client's address, as trusted proxies told it.
    pub client: IpAddr,
    /// The method.
    pub method: &'a str,
    /// The host asked for.
    pub host: &'a str,
    /// Path and query as they came. Secrets in the query are hidden when the line is written.
    pub target: &'a str,
    /// The version of HTTP.
    pub version: ::http::Version,
    /// The status that was answered.
    pub status: u16,
    /// Bytes of body that were sent.
    pub bytes: u64,
    /// From the request's first byte to the last of its answer.
    pub duration: Duration,
    /// The identifier of the request.
    pub request_id: &'a str,
    /// Who asked, if that is known.
    pub user: Option<&'a str>,
    /// The header Referer.
    pub referer: Option<&'a [u8]>,
    /// The header User-Agent.
    pub user_agent: Option<&'a [u8]>,
    /// The mount that answered.
    pub mount: &'a str,
    /// Whether the client came over TLS.
    pub secure: bool,
    /// False when the client went away, or the body failed, before its end.
    pub complete: bool,
}

/// How lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// One JSON object a line.
    Json,
    /// NGINX's and Apache's "combined".
    Combined,
    /// Records for the journal: a length of four bytes in the machine's order, then a datagram of its native protocol.
    Journal,
}

/// A thread's buffer, and the second whose calendar time it knows.
pub struct Scratch {
    line: Vec<u8>,
    second: u64,
    /// As in `2026-11-23T21:58:43`.
    rfc3339: [u8; 19],
    /// As in `23/Nov/2026:21:58:43 +0000`.
    common: [u8; 26],
}

impl Scratch {
    /// An empty buffer.
    #[must_use]
    pub fn new() -> Self {
        Self { line: Vec::with_capacity(1_024), second: u64::MAX, rfc3339: [b'0'; 19], common: [b'0'; 26] }
    }

    /// Writes `line` as `layout` wants it.
    pub fn format(&mut self, layout: Layout, line: &AccessLine<'_>) -> &[u8] {
        let since = line.time.duration_since(UNIX_EPOCH).unwrap_or_default();
        if since.as_secs() != self.second {
            self.second = since.as_secs();
            self.calendar(line.time);
        }
        self.line.clear();
        match layout {
            Layout::Json => self.json(line, since.subsec_micros()),
            Layout::Combined => self.combined(line),
            Layout::Journal => self.journal(line),
        }
        &self.line
    }

    fn calendar(&mut self, time: SystemTime) {
        const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let at = Civil::of(time);
        let month = MONTHS[usize::from(at.month - 1) % 12];
        let (hour, minute, second) = (at.hour, at.minute, at.second);
        // A year of five digits would not fit; what does not fit is left out.
        let _ = write!(
            &mut self.rfc3339[..],
            "{:04}-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}",
            at.year,
            at.month,
            at.day
        );
        let _ = write!(
            &mut self.common[..],
            "{:02}/{month}/{:04}:{hour:02}:{minute:02}:{second:02} +0000",
            at.day,
            at.year
        );
    }

    fn json(&mut self, line: &AccessLine<'_>, micros: u32) {
        let out = &mut self.line;
        out.extend_from_slice(b"{\"time\":\"");
        out.extend_from_slice(&self.rfc3339);
        out.push(b'.');
        padded(out, micros);
        out.extend_from_slice(b"Z\",\"client\":\"");
        address(out, line.client);
        text(out, "\",\"method\":\"", line.method.as_bytes());
        text(out, "\",\"host\":\"", line.host.as_bytes());
        out.extend_from_slice(b"\",\"target\":\"");
        escape::redacted(line.target.as_bytes(), |piece| escape::json(out, piece));
        out.extend_from_slice(b"\",\"protocol\":\"");
        out.extend_from_slice(protocol(line.version));
        number(out, "\",\"status\":", u64::from(line.status));
        number(out, ",\"bytes\":", line.bytes);
        number(out, ",\"duration_us\":", micros_of(line.duration));
        text(out, ",\"request_id\":\"", line.request_id.as_bytes());
        text(out, "\",\"mount\":\"", line.mount.as_bytes());
        if let Some(user) = line.user {
            text(out, "\",\"user\":\"", user.as_bytes());
        }
        if let Some(referer) = line.referer {
            out.extend_from_slice(b"\",\"referer\":\"");
            escape::redacted(referer, |piece| escape::json(out, piece));
        }
        if let Some(agent) = line.user_agent {
            text(out, "\",\"user_agent\":\"", agent);
        }
        out.extend_from_slice(if line.secure { b"\",\"tls\":true" } else { b"\",\"tls\":false" });
        out.extend_from_slice(if line.complete { b",\"complete\":true}\n" } else { b",\"complete\":false}\n" });
    }

    fn combined(&mut self, line: &AccessLine<'_>) {
        let out = &mut self.line;
        address(out, line.client);
        out.extend_from_slice(b" - ");
        match line.user {
            // A name with a space would shift every column behind it.
            Some(user) if !user.is_empty() => {
                for part in short(user.as_bytes()).split_inclusive(|byte| *byte == b' ') {
                    match part.split_last() {
                        Some((b' ', start)) => {
                            escape::combined(out, start);
                            out.extend_from_slice(b"\\x20");
                        }
                        _ => escape::combined(out, part),
                    }
                }
            }
            _ => out.push(b'-'),
        }
        out.extend_from_slice(b" [");
        out.extend_from_slice(&self.common);
        out.extend_from_slice(b"] \"");
        escape::combined(out, short(line.method.as_bytes()));
        out.push(b' ');
        escape::redacted(line.target.as_bytes(), |piece| escape::combined(out, piece));
        out.push(b' ');
        out.extend_from_slice(protocol(line.version));
        number(out, "\" ", u64::from(line.status));
        number(out, " ", line.bytes);
        out.extend_from_slice(b" \"");
        match line.referer {
            Some(referer) => escape::redacted(referer, |piece| escape::combined(out, piece)),
            None => out.push(b'-'),
        }
        out.extend_from_slice(b"\" \"");
        match line.user_agent {
            Some(agent) => escape::combined(out, short(agent)),
            None => out.push(b'-'),
        }
        out.extend_from_slice(b"\"\n");
    }

    /// Values hold no newline after escaping, so the simple form `KEY=value` of the protocol fits all.
    fn journal(&mut self, line: &AccessLine<'_>) {
        let out = &mut self.line;
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(b"SYSLOG_IDENTIFIER=beacon\nPRIORITY=6\nMESSAGE=");
        escape::combined(out, short(line.method.as_bytes()));
        out.push(b' ');
        escape::combined(out, short(line.host.as_bytes()));
        escape::redacted(line.target.as_bytes(), |piece| escape::combined(out, piece));
        number(out, " ", u64::from(line.status));
        number(out, " ", line.bytes);
        number(out, " B ", micros_of(line.duration));
        out.extend_from_slice(" µs".as_bytes());
        if !line.complete {
            out.extend_from_slice(b" (cut short)");
        }
        field(out, "\nREQUEST_ID=", line.request_id.as_bytes());
        number(out, "\nSTATUS=", u64::from(line.status));
        number(out, "\nDURATION_US=", micros_of(line.duration));
        number(out, "\nBYTES=", line.bytes);
        out.extend_from_slice(b"\nCLIENT_IP=");
        address(out, line.client);
        field(out, "\nMOUNT=", line.mount.as_bytes());
        field(out, "\nHTTP_METHOD=", line.method.as_bytes());
        field(out, "\nHTTP_HOST=", line.host.as_bytes());
        out.extend_from_slice(b"\nHTTP_PROTOCOL=");
        out.extend_from_slice(protocol(line.version));
        if let Some(user) = line.user {
            field(out, "\nREMOTE_USER=", user.as_bytes());
        }
        if let Some(agent) = line.user_agent {
            field(out, "\nUSER_AGENT=", agent);
        }
        out.push(b'\n');
        let length = (out.len() - 4) as u32;
        out[..4].copy_from_slice(&length.to_ne_bytes());
    }
}

/// The datagrams of a batch of journal records.
pub fn records(batch: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = batch;
    std::iter::from_fn(move || {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let (record, after) = after.split_at_checked(u32::from_ne_bytes(*length) as usize)?;
        rest = after;
        Some(record)
    })
}

fn short(text: &[u8]) -> &[u8] {
    text.get(..escape::MAX_FIELD).unwrap_or(text)
}

fn text(out: &mut Vec<u8>, before: &str, value: &[u8]) {
    out.extend_from_slice(before.as_bytes());
    escape::json(out, short(value));
}

fn field(out: &mut Vec<u8>, before: &str, value: &[u8]) {
    out.extend_from_slice(before.as_bytes());
    escape::combined(out, short(value));
}

fn number(out: &mut Vec<u8>, before: &str, value: u64) {
    out.extend_from_slice(before.as_bytes());
    digits(out, value);
}

fn digits(out: &mut Vec<u8>, mut value: u64) {
    let mut text = [0u8; 20];
    let mut start = text.len();
    loop {
        start -= 1;
        text[start] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&text[start..]);
}

/// Six digits.
fn padded(out: &mut Vec<u8>, mut value: u32) {
    let mut text = [b'0'; 6];
    for slot in text.iter_mut().rev() {
        *slot = b'0' + (value % 10) as u8;
        value /= 10;
    }
    out.extend_from_slice(&text);
}

fn address(out: &mut Vec<u8>, address: IpAddr) {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            for (index, part) in address.octets().into_iter().enumerate() {
                if index > 0 {
                    out.push(b'.');
                }
                digits(out, u64::from(part));
            }
        }
        IpAddr::V6(address) => {
            let _ = write!(out, "{address}");
        }
    }
}

/// In microseconds; what lasts longer than 584,000 years is cut.
fn micros_of(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn protocol(version: ::http::Version) -> &'static [u8] {
    match version {
        ::http::Version::HTTP_09 => b"HTTP/0.9",
        ::http::Version::HTTP_10 => b"HTTP/1.0",
        ::http::Version::HTTP_2 => b"HTTP/2.0",
        ::http::Version::HTTP_3 => b"HTTP/3.0",
        _ => b"HTTP/1.1",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    pub fn sample() -> AccessLine<'static> {
        AccessLine {
            time: UNIX_EPOCH + Duration::from_micros(1_795_471_123_000_042),
            client: IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7)),
            method: "GET",
            host: "example.org",
            target: "/docs/?q=a&token=hush",
            version: ::http::Version::HTTP_2,
            status: 200,
            bytes: 1_532,
            duration: Duration::from_micros(345),
            request_id: "01JD",
            user: None,
            referer: Some(b"https://example.org/?code=hush"),
            user_agent: Some(b"Mozilla/5.0 (X11)"),
            mount: "/docs",
            secure: true,
            complete: true,
        }
    }

    fn written(layout: Layout, line: &AccessLine<'_>) -> String {
        String::from_utf8(Scratch::new().format(layout, line).to_vec()).unwrap()
    }

    #[test]
    fn json_has_every_field() {
        let text = written(Layout::Json, &sample());
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            value,
            serde_json::json!({
                "time": "2026-11-23T21:58:43.000042Z", "client": "203.0.113.7", "method": "GET",
                "host": "example.org", "target": "/docs/?q=a&token=***", "protocol": "HTTP/2.0", "status": 200,
                "bytes": 1532, "duration_us": 345, "request_id": "01JD", "mount": "/docs",
                "referer": "https://example.org/?code=***", "user_agent": "Mozilla/5.0 (X11)", "tls": true,
                "complete": true,
            })
        );
        assert!(text.ends_with("}\n"));
    }

    #[test]
    fn combined_is_what_log_readers_know() {
        let line = AccessLine { user: Some("ada l"), ..sample() };
        assert_eq!(
            written(Layout::Combined, &line),
            "203.0.113.7 - ada\\x20l [23/Nov/2026:21:58:43 +0000] \"GET /docs/?q=a&token=*** HTTP/2.0\" 200 1532 \
             \"https://example.org/?code=***\" \"Mozilla/5.0 (X11)\"\n"
        );
        let bare = AccessLine { referer: None, user_agent: None, ..sample() };
        assert!(written(Layout::Combined, &bare).ends_with("200 1532 \"-\" \"-\"\n"));
    }

    #[test]
    fn a_journal_record_has_its_fields_and_one_line_each() {
        let line = AccessLine { user_agent: Some(b"x\nPRIORITY=0"), ..sample() };
        let mut scratch = Scratch::new();
        let mut batch = scratch.format(Layout::Journal, &line).to_vec();
        batch.extend_from_slice(&batch.clone());
        let all: Vec<&[u8]> = records(&batch).collect();
        assert_eq!(all.len(), 2);
        let record = std::str::from_utf8(all[1]).unwrap();
        for expected in [
            "MESSAGE=GET example.org/docs/?q=a&token=*** 200 1532 B 345 µs",
            "REQUEST_ID=01JD",
            "STATUS=200",
            "DURATION_US=345",
            "CLIENT_IP=203.0.113.7",
            "MOUNT=/docs",
            "SYSLOG_IDENTIFIER=beacon",
            "PRIORITY=6",
        ] {
            assert!(record.lines().any(|field| field == expected), "{expected} is not in {record}");
        }
        assert_eq!(record.matches("\nPRIORITY=").count(), 1, "a client cannot add a field");
    }

    #[test]
    fn no_field_can_forge_a_line() {
        let nasty = "a\"}\r\n{\"status\":200} \u{1b}[2J\u{85}";
        let line = AccessLine {
            method: nasty,
            host: nasty,
            target: nasty,
            request_id: nasty,
            mount: nasty,
            user: Some(nasty),
            referer: Some(nasty.as_bytes()),
            user_agent: Some(b"\xff\n\0"),
            ..sample()
        };
        let json = written(Layout::Json, &line);
        assert_eq!(json.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["host"], nasty);
        assert_eq!(value["user_agent"], "\u{fffd}\n\0");
        let combined = written(Layout::Combined, &line);
        assert_eq!(combined.matches('\n').count(), 1);
        assert_eq!(combined.matches('"').count(), 6);
    }

    #[test]
    fn time_is_computed_anew_each_second() {
        let mut scratch = Scratch::new();
        for seconds in [1, 1, 2, 1] {
            let line = AccessLine { time: UNIX_EPOCH + Duration::from_secs(seconds), ..sample() };
            let text = String::from_utf8(scratch.format(Layout::Json, &line).to_vec()).unwrap();
            assert!(text.contains(&format!("1970-01-01T00:00:0{seconds}.000000Z")), "{text}");
        }
    }

    #[test]
    fn addresses_are_canonical_and_long_fields_are_cut() {
        let mapped = Ipv4Addr::new(10, 0, 200, 1).to_ipv6_mapped();
        let long = vec![b'x'; 100_000];
        let line = AccessLine { client: mapped.into(), user_agent: Some(&long), ..sample() };
        let text = written(Layout::Combined, &line);
        assert!(text.starts_with("10.0.200.1 - "), "{text}");
        assert!(text.len() < 2 * escape::MAX_FIELD);
        let six = AccessLine { client: Ipv6Addr::LOCALHOST.into(), ..sample() };
        assert!(written(Layout::Combined, &six).starts_with("::1 - "));
    }
}
