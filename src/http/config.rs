//! Configuration of HTTP: the section `[http]`, and the limits that a mount may set for itself.

use std::time::Duration;

use http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use crate::clock::duration;
use crate::error::Fault;

/// Hosts, redirect, headers, limits and deadlines.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The host names that are served besides those of mounts, tls.acme.domains and tls.self_signed.names; a request
    /// for another one gets status 421. "*.example.org" is every name one label below; "*" is every name.
    pub hosts: Vec<String>,
    /// Answers plain HTTP with a redirect to HTTPS. Off: the listeners in listen.http serve the mounts too.
    pub redirect_to_https: bool,
    /// The port named in that redirect; 0 takes the port of the first address in listen.https.
    pub https_port: u16,
    /// How long browsers remember to use HTTPS only (Strict-Transport-Security). "0s" sends no such header.
    #[serde(with = "duration")]
    pub hsts: Duration,
    /// Extends that to all subdomains.
    pub hsts_subdomains: bool,
    /// The header that carries the request's identifier, in responses and from trusted proxies.
    pub request_id_header: String,
    /// Limits on what a client may send.
    pub limits: Limits,
    /// Deadlines for a client that is slow.
    pub timeouts: Timeouts,
    /// The rate of requests from one client address (IPv6: one /64).
    pub rate: Rate,
    /// Compression of responses that are not compressed yet.
    pub compression: Compression,
    /// Headers added to every response that does not have them; a value of "" leaves one out.
    pub headers: SecurityHeaders,
}

/// Limits on what a client may send.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// The largest request head (request line and headers) in bytes, 1,024 to 1,048,576. Beyond: 431.
    pub header_bytes: usize,
    /// The most headers in a request, 10 to 1,000. Beyond: 431.
    pub header_count: usize,
    /// The longest request target in bytes, 256 to 65,534. Beyond: 414.
    pub uri_bytes: usize,
    /// The largest request body in bytes, unless a mount sets its own. Beyond: 413.
    pub body_bytes: u64,
    /// The most requests at a time on one HTTP/2 connection.
    pub h2_streams: u32,
    /// The most resets, pings, settings, unknown and empty frames that a client may send on one HTTP/2 connection in 10
    /// seconds. Beyond: the connection is closed.
    pub h2_control_frames: u32,
}

/// Deadlines for a client that is slow.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    /// For the TLS handshake, and for a PROXY protocol header.
    #[serde(with = "duration")]
    pub handshake: Duration,
    /// From the first byte of a request to the end of its head. Beyond: 408.
    #[serde(with = "duration")]
    pub header: Duration,
    /// For the first request on a new connection to begin.
    #[serde(with = "duration")]
    pub first_byte: Duration,
    /// Between requests. Keep it above the idle timeout of a load balancer in front (AWS: 60 s).
    #[serde(with = "duration")]
    pub idle: Duration,
    /// How long a client may stall while it sends a body or takes a response, before the rate below is asked of it.
    #[serde(with = "duration")]
    pub stall: Duration,
    /// The least rate, in bytes a second, over each such period. Slower: 408, or the response is cut.
    pub min_rate: u32,
    /// For a handler to begin its response. Beyond: 503.
    #[serde(with = "duration")]
    pub handler: Duration,
}

/// A token bucket.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Rate {
    /// Requests a second in the long run; 0 is no limit. Beyond: 429 with Retry-After.
    pub per_second: u32,
    /// Requests that may come at once; 0 is twice per_second.
    pub burst: u32,
}

/// Compression of responses that are not compressed yet.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Compression {
    /// Compresses text with br, zstd or gzip, as the client prefers.
    pub enabled: bool,
    /// Bodies smaller than this many bytes are sent as they are.
    pub min_bytes: u64,
}

