//! What every request must be before anything looks at it, in both protocols.
//!
//! hyper passes on requests without a host, with two, with user information, with any method name. Here each is either
//! well formed, with one meaning, or refused (RFC 9110 sections 4.2.4, 7.2, 9; RFC 9112 section 3.2; RFC 9113 section
//! 8.3.1).

use std::sync::Arc;

use http::header::{self, HeaderName};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, Version};

use super::client::{CLAIMS, Trusted};
use super::host::{self, Hosts};
use super::{Context, Limits, Peer, Problem, path};
use crate::id::RequestId;

/// What the ingress compares requests with.
pub struct Rules {
    /// The hosts that are served.
    pub hosts: Hosts,
    /// Who may speak for others.
    pub trusted: Trusted,
    /// Carries the request's identifier.
    pub id_header: HeaderName,
    /// Limits on the head.
    pub limits: Limits,
}

/// Headers that concern one connection (RFC 9110 section 7.6.1), besides those that Connection names.
static HOP_BY_HOP: [HeaderName; 6] = [
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
];

impl Rules {
    /// Checks a request and finds out whose it is. Headers that must not be believed are removed.
    ///
    /// # Errors
    /// What the client did wrong, and the identifier that the answer carries.
    pub fn admit(&self, parts: &mut Parts, peer: &Peer) -> Result<Context, (Problem, RequestId)> {
        let mut id = None;
        let (mut client, mut secure) = (peer.address, peer.secure);
        let trusted = self.trusted.contains(peer.address) || peer.local;
        if trusted {
            id = parts.headers.get(&self.id_header).and_then(|value| RequestId::parse(value.as_bytes()));
            let (address, encrypted) = self.trusted.read(peer.address, &parts.headers);
            client = address;
            secure = encrypted.unwrap_or(secure);
        }
        let id = id.unwrap_or_default();
        self.check(parts).map_err(|problem| (problem, id))?;
        let host = self.host(parts).map_err(|problem| (problem, id))?;
        let path = path::normalise(parts.uri.path()).map_err(|what| {
            (Problem::new(StatusCode::BAD_REQUEST, "bad_path", capital(what), "Send a plain path."), id)
        })?;
        self.strip(parts, trusted);
        Ok(Context { id, client, secure, host, path, mounted: 0, user: None })
    }

    /// Removes what concerns the connection alone, what a stranger must not claim, and names with an underscore, which
    /// other servers confuse with a dash.
    fn strip(&self, parts: &mut Parts, trusted: bool) {
        let headers = &mut parts.headers;
        let switches = headers.contains_key(header::CONNECTION) || headers.contains_key(header::UPGRADE);
        if switches && parts.version != Version::HTTP_2 {
            strip_connection(headers);
        }
        // Nearly every request has none of these: one look at each of its names is cheaper than a search for each of ours.
        let unwanted = |name: &HeaderName| {
            HOP_BY_HOP.contains(name)
                || name.as_str().contains('_')
                || (!trusted && (CLAIMS.contains(name) || *name == self.id_header))
        };
        if headers.keys().any(unwanted) {
            let names: Vec<HeaderName> = headers.keys().filter(|name| unwanted(name)).cloned().collect();
            for name in names {
                headers.remove(name);
            }
        }
    }

    fn check(&self, parts: &Parts) -> Result<(), Problem> {
        match parts.method {
            Method::GET
            | Method::HEAD
            | Method::POST
            | Method::PUT
            | Method::PATCH
            | Method::DELETE
            | Method::OPTIONS => {}
            Method::TRACE | Method::CONNECT => {
                return Err(Problem::new(
                    StatusCode::METHOD_NOT_ALLOWED,
                    "method_not_allowed",
                    "TRACE and CONNECT are not allowed here.",
                    "",
                ));
            }
            _ => {
                return Err(Problem::new(
                    StatusCode::NOT_IMPLEMENTED,
                    "method_not_implemented",
                    "The method is not known. Method names are upper case.",
                    "Use GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS.",
                ));
            }
        }
        let target = parts.uri.path_and_query().map_or(0, |target| target.as_str().len());
        if target > self.limits.uri_bytes {
            return Err(Problem::new(
                StatusCode::URI_TOO_LONG,
                "uri_too_long",
                "The address is too long.",
                "Send data in the body instead.",
            ));
        }
        if parts.version == Version::HTTP_2 {
            // HTTP/1.1 heads passed the gate, which counts by itself.
            let bytes: usize = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
            if parts.headers.len() > self.limits.header_count || bytes > self.limits.header_bytes {
                return Err(Problem::new(
                    StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                    "headers_too_large",
                    "The headers are too many or too large.",
                    "Remove cookies for this site and try again.",
                ));
            }
        }
        if let Some(expect) = parts.headers.get(header::EXPECT)
            && !expect.as_bytes().eq_ignore_ascii_case(b"100-continue")
        {
            return Err(Problem::new(
                StatusCode::EXPECTATION_FAILED,
                "expectation_failed",
                "No other expectation than 100-continue can be met.",
                "Leave the Expect header out.",
            ));
        }
        Ok(())
    }

