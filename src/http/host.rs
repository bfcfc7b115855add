//! The host of a request: read strictly, and compared with the names that are served.

use std::collections::HashSet;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// The host names that are served.
#[derive(Clone, Debug, Default)]
pub struct Hosts {
    exact: HashSet<Arc<str>>,
    /// Parents of wildcards: "example.org" for "*.example.org".
    parents: HashSet<Arc<str>>,
    any: bool,
}

/// Reads a Host header or `:authority`: a name or address, and perhaps a port. Gives the host in lower case without
/// port and final dot, borrowed if it was in that form already.
///
/// # Errors
/// What is wrong with it (RFC 9110 section 7.2, RFC 3986 section 3.2.2; no user information, no escapes).
pub fn parse(text: &[u8]) -> Result<std::borrow::Cow<'_, str>, &'static str> {
    let text = std::str::from_utf8(text).map_err(|_| "the host is not ASCII")?;
    let (host, port) = if text.starts_with('[') {
        let end = text.find(']').ok_or("the host has an opening bracket alone")?;
        let (host, rest) = text.split_at(end + 1);
        host[1..end].parse::<Ipv6Addr>().map_err(|_| "the host is not an IPv6 address")?;
        (host, rest)
    } else {
        text.split_at(text.bytes().position(|byte| byte == b':').unwrap_or(text.len()))
    };
    match port.strip_prefix(':') {
        None if port.is_empty() => {}
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.len() <= 5 => {
            if !digits.is_empty() && digits.parse::<u16>().is_err() {
                return Err("the host's port is beyond 65535");
            }
        }
        _ => return Err("the host's port is not a number"),
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.is_empty() || host.len() > 253 {
        return Err("the host is empty or too long");
    }
    let (mut capitals, mut numeric, mut before) = (false, true, b'.');
    for byte in host.bytes() {
        match byte {
            b'A'..=b'Z' => capitals = true,
            b'.' if before == b'.' => return Err("the host has an empty label"),
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' => {}
            // An address in brackets was read whole.
            _ if host.starts_with('[') => {}
            _ => return Err("the host has a character that no host name has"),
        }
        numeric &= matches!(byte, b'0'..=b'9' | b'.');
        before = byte;
    }
    // What looks like an IPv4 address must be one.
    if numeric && host.parse::<Ipv4Addr>().is_err() {
        return Err("the host is not an IPv4 address");
    }
    Ok(if capitals { host.to_ascii_lowercase().into() } else { host.into() })
}

impl Hosts {
    /// The names; "*" is every name, "*.example.org" every name one label below.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut hosts = Self::default();
        for name in names {
            let name = name.to_ascii_lowercase();
            if name == "*" || name.is_empty() {
                hosts.any |= name == "*";
            } else if let Some(parent) = name.strip_prefix("*.") {
                hosts.parents.insert(Arc::from(parent));
            } else {
                hosts.exact.insert(Arc::from(name));
            }
        }
        hosts
    }

    /// The name to keep for `host`, if it is served. Names that are listed one by one cost no allocation.
    #[must_use]
    pub fn find(&self, host: &str) -> Option<Arc<str>> {
        if let Some(name) = self.exact.get(host) {
            return Some(name.clone());
        }
        let below = host.split_once('.').is_some_and(|(_, parent)| self.parents.contains(parent));
        (self.any || below).then(|| Arc::from(host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_strictly() {
        for (text, host) in [
            ("example.org", "example.org"),
            ("EXAMPLE.org:443", "example.org"),
            ("example.org.", "example.org"),
            ("127.0.0.1:8443", "127.0.0.1"),
            ("[::1]:8443", "[::1]"),
            ("a_b.test", "a_b.test"),
            ("example.org:", "example.org"),
        ] {
            assert_eq!(parse(text.as_bytes()).as_deref(), Ok(host), "{text}");
        }
        for bad in [
            "",
            ".",
            ":80",
            "a/b",
            "a@b",
            "u:p@h",
            "a b",
            "a,b",
            "[::1",
            "[::1]x",
            "[zz]",
            "a:b",
            "a:99999",
            "1.2.3",
            "256.1.1.1",
            "é",
            "a..b",
            ".a",
            "a%2eb",
            "a?b",
            "a#b",
            "a\\b",
        ] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(parse(b"\xff").is_err());
    }

    #[test]
    fn only_served_names_are_found() {
        let hosts = Hosts::new(["example.org", "*.apps.example.org"]);
        assert!(hosts.find("example.org").is_some());
        assert!(hosts.find("x.apps.example.org").is_some());
        for other in ["apps.example.org", "a.b.apps.example.org", "evil.org", "xexample.org", "*"] {
            assert!(hosts.find(other).is_none(), "{other}");
        }
        assert!(Hosts::new(["*"]).find("anything.test").is_some());
    }
}