/// Headers added to every response that does not have them.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct SecurityHeaders {
    /// X-Content-Type-Options.
    pub content_type_options: String,
    /// X-Frame-Options.
    pub frame_options: String,
    /// Referrer-Policy.
    pub referrer_policy: String,
    /// Cross-Origin-Opener-Policy.
    pub cross_origin_opener_policy: String,
    /// Permissions-Policy.
    pub permissions_policy: String,
    /// Content-Security-Policy. The documentation sets its own; a site's needs are its own, so the default is none.
    pub content_security_policy: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            hosts: ["localhost", "*.localhost", "127.0.0.1", "[::1]"].map(Into::into).into(),
            redirect_to_https: true,
            https_port: 0,
            hsts: Duration::ZERO,
            hsts_subdomains: false,
            request_id_header: "x-request-id".into(),
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            rate: Rate::default(),
            compression: Compression::default(),
            headers: SecurityHeaders::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_bytes: 65_536,
            header_count: 100,
            uri_bytes: 32_768,
            body_bytes: 10_485_760,
            h2_streams: 128,
            h2_control_frames: 1_000,
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            header: Duration::from_secs(10),
            first_byte: Duration::from_secs(15),
            idle: Duration::from_secs(75),
            stall: Duration::from_secs(30),
            min_rate: 500,
            handler: Duration::from_mins(1),
        }
    }
}

impl Default for Compression {
    fn default() -> Self {
        Self { enabled: true, min_bytes: 1_024 }
    }
}

impl Default for SecurityHeaders {
    fn default() -> Self {
        Self {
            content_type_options: USUAL[0].into(),
            frame_options: USUAL[1].into(),
            referrer_policy: USUAL[2].into(),
            cross_origin_opener_policy: USUAL[3].into(),
            permissions_policy: String::new(),
            content_security_policy: String::new(),
        }
    }
}

impl Rate {
    /// Whether requests are limited at all.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        self.per_second > 0
    }
}

impl Config {
    /// What is wrong with the values.
    #[must_use]
    pub fn validate(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let limits = &self.limits;
        let mut range = |key: &str, value: usize, low: usize, high: usize| {
            if !(low..=high).contains(&value) {
                faults.push(Fault::new(key, format!("{value} is out of range"), format!("Use {low} to {high}.")));
            }
        };
        range("limits.header_bytes", limits.header_bytes, 1_024, 1_048_576);
        range("limits.header_count", limits.header_count, 10, 1_000);
        range("limits.uri_bytes", limits.uri_bytes, 256, 65_534);
        range("limits.h2_streams", limits.h2_streams as usize, 1, 10_000);
        range("limits.h2_control_frames", limits.h2_control_frames as usize, 10, 1_000_000);
        let waits = &self.timeouts;
        for (key, value) in [
            ("timeouts.handshake", waits.handshake),
            ("timeouts.header", waits.header),
            ("timeouts.first_byte", waits.first_byte),
            ("timeouts.idle", waits.idle),
            ("timeouts.stall", waits.stall),
            ("timeouts.handler", waits.handler),
        ] {
            if value.is_zero() {
                faults.push(Fault::new(key, "a deadline of zero refuses everything", "Use at least \"1s\"."));
            }
        }
        if HeaderName::try_from(self.request_id_header.as_str()).is_err() {
            faults.push(Fault::new(
                "request_id_header",
                format!("\"{}\" is not a header name", self.request_id_header),
                "Use a name such as \"x-request-id\".",
            ));
        }
        for (name, value) in self.headers.list() {
            if HeaderValue::try_from(value).is_err() {
                faults.push(Fault::new(
                    format!("headers.{}", name.replace('-', "_")),
                    "has a character that a header cannot carry",
                    "Use visible ASCII characters.",
                ));
            }
        }
        faults
    }
}

/// The defaults of [`SecurityHeaders`].
const USUAL: [&str; 4] = ["nosniff", "SAMEORIGIN", "strict-origin-when-cross-origin", "same-origin"];

impl SecurityHeaders {
    /// The headers that are sent. The usual values are static: a count of references for each, which all cores change at
    /// every response, costs more than the header.
    pub fn values(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        self.list().into_iter().filter(|(_, value)| !value.is_empty()).filter_map(|(name, value)| {
            let value = match USUAL.iter().find(|usual| **usual == value) {
                Some(usual) => HeaderValue::from_static(usual),
                None => HeaderValue::try_from(value).ok()?,
            };
            Some((HeaderName::from_static(name), value))
        })
    }

    /// The headers by name, those left out as well.
    #[must_use]
    pub fn list(&self) -> [(&'static str, &str); 6] {
        [
            ("x-content-type-options", &self.content_type_options),
            ("x-frame-options", &self.frame_options),
            ("referrer-policy", &self.referrer_policy),
            ("cross-origin-opener-policy", &self.cross_origin_opener_policy),
            ("permissions-policy", &self.permissions_policy),
            ("content-security-policy", &self.content_security_policy),
        ]
    }
}