    fn host(&self, parts: &Parts) -> Result<Arc<str>, Problem> {
        let bad = |what: &'static str| {
            Problem::new(StatusCode::BAD_REQUEST, "bad_host", capital(what), "Send one Host header with a plain name.")
        };
        let mut hosts = parts.headers.get_all(header::HOST).iter();
        let (first, second) = (hosts.next(), hosts.next());
        if second.is_some() {
            return Err(bad("the request has two hosts"));
        }
        let header = first.map(|value| host::parse(value.as_bytes())).transpose().map_err(bad)?;
        let authority = parts.uri.authority().map(|authority| host::parse(authority.as_str().as_bytes()));
        let name = match (header, authority.transpose().map_err(bad)?) {
            (Some(header), Some(authority)) if header != authority => {
                return Err(bad("the request names two different hosts"));
            }
            (Some(name), _) => name,
            // HTTP/1.1 and 1.0 alike need a Host header here; HTTP/2 has :authority.
            (None, Some(name)) if parts.version == Version::HTTP_2 => name,
            (None, _) => return Err(bad("the request has no host")),
        };
        self.hosts.find(&name).ok_or_else(|| {
            Problem::new(
                StatusCode::MISDIRECTED_REQUEST,
                "unknown_host",
                "This server does not serve the host that was asked for.",
                "Check the address. If this server is yours, add the host to http.hosts or to a mount.",
            )
        })
    }
}

/// Removes what Connection names, and all of an upgrade but to WebSocket.
fn strip_connection(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(','))
        .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
        .filter(|name| *name != header::UPGRADE && *name != header::CONNECTION)
        .collect();
    for name in named {
        headers.remove(name);
    }
    let websocket =
        headers.get(header::UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    if !websocket {
        headers.remove(header::UPGRADE);
        headers.remove(header::CONNECTION);
    }
}

/// A sentence from a phrase.
fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).chain(['.']).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admit(request: http::request::Builder, from: &str) -> Result<(Context, Parts), (u16, &'static str)> {
        let rules = Rules {
            hosts: Hosts::new(["example.org"]),
            trusted: Trusted::new(vec!["10.0.0.0/8".parse().unwrap()], false),
            id_header: HeaderName::from_static("x-request-id"),
            limits: Limits::default(),
        };
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        let peer = Peer { address: from.parse().unwrap(), secure: true, local: false };
        rules
            .admit(&mut parts, &peer)
            .map(|context| (context, parts))
            .map_err(|(problem, _)| (problem.status.as_u16(), problem.code))
    }

    fn get(uri: &str) -> http::request::Builder {
        http::Request::get(uri).header("host", "example.org")
    }

    #[test]
    fn a_plain_request_passes() {
        let (context, _) = admit(get("/a//b?x=%2e"), "203.0.113.9").unwrap();
        assert_eq!((&*context.host, &*context.path), ("example.org", "/a/b"));
        assert!(admit(get("http://example.org/x"), "203.0.113.9").is_ok());
        assert!(
            admit(http::Request::get("https://example.org/").version(Version::HTTP_2), "203.0.113.9").is_ok(),
            "HTTP/2 has an authority"
        );
    }

    #[test]
    fn hosts_and_methods_that_are_not_right_are_refused() {
        let from = "203.0.113.9";
        assert_eq!(admit(http::Request::get("/"), from).unwrap_err().0, 400);
        assert_eq!(admit(get("/").header("host", "example.org"), from).unwrap_err().0, 400);
        assert_eq!(admit(get("http://other.org/"), from).unwrap_err(), (400, "bad_host"));
        assert_eq!(admit(get("http://u:p@example.org/"), from).unwrap_err().0, 400);
        assert_eq!(admit(http::Request::get("/").header("host", "evil.org"), from).unwrap_err(), (421, "unknown_host"));
        assert_eq!(admit(get("/").method("TRACE"), from).unwrap_err().0, 405);
        assert_eq!(admit(get("/").method("get"), from).unwrap_err().0, 501);
        assert_eq!(admit(get("/").header("expect", "miracles"), from).unwrap_err().0, 417);
        assert_eq!(admit(get("/%2e%2e/x"), from).unwrap_err(), (400, "bad_path"));
        assert_eq!(admit(get(&format!("/{}", "a".repeat(33_000))), from).unwrap_err().0, 414);
    }

    #[test]
    fn strangers_cannot_claim_and_proxies_can() {
        let claim = || {
            get("/").header("x-forwarded-for", "6.6.6.6").header("x-request-id", "abc").header("x-real-ip", "6.6.6.6")
        };
        let (context, parts) = admit(claim(), "203.0.113.9").unwrap();
        assert_eq!(context.client.to_string(), "203.0.113.9");
        assert!(parts.headers.get("x-forwarded-for").is_none() && parts.headers.get("x-real-ip").is_none());
        assert_ne!(context.id.as_str(), "abc");
        let (context, _) = admit(claim().header("x-forwarded-proto", "http"), "10.0.0.1").unwrap();
        assert_eq!((context.client.to_string().as_str(), context.id.as_str()), ("6.6.6.6", "abc"));
        assert!(!context.secure);
    }

    #[test]
    fn what_concerns_the_connection_is_removed() {
        let request = get("/")
            .header("connection", "keep-alive, x-secret, upgrade")
            .header("x-secret", "1")
            .header("upgrade", "h2c")
            .header("http2-settings", "x")
            .header("te", "trailers")
            .header("x_under", "1");
        let (_, parts) = admit(request, "203.0.113.9").unwrap();
        assert_eq!(parts.headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["host"]);
        let websocket = get("/").header("connection", "Upgrade").header("upgrade", "websocket");
        let (_, parts) = admit(websocket, "203.0.113.9").unwrap();
        assert!(parts.headers.contains_key("upgrade"));
    }
}
