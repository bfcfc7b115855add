//! Names: whether what this host is called, and whom it talks to, is found.

use std::net::{IpAddr, TcpStream, ToSocketAddrs as _};
use std::sync::mpsc;
use std::time::Duration;

use super::Report;
use crate::config::Config;

/// How long a look-up or a connection may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The names that certificates are ordered for, and the authority's own.
pub(super) fn examine(report: &mut Report, config: &Config) {
    let acme = &config.tls.acme;
    for domain in &acme.domains {
        match look_up(domain.trim_start_matches("*."), 443) {
            Ok(addresses) => {
                let list = |v6: bool| addresses.iter().any(|address| address.is_ipv6() == v6);
                let families = match (list(false), list(true)) {
                    (true, true) => "by IPv4 and IPv6",
                    (true, false) => "by IPv4",
                    _ => "by IPv6",
                };
                report.ok("names", format!("{domain} is found {families}"));
            }
            Err(error) => report.fail(
                "names",
                format!("{domain} is not found: {error}"),
                "Set its A (and AAAA) record to this host's public address, or wait until it is known.",
            ),
        }
    }
    if acme.domains.is_empty() {
        return;
    }
    let Some(uri) = acme.directory_url().parse::<http::Uri>().ok() else { return };
    let (Some(host), port) = (uri.host(), uri.port_u16().unwrap_or(443)) else { return };
    match look_up(host, port).and_then(|addresses| {
        let reached =
            addresses.iter().any(|address| TcpStream::connect_timeout(&(*address, port).into(), PATIENCE).is_ok());
        if reached { Ok(()) } else { Err("no connection".to_owned()) }
    }) {
        Ok(()) => report.ok("ACME", format!("{host} can be reached")),
        Err(error) => report.warn(
            "ACME",
            format!("{host} cannot be reached: {error}"),
            "Allow connections to its port 443 (security group, firewall). What is issued already goes on serving.",
        ),
    }
}

/// The addresses of a name. The resolver has no deadline of its own, so it is asked in a thread that may stay behind.
fn look_up(host: &str, port: u16) -> Result<Vec<IpAddr>, String> {
    let (sender, receiver) = mpsc::channel();
    let name = host.to_owned();
    std::thread::spawn(move || {
        let found = (name.as_str(), port).to_socket_addrs();
        let _ = sender.send(found.map(|list| list.map(|address| address.ip()).collect::<Vec<_>>()));
    });
    match receiver.recv_timeout(PATIENCE) {
        Ok(Ok(addresses)) if !addresses.is_empty() => Ok(addresses),
        Ok(Ok(_)) => Err("it has no address".into()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no name server answers".into()),
    }
}
