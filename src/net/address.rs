//! The text form of an address to listen on.

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// An IP address and port. The IPv6 wildcard takes IPv4 connections too.
    Tcp(SocketAddr),
    /// A Unix socket at an absolute path.
    Unix(PathBuf),
    /// A socket that systemd made and hands over under this name (`FileDescriptorName=`).
    Systemd(String),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.starts_with('/') && path.len() < 108 {
                Ok(Self::Unix(path.into()))
            } else {
                Err(format!("\"{text}\" needs an absolute path of at most 107 bytes"))
            };
        }
        if let Some(name) = text.strip_prefix("systemd:") {
            return if name.is_empty() {
                Err("\"systemd:\" needs a socket's name".into())
            } else {
                Ok(Self::Systemd(name.into()))
            };
        }
        if let Some(port) = text.strip_prefix(':') {
            return port
                .parse()
                .map(|port| Self::Tcp(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))))
                .map_err(|_| format!("\"{text}\" has no port from 0 to 65535"));
        }
        text.parse().map(Self::Tcp).map_err(|_| format!("\"{text}\" is not an address with a port"))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(out),
            Self::Unix(path) => write!(out, "unix:{}", path.display()),
            Self::Systemd(name) => write!(out, "systemd:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_reads_and_prints() {
        for (text, shown) in [
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("[::1]:80", "[::1]:80"),
            (":443", "[::]:443"),
            ("unix:/run/x.sock", "unix:/run/x.sock"),
            ("systemd:https", "systemd:https"),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn a_bad_address_is_named() {
        for bad in ["localhost:80", "80", ":99999", "unix:relative", "systemd:", "1.2.3.4"] {
            let problem = bad.parse::<Address>().unwrap_err();
            assert!(problem.contains(bad), "{problem}");
        }
    }
}
