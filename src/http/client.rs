//! Who the client is: the connection's peer, or whom a trusted proxy says it is.
//!
//! A header that claims an address is believed only when the connection comes from a trusted proxy, and then only its
//! rightmost address that is not itself a trusted proxy: everything to the left of it was written by strangers.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::header::{FORWARDED, HeaderName};
use http::{HeaderMap, HeaderValue};
use ipnet::IpNet;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Headers by which a client could pretend to be another; removed unless a trusted proxy sent them.
pub static CLAIMS: [HeaderName; 6] = [
    X_FORWARDED_FOR,
    X_FORWARDED_PROTO,
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-real-ip"),
    FORWARDED,
];

/// Which addresses are trusted to speak for others.
#[derive(Clone, Debug, Default)]
pub struct Trusted {
    networks: Vec<IpNet>,
    standard: bool,
}

impl Trusted {
    /// Trusts `networks`; `standard` reads Forwarded (RFC 7239), otherwise X-Forwarded-For and X-Forwarded-Proto are
    /// read. Never both: a proxy writes one and passes the other on as the client sent it.
    #[must_use]
    pub fn new(networks: Vec<IpNet>, standard: bool) -> Self {
        Self { networks, standard }
    }

    /// Whether `address` is trusted.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        !self.networks.is_empty() && {
            let address = address.to_canonical();
            self.networks.iter().any(|network| network.contains(&address))
        }
    }

    /// The client's address and whether its connection is encrypted, as a trusted `peer` says; `None` for what it does
    /// not say.
    #[must_use]
    pub fn read(&self, peer: IpAddr, headers: &HeaderMap) -> (IpAddr, Option<bool>) {
        let (mut client, mut secure) = (peer, None);
        let hops = if self.standard { forwarded(headers) } else { x_forwarded(headers) };
        for hop in hops.iter().rev() {
            secure = hop.secure.or(secure);
            match hop.address {
                Some(address) => client = address,
                // "unknown" or an obfuscated name: nothing to the left of it can be told.
                None => break,
            }
            if !self.contains(client) {
                break;
            }
        }
        (client.to_canonical(), secure)
    }
}

struct Hop {
    address: Option<IpAddr>,
    secure: Option<bool>,
}

/// The members of a list header. One that is no text is an empty one, and does not hide those beside it.
fn list<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .into_iter()
        .flat_map(|value: &HeaderValue| value.as_bytes().split(|byte| *byte == b','))
        .map(|member| std::str::from_utf8(member).unwrap_or_default())
}

fn x_forwarded(headers: &HeaderMap) -> Vec<Hop> {
    let mut hops: Vec<Hop> =
        list(headers, &X_FORWARDED_FOR).map(|text| Hop { address: address(text.trim()), secure: None }).collect();
    let secure = list(headers, &X_FORWARDED_PROTO).last().map(|text| text.trim().eq_ignore_ascii_case("https"));
    match hops.last_mut() {
        Some(last) => last.secure = secure,
        None => hops.extend(secure.map(|secure| Hop { address: None, secure: Some(secure) })),
    }
    hops
}

fn forwarded(headers: &HeaderMap) -> Vec<Hop> {
    list(headers, &FORWARDED)
        .map(|element| {
            let mut hop = Hop { address: None, secure: None };
            for pair in element.split(';') {
                let Some((name, value)) = pair.trim().split_once('=') else { continue };
                let value = value.trim().trim_matches('"');
                if name.eq_ignore_ascii_case("for") {
                    hop.address = address(value);
                } else if name.eq_ignore_ascii_case("proto") {
                    hop.secure = Some(value.eq_ignore_ascii_case("https"));
                }
            }
            hop
        })
        .collect()
}

/// An address with or without port and brackets.
fn address(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address);
    }
    if let Ok(socket) = text.parse::<SocketAddr>() {
        return Some(socket.ip());
    }
    text.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(standard: bool, headers: &[(&'static str, &str)]) -> (String, Option<bool>) {
        let trusted = Trusted::new(vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()], standard);
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        let (client, secure) = trusted.read("10.0.0.1".parse().unwrap(), &map);
        (client.to_string(), secure)
    }

    #[test]
    fn the_rightmost_stranger_is_the_client() {
        let client = |value| read(false, &[("x-forwarded-for", value)]).0;
        assert_eq!(client("203.0.113.9"), "203.0.113.9");
        assert_eq!(client("6.6.6.6, 203.0.113.9, 10.2.3.4"), "203.0.113.9");
        assert_eq!(client("2001:db8::1"), "2001:db8::1");
        assert_eq!(client("203.0.113.9:4711, 10.1.1.1:80"), "203.0.113.9");
        assert_eq!(client("[2001:db8::1]:4711"), "2001:db8::1");
        assert_eq!(client("203.0.113.9, nonsense"), "10.0.0.1");
        assert_eq!(client("::ffff:203.0.113.9"), "203.0.113.9");
        assert_eq!(client(""), "10.0.0.1");
        let mut map = HeaderMap::new();
        map.insert("x-forwarded-for", HeaderValue::from_bytes(b"\xff, 203.0.113.9").unwrap());
        let trusted = Trusted::new(vec!["10.0.0.0/8".parse().unwrap()], false);
        assert_eq!(trusted.read("10.0.0.1".parse().unwrap(), &map).0.to_string(), "203.0.113.9");
        let split = [("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "203.0.113.9")];
        assert_eq!(read(false, &split).0, "203.0.113.9");
    }

    #[test]
    fn only_the_chosen_header_is_read() {
        let both = [("x-forwarded-for", "203.0.113.9"), ("forwarded", "for=6.6.6.6;proto=https")];
        assert_eq!(read(false, &both), ("203.0.113.9".into(), None));
        assert_eq!(read(true, &both), ("6.6.6.6".into(), Some(true)));
    }

    #[test]
    fn the_scheme_is_the_nearest_proxy_s_word() {
        let headers = [("x-forwarded-for", "203.0.113.9"), ("x-forwarded-proto", "http, https")];
        assert_eq!(read(false, &headers).1, Some(true));
        let standard = [("forwarded", "for=\"[2001:db8::1]:1234\";proto=http, for=10.9.9.9;proto=https")];
        assert_eq!(read(true, &standard).0, "2001:db8::1");
        assert_eq!(read(false, &[("x-forwarded-proto", "https")]), ("10.0.0.1".into(), Some(true)));
    }
}
