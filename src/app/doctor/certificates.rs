//! Certificates: how long they last, and whether an ACME authority can validate.

use super::{Report, Status};
use crate::config::Config;
use crate::net::Address;

/// Days before the end at which a renewal should have happened long ago.
const SOON: i64 = 14;

/// What the running processes show in handshakes.
pub(super) fn examine(report: &mut Report, running: &[Status]) {
    let mut seen = Vec::new();
    for certificate in running.iter().flat_map(|status| &status.certificates) {
        if seen.contains(&certificate) {
            continue;
        }
        seen.push(certificate);
        let name = format!("{} ({})", certificate.names.join(", "), certificate.source);
        if let Some(error) = &certificate.error {
            report.warn(
                "certificates",
                format!("{name}: the last attempt failed: {error}"),
                "The old one goes on serving.",
            );
        }
        let renew = match certificate.source.as_str() {
            "acme" | "self-signed" => "It should have been renewed by itself: see the log.",
            _ => "Put a new one in its place; it is taken up within a second.",
        };
        match certificate.days_left {
            None => report.warn(
                "certificates",
                format!("{name}: not issued yet"),
                "See the log for what the authority says.",
            ),
            Some(days) if days < 0 => report.fail("certificates", format!("{name}: expired {} days ago", -days), renew),
            Some(days) if days < SOON => report.warn("certificates", format!("{name}: {days} days left"), renew),
            Some(days) => report.ok("certificates", format!("{name}: {days} days left")),
        }
    }
}

/// An authority comes by port 443 (tls-alpn-01) or 80 (http-01) and by no other.
pub(super) fn challenges(report: &mut Report, config: &Config) {
    if config.tls.acme.domains.is_empty() {
        return;
    }
    let has = |list: &[String], port: u16| {
        list.iter().any(|text| match text.parse() {
            Ok(Address::Tcp(address)) => address.port() == port,
            // systemd's socket has the port that its unit says.
            Ok(Address::Systemd(_)) => true,
            Ok(Address::Unix(_)) | Err(_) => false,
        })
    };
    if has(&config.listen.https, 443) || has(&config.listen.http, 80) {
        report.ok("ACME", "the authority can come by port 443 or 80");
    } else {
        report.warn(
            "ACME",
            "Beacon listens neither on port 443 nor on 80, where the authority looks",
            "Add \":443\" to listen.https, unless something in front forwards the port.",
        );
    }
}
