//! The host: folders, disks, the clock.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::Report;

/// Below this much free space writing will soon fail, in bytes.
const LITTLE: u64 = 64 << 20;
/// Below this much it is time to look, in bytes.
const SCARCE: u64 = 1 << 30;

/// The state folder holds keys: it is there, and for its owner alone.
pub(super) fn state_folder(report: &mut Report, path: &Path) {
    let shown = path.display();
    match fs::metadata(path) {
        Ok(metadata) if metadata.permissions().mode() & 0o077 != 0 => report.warn(
            "state folder",
            format!("{shown} can be entered by others, and holds private keys"),
            format!("Run: chmod 700 {shown}"),
        ),
        Ok(_) => report.ok("state folder", format!("{shown} is for its owner alone")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            report.ok("state folder", format!("{shown} will be made by the first start"));
        }
        Err(error) => report.fail(
            "state folder",
            format!("{shown} cannot be looked at: {error}"),
            "Run this as root, or as the user that Beacon runs as.",
        ),
    }
}

/// The disk of a folder that Beacon writes to has room.
pub(super) fn free_space(report: &mut Report, folder: &Path) {
    let Some(there) = folder.ancestors().find(|folder| folder.exists()) else { return };
    let shown = folder.display();
    match rustix::fs::statvfs(there) {
        Ok(disk) => {
            let free = disk.f_bavail * disk.f_frsize;
            let text = format!("{} MiB are free for {shown}", free >> 20);
            if free < LITTLE {
                report.fail("disk", text, "Make room: certificates and logs cannot be written soon.");
            } else if disk.f_files > 0 && disk.f_favail == 0 {
                report.fail("disk", format!("no inodes are free for {shown}"), "Remove files that nobody needs.");
            } else if free < SCARCE {
                report.warn("disk", text, "Make room, or give the disk more.");
            } else {
                report.ok("disk", text);
            }
        }
        Err(error) => report.warn(
            "disk",
            format!("the room for {shown} cannot be told: {error}"),
            "Run this as root, or as the user that Beacon runs as.",
        ),
    }
}

/// The file of variables holds secrets: nobody but root reads it.
pub(super) fn variables(report: &mut Report, path: &Path) {
    let shown = path.display();
    if let Ok(metadata) = fs::metadata(path) {
        if metadata.permissions().mode() & 0o077 != 0 {
            report.fail(
                "variables",
                format!("{shown} holds secrets, and others can read it"),
                format!("Run: chmod 600 {shown}, and change the secrets if others use this host."),
            );
        } else {
            report.ok("variables", format!("{shown} is for its owner alone"));
        }
    }
}

/// Certificates and tokens are valid for a span of time: the clock must be right.
pub(super) fn clock(report: &mut Report) {
    let asked = Command::new("timedatectl")
        .args(["show", "--property=NTPSynchronized", "--value"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    match asked.as_ref().map(|output| output.stdout.trim_ascii()) {
        Ok(b"yes") => report.ok("clock", "it is kept by a time server"),
        Ok(b"no") => report.warn(
            "clock",
            "no time server keeps it",
            "Install and start one: apt install chrony (or systemd-timesyncd).",
        ),
        // No systemd, or none that answers: nothing is known.
        _ => {}
    }
}

/// Names are looked up in /etc/hosts and DNS alone: what else the host has is told, so that nobody counts on it.
pub(super) fn look_ups(report: &mut Report, path: &Path) {
    let Ok(text) = fs::read_to_string(path) else { return };
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix("hosts:")).unwrap_or_default();
    let others: Vec<&str> = line
        .split_whitespace()
        .filter(|word| !word.starts_with('[') && !word.ends_with(']') && !matches!(*word, "files" | "dns"))
        .collect();
    report.ok(
        "look-ups",
        match others.as_slice() {
            [] => "names come from /etc/hosts and DNS".to_owned(),
            others => {
                format!("names come from /etc/hosts and DNS; {} of {} are not asked", others.join(", "), path.display())
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn sources_of_names_that_are_not_asked_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("nsswitch.conf");
        let text = |hosts: &str| {
            fs::write(&file, format!("passwd: files\n{hosts}\n")).unwrap();
            let mut report = Report::default();
            look_ups(&mut report, &file);
            report.0[0].text.clone()
        };
        assert!(!text("hosts: files dns").contains("not asked"));
        assert!(text("hosts: files resolve [!UNAVAIL=return] myhostname dns").contains("DNS; resolve, myhostname of"));
    }

    #[test]
    fn what_others_can_read_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("beacon.env");
        let level = |mode: u32| {
            fs::write(&file, "A=1").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            let mut report = Report::default();
            variables(&mut report, &file);
            report.worst()
        };
        assert_eq!([level(0o600), level(0o640), level(0o604)], [Level::Ok, Level::Fail, Level::Fail]);
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let mut report = Report::default();
        state_folder(&mut report, folder.path());
        assert_eq!(report.worst(), Level::Warn);
        state_folder(&mut report, &folder.path().join("none"));
        assert_eq!(report.0[1].level, Level::Ok);
    }
}
