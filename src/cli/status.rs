//! `beacon status`

use std::fmt::Write as _;
use std::time::Duration;

use clap::Args;
use http::{Method, StatusCode};
use serde::Serialize;

use super::reload::{is_gone, none_runs, sockets, unreachable};
use super::{Failure, output};
use crate::app::{self, CertificateStatus, Phase, Status};
use crate::config::Sources;

/// Shows what runs: version, slot, listeners, certificates, connections
///
/// The exit code is 0 if a Beacon serves, and 69 if none does.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  beacon status
  beacon status --json | jq '.slots[].certificates[].days_left'")]
pub(super) struct StatusCommand {
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

impl StatusCommand {
    pub(super) fn run(self, sources: &Sources) -> Result<(), Failure> {
        let slots = running(sources)?;
        if self.json {
            let text = serde_json::to_string_pretty(&Slots { slots: &slots }).map_err(std::io::Error::from)?;
            output::print(&format!("{text}\n"))?;
        } else if !slots.is_empty() {
            output::print(&slots.iter().map(text).collect::<Vec<_>>().join("\n"))?;
        }
        match slots.iter().any(|slot| slot.state == Phase::Serving) {
            true => Ok(()),
            false if slots.is_empty() => Err(none_runs()),
            false => Err(Failure::Unavailable("the Beacon that runs here is stopping.".into())),
        }
    }
}

/// The answer as JSON; its keys keep their order, so that a script can read it line by line.
#[derive(Serialize)]
struct Slots<'a> {
    slots: &'a [Status],
}

/// Every Beacon that runs here.
pub(super) fn running(sources: &Sources) -> Result<Vec<Status>, Failure> {
    let mut slots = Vec::new();
    for place in sockets(None, sources) {
        match app::ask(&place, Method::GET, "/status") {
            Ok((StatusCode::OK, body)) => match serde_json::from_str::<Status>(&body) {
                Ok(status) => slots.push(status),
                Err(error) => return Err(unreachable(&place, &error.into())),
            },
            Ok((status, _)) => return Err(unreachable(&place, &std::io::Error::other(status.to_string()))),
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(unreachable(&place, &error)),
        }
    }
    Ok(slots)
}

fn text(status: &Status) -> String {
    let name = status.slot.as_ref().map_or_else(|| "beacon".to_owned(), |slot| format!("beacon@{slot}"));
    let phase = match status.state {
        Phase::Serving => "serving",
        Phase::Stopping => "stopping",
    };
    let uptime = humantime::format_duration(Duration::from_secs(status.uptime_seconds));
    let mut out = format!("{name}  {phase}, version {}, process {}, for {uptime}\n", status.version, status.pid);
    let mut row = |title: &str, text: &str| {
        let _ = writeln!(out, "  {title:<13} {text}");
    };
    for (at, listener) in status.listeners.iter().enumerate() {
        row(if at == 0 { "listeners" } else { "" }, &format!("{:<11} {}", listener.role, listener.address));
    }
    for (at, certificate) in status.certificates.iter().enumerate() {
        row(if at == 0 { "certificates" } else { "" }, &certificate_text(certificate));
    }
    row("connections", &status.connections.to_string());
    for (at, component) in status.components.iter().enumerate() {
        let detail = component.detail.as_ref().map(|detail| format!(": {detail}")).unwrap_or_default();
        row(if at == 0 { "components" } else { "" }, &format!("{} {}{detail}", component.name, component.state));
    }
    if let Some(reason) = &status.refused_reload {
        row("last reload", &format!("refused: {}", reason.replace('\n', "\n                ")));
    }
    out
}

fn certificate_text(certificate: &CertificateStatus) -> String {
    let left = match certificate.days_left {
        None => "not issued yet".to_owned(),
        Some(days) if days < 0 => format!("EXPIRED {} days ago", -days),
        Some(1) => "1 day left".to_owned(),
        Some(days) => format!("{days} days left"),
    };
    let error = certificate.error.as_ref().map(|error| format!("; last attempt failed: {error}")).unwrap_or_default();
    format!("{} ({}), {left}{error}", certificate.names.join(", "), certificate.source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_tells_how_long_it_lasts() {
        let certificate = |days_left| CertificateStatus {
            names: vec!["a.test".into(), "b.test".into()],
            source: "acme".into(),
            days_left,
            error: None,
        };
        assert_eq!(certificate_text(&certificate(Some(71))), "a.test, b.test (acme), 71 days left");
        assert_eq!(certificate_text(&certificate(Some(-3))), "a.test, b.test (acme), EXPIRED 3 days ago");
        assert_eq!(certificate_text(&certificate(None)), "a.test, b.test (acme), not issued yet");
    }
}
