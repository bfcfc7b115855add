//! systemd's units and the processes that run: versions, sockets, drift, open files.

use std::fs;
use std::time::Duration;

use super::{Report, Status};
use crate::config::Config;
use crate::net::Address;
use crate::systemd::{SLOTS, Unit, systemctl};

/// The oldest systemd that has what the units ask for.
const OLDEST: u32 = 252;
/// The sockets of the package.
const SOCKETS: [&str; 3] = ["beacon-http.socket", "beacon-https.socket", "beacon-operations.socket"];
/// How long systemctl may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What systemd says.
pub(super) fn examine(report: &mut Report, running: &[Status], config: Option<&Config>) {
    let Some(version) = systemctl_says(&["--version"]).as_deref().and_then(version_of) else {
        report.warn("systemd", "systemctl does not answer", "See `systemctl status`.");
        return;
    };
    if version < OLDEST {
        report.fail(
            "systemd",
            format!("version {version} does not know what the units ask for"),
            "Use Debian 12, Ubuntu 24.04 or later (systemd 252).",
        );
    }
    let first = &Unit::of(SLOTS[0]).name;
    let Some(shown) =
        systemctl_says(&["show", "--property=LoadState,UnitFileState,NeedDaemonReload,DropInPaths", first])
    else {
        return;
    };
    if value(&shown, "LoadState") != "loaded" {
        // Not installed from the package: nothing of it can drift.
        return;
    }
    if value(&shown, "NeedDaemonReload") == "yes" {
        report.warn("units", format!("{first} has changed since systemd read it"), "Run: systemctl daemon-reload");
    }
    if value(&shown, "UnitFileState") != "enabled" {
        report.warn(
            "units",
            format!("{first} does not start with this machine"),
            format!("Run: systemctl enable {first}"),
        );
    }
    match value(&shown, "DropInPaths") {
        "" => report.ok("units", format!("systemd {version}; {first} is as the package has it")),
        paths => report.ok("units", format!("systemd {version}; {first} is changed by {paths}")),
    }
    if let Some(config) = config {
        own_addresses(report, config);
    }
    for socket in SOCKETS {
        let state = systemctl_says(&["show", "--property=ActiveState", socket]).unwrap_or_default();
        match value(&state, "ActiveState") {
            "active" => report.ok("sockets", format!("{socket} listens")),
            other => report.fail(
                "sockets",
                format!("{socket} is {other}"),
                format!("Run: systemctl start {socket}; if it fails, another program has the port: ss -ltnp"),
            ),
        }
    }
    if running.is_empty() {
        let fix = format!("Run: systemctl start {first}, and see journalctl -u {first} if it fails.");
        report.fail("processes", "no Beacon runs", fix);
    }
}

/// An address that Beacon opens itself cannot be handed over: the new slot finds it taken by the old one.
fn own_addresses(report: &mut Report, config: &Config) {
    let listen = &config.listen;
    for (key, list) in [("https", &listen.https), ("http", &listen.http), ("operations", &listen.operations)] {
        for text in list.iter().filter(|text| !matches!(text.parse(), Ok(Address::Systemd(_)))) {
            report.fail(
                "listen",
                format!("listen.{key} has \"{text}\", which Beacon opens itself: no hand-over can succeed"),
                format!(
                    "Add the address to the socket unit (systemctl edit beacon-{key}.socket), and leave \"systemd:{key}\" here."
                ),
            );
        }
    }
}

/// What runs.
pub(super) fn processes(report: &mut Report, running: &[Status], config: Option<&Config>) {
    for status in running {
        let name = status.slot.as_ref().map_or_else(|| "beacon".to_owned(), |slot| format!("beacon@{slot}"));
        if status.version == env!("CARGO_PKG_VERSION") {
            report.ok("processes", format!("{name} runs version {}", status.version));
        } else {
            report.warn(
                "processes",
                format!("{name} runs version {}, and {} is installed", status.version, env!("CARGO_PKG_VERSION")),
                "Run: beacon handover",
            );
        }
        if let Some(reason) = &status.refused_reload {
            report.warn("processes", format!("{name} refused its last reload: {reason}"), "Mend it, and reload again.");
        }
        for part in status.components.iter().filter(|part| part.state != "ok") {
            let detail = part.detail.as_deref().unwrap_or_default();
            report.warn("processes", format!("{name}: {} is {} {detail}", part.name, part.state), "See its log.");
        }
        if let (Some(config), Some(files)) = (config, open_files(status.pid)) {
            let most = config.listen.max_connections as u64;
            if files < most + 256 {
                report.warn(
                    "open files",
                    format!("{name} may have {files} files open, and listen.max_connections allows {most} connections"),
                    "Raise LimitNOFILE= in the unit, or lower listen.max_connections.",
                );
            }
        }
    }
    if running.iter().filter(|status| status.slot.is_some()).count() > 1 {
        report.warn("processes", "both slots serve: a hand-over did not end", "Run: beacon handover");
    }
}

fn open_files(pid: u32) -> Option<u64> {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn systemctl_says(words: &[&str]) -> Option<String> {
    let output = systemctl(words, PATIENCE).ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn value<'a>(text: &'a str, key: &str) -> &'a str {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap_or_default()
}

/// From "systemd 252 (252.39-1~deb12u1)".
fn version_of(text: &str) -> Option<u32> {
    text.split_whitespace().nth(1)?.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_values_are_read() {
        assert_eq!(version_of("systemd 252 (252.39-1~deb12u1)\n+PAM"), Some(252));
        assert_eq!(version_of("systemd 257.9 (257.9-1)"), Some(257));
        assert_eq!(version_of(""), None);
        assert_eq!(value("LoadState=loaded\nDropInPaths=/a /b\n", "DropInPaths"), "/a /b");
        assert!(open_files(std::process::id()).is_some_and(|files| files > 0));
    }
}
