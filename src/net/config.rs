//! Configuration of the listening sockets: the section `[listen]`.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::Address;
use crate::error::Fault;

/// Where Beacon listens, for whom, and how many connections it takes.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Addresses that speak HTTPS. An address is "127.0.0.1:8443", "\[::1\]:8443", ":443" (every IPv4 and IPv6 address),
    /// "unix:/run/beacon/edge.sock", or "systemd:NAME" for a socket that systemd hands over under that name.
    pub https: Vec<String>,
    /// Addresses that speak plain HTTP: they answer ACME challenges and redirect everything else to HTTPS, unless
    /// http.redirect_to_https is off.
    pub http: Vec<String>,
    /// Addresses for /healthz, /readyz and /metrics. Plain HTTP; keep them off the internet.
    pub operations: Vec<String>,
    /// Addresses and networks of proxies whose X-Forwarded-For, X-Forwarded-Proto, Forwarded and X-Request-Id are
    /// believed. From anyone else these headers are removed.
    pub trusted_proxies: Vec<IpNet>,
    /// The header in which those proxies name the client: "x-forwarded-for" (with X-Forwarded-Proto) or "forwarded"
    /// (RFC 7239). The other one is not read, because a proxy passes it on as the client sent it.
    pub forwarded_header: ForwardedHeader,
    /// Addresses and networks that must begin each connection with a PROXY protocol header (version 1 or 2). From
    /// anyone else such a header is bad input. Not asked for on the operations listener.
    pub proxy_protocol: Vec<IpNet>,
    /// The most connections at a time, on all listeners; more wait in the kernel's queue.
    pub max_connections: usize,
    /// The most connections at a time from one client address (IPv6: from one /64). Trusted proxies are exempt. 0 is no
    /// limit.
    pub max_connections_per_client: usize,
}

/// The header in which a trusted proxy names the client.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardedHeader {
    /// X-Forwarded-For and X-Forwarded-Proto.
    #[default]
    XForwardedFor,
    /// Forwarded.
    Forwarded,
}

impl Default for Config {
    fn default() -> Self {
        let local = |port: u16| vec![format!("127.0.0.1:{port}"), format!("[::1]:{port}")];
        Self {
            https: local(8443),
            http: local(8080),
            operations: vec!["127.0.0.1:9464".into()],
            trusted_proxies: Vec::new(),
            forwarded_header: ForwardedHeader::default(),
            proxy_protocol: Vec::new(),
            max_connections: 10_000,
            max_connections_per_client: 512,
        }
    }
}

impl Config {
    /// What is wrong with the values.
    #[must_use]
    pub fn validate(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        for (key, list) in [("https", &self.https), ("http", &self.http), ("operations", &self.operations)] {
            for text in list {
                if let Err(problem) = text.parse::<Address>() {
                    faults.push(Fault::new(
                        key,
                        problem,
                        "Use \"127.0.0.1:8443\", \"[::1]:8443\", \":443\", \"unix:/path\" or \"systemd:NAME\".",
                    ));
                }
            }
        }
        if self.https.is_empty() && self.http.is_empty() {
            faults.push(Fault::new("https", "no address to listen on", "Give at least one address, as in [\":443\"]."));
        }
        if self.max_connections == 0 {
            faults.push(Fault::new("max_connections", "0 connections serve nobody", "Use 1 or more."));
        }
        faults
    }
}
