//! The package on a bare image: installed, looked at from all sides, rebooted, removed, purged and installed again.

use std::time::Duration;

use crate::rig::{Machine, Package, TRIXIE, say};

/// The most that `systemd-analyze security` may find exposed.
const EXPOSURE: f64 = 1.5;
/// The same for the private servers, whose programs may be executed.
const EXPOSURE_MANAGED: f64 = 2.0;
/// And for tasks, which run an interpreter and talk to whom they like.
const EXPOSURE_WORKER: f64 = 3.0;
/// What a Beacon that has just been started may need until it serves.
const BOUND: Duration = Duration::from_secs(30);

#[test]
fn the_package_installs_serves_survives_a_reboot_and_goes_away() {
    let Some(mut machine) = Machine::boot("install") else { return };
    let package = Package::version("0.1.0");

    say("install: on a bare image");
    let ran = machine.install(&package).expect_code(0);
    say(&format!("install: took {} ms", ran.took.as_millis()));
    let first = machine.until_serves(BOUND);
    say(&format!("install: the first answer came {} ms after", first.as_millis()));
    serves(&machine, "after the installation");
    quiet(&machine, "after the installation");
    owners_and_modes(&machine);
    hardened(&machine);
    a_site_is_served(&machine);
    kept_and_restored(&machine);

    say("install: the same package again leaves it alone or hands over");
    machine.install(&package).expect_code(0);
    machine.until_serves(BOUND);

    say("install: reboot");
    machine.reboot();
    machine.until_serves(BOUND);
    serves(&machine, "after a reboot");
    quiet(&machine, "after a reboot");

    say("install: remove keeps the data");
    machine.put("/etc/beacon/conf.d/mine.toml", "[log]\nlevel = \"info\"\n", 0o644);
    machine.ok(&["apt-get", "remove", "-y", "beacon"]);
    let listening = machine.ok(&["ss", "-Hltn"]);
    assert!(!listening.contains(":443"), "a port is still open after the removal:\n{listening}");
    let units = machine.ok(&["systemctl", "list-units", "--all", "--no-legend", "--plain", "beacon*"]);
    let running: Vec<&str> = units.lines().filter(|line| line.contains(" active ")).collect();
    assert!(running.is_empty(), "still there after the removal: {running:?}");
    machine.sh("test -s /var/lib/beacon/tls/ca.crt; test -e /etc/beacon/beacon.toml; test -e /etc/beacon/beacon.env");

    say("install: installed again, it goes on with what was kept");
    let authority = machine.get_file("/var/lib/beacon/tls/ca.crt");
    machine.install(&package).expect_code(0);
    machine.until_serves(BOUND);
    assert_eq!(machine.get_file("/var/lib/beacon/tls/ca.crt"), authority, "the authority is another one");
    serves(&machine, "after the second installation");

    say("install: purge deletes");
    machine.ok(&["apt-get", "purge", "-y", "beacon"]);
    for path in ["/etc/beacon", "/var/lib/beacon", "/var/cache/beacon", "/run/beacon"] {
        let there = machine.run(&["sh", "-c", "find \"$1\" 2>/dev/null", "sh", path]);
        assert!(there.stdout.is_empty(), "left by the purge:\n{}", there.stdout);
    }
    let links = machine.sh("find /etc/systemd /var/lib/systemd -name '*beacon*' | grep -v deb-systemd || true");
    assert!(links.is_empty(), "left by the purge:\n{links}");
    let failed = machine.run(&["systemctl", "is-system-running"]);
    assert_eq!(failed.stdout.trim(), "running", "{}", machine.ok(&["systemctl", "--failed"]));

    say("install: policy-rc.d forbids to start anything");
    machine.put("/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n", 0o755);
    machine.install(&package).expect_code(0);
    for unit in ["beacon@a.service", "beacon@b.service", "beacon-https.socket", "beacon-http.socket"] {
        assert_eq!(machine.show(unit, "ActiveState"), "inactive", "{unit} in spite of policy-rc.d");
    }
    machine.sh("systemctl is-enabled beacon@a.service beacon-https.socket beacon-http.socket");
    machine.ok(&["rm", "/usr/sbin/policy-rc.d"]);
    machine.reboot();
    machine.until_serves(BOUND);
    serves(&machine, "after a reboot, started by the reboot alone");
}

#[test]
fn the_units_are_understood_by_debian_13() {
    let Some(machine) = Machine::boot_from(&TRIXIE, "install-13") else { return };
    machine.install(&Package::version("0.1.0")).expect_code(0);
    machine.until_serves(BOUND);
    serves(&machine, "on Debian 13");
    quiet(&machine, "on Debian 13");
    hardened(&machine);
}

/// Slot a alone is active, and answers on every socket.
#[track_caller]
pub fn serves(machine: &Machine, when: &str) {
    assert_eq!(machine.show("beacon@a.service", "ActiveState"), "active", "{when}");
    assert_eq!(machine.show("beacon@b.service", "ActiveState"), "inactive", "{when}");
    for unit in ["beacon-http.socket", "beacon-https.socket", "beacon-operations.socket"] {
        assert_eq!(machine.show(unit, "ActiveState"), "active", "{unit} {when}");
        assert_eq!(machine.show(unit, "UnitFileState"), "enabled", "{unit} {when}");
    }
    let listening = machine.ok(&["ss", "-Hltn"]);
    for port in [":80 ", ":443 ", "127.0.0.1:9464 "] {
        assert!(listening.contains(port), "nobody listens on {port} {when}:\n{listening}");
    }
    let answer = machine.https("/").unwrap();
    assert_eq!(answer.status, 200, "{when}: {answer:?}");
    machine.run(&["beacon", "status"]).expect_code(0);
    let status = machine.run(&["beacon", "status", "--json"]).expect_code(0);
    let status: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
    assert_eq!(status["slots"].as_array().map(Vec::len), Some(1), "{when}: {status:#}");
    assert_eq!(status["slots"][0]["slot"], "a", "{when}: {status:#}");
    assert_eq!(status["slots"][0]["state"], "serving", "{when}: {status:#}");
    machine.run(&["beacon", "doctor"]).expect_code(0);
}

/// A folder is mounted by a file in conf.d, as the documentation says, and taken over by a reload.
#[track_caller]
fn a_site_is_served(machine: &Machine) {
    say("install: a site");
    machine.put("/srv/www/hello.txt", "hello from /srv", 0o644);
    machine.put("/etc/beacon/conf.d/10-site.toml", "[mounts.site]\npath = \"/\"\nsite.root = \"/srv/www\"\n", 0o640);
    assert_eq!(machine.ok(&["stat", "-c", "%U:%G", "/etc/beacon/conf.d/10-site.toml"]).trim(), "root:beacon");
    machine.ok(&["systemctl", "reload", "beacon@a"]);
    let answer = machine.https("/hello.txt").unwrap();
    assert_eq!((answer.status, &answer.body[..]), (200, &b"hello from /srv"[..]));
    machine.ok(&["beacon", "handover"]);
    assert_eq!(machine.https("/hello.txt").unwrap().status, 200, "in a process that has just started");
    machine.ok(&["beacon", "handover"]);
    machine.ok(&["rm", "/etc/beacon/conf.d/10-site.toml"]);
    machine.ok(&["beacon", "reload"]);
    assert_eq!(machine.https("/hello.txt").unwrap().status, 404);
}

/// What Beacon keeps goes into an archive, and comes back from it with its owners.
#[track_caller]
fn kept_and_restored(machine: &Machine) {
    say("install: backup and restore");
    let authority = machine.get_file("/var/lib/beacon/tls/ca.crt");
    machine.run(&["beacon", "backup", "/root/beacon.tar.zst"]).expect_code(0).expect_text("/var/lib/beacon");
    assert_eq!(machine.ok(&["stat", "-c", "%a", "/root/beacon.tar.zst"]).trim(), "600");
    machine.run(&["beacon", "restore", "/root/beacon.tar.zst"]).expect_code(1).expect_text("a Beacon runs here");
    machine.sh("systemctl stop 'beacon-*.socket' 'beacon@*.service' beacon-managed.service; rm -r /var/lib/beacon/tls");
    machine.ok(&["beacon", "restore", "/root/beacon.tar.zst"]);
    machine.sh("rm -r /var/lib/beacon.before-*; systemctl start 'beacon-*.socket' --all; systemctl start beacon@a");
    machine.until_serves(BOUND);
    assert_eq!(machine.get_file("/var/lib/beacon/tls/ca.crt"), authority, "the authority is another one");
    owners_and_modes(machine);
}

/// No unit of ours has written a warning, and systemd has none about them.
#[track_caller]
pub fn quiet(machine: &Machine, when: &str) {
    let all = machine.ok(&["journalctl", "--boot", "--no-pager", "--priority=warning", "--output=short-monotonic"]);
    // A bare machine has no programs for private servers, and no mail, which is told once.
    let ours = all.lines().filter(|line| line.to_lowercase().contains("beacon"));
    let known = ["is not installed. Install it: apt install", "mail.host is not set"];
    let ours: Vec<&str> = ours.filter(|line| !known.iter().any(|known| line.contains(known))).collect();
    assert!(ours.is_empty(), "{when}:\n{}", ours.join("\n"));
}

#[track_caller]
fn owners_and_modes(machine: &Machine) {
    for (path, expected) in [
        ("/etc/beacon", "root:beacon 750"),
        ("/etc/beacon/conf.d", "root:beacon 2750"),
        ("/etc/beacon/beacon.toml", "root:beacon 640"),
        ("/etc/beacon/beacon.env", "root:root 600"),
        ("/var/lib/beacon", "beacon:beacon 700"),
        ("/var/cache/beacon", "beacon:beacon 750"),
        ("/run/beacon", "beacon:beacon 755"),
        ("/run/beacon/a.sock", "beacon:beacon 600"),
        ("/usr/bin/beacon", "root:root 755"),
    ] {
        assert_eq!(machine.ok(&["stat", "-c", "%U:%G %a", path]).trim(), expected, "{path}");
    }
    let open = machine.sh("find /var/lib/beacon /etc/beacon -type f -perm /007");
    assert!(open.is_empty(), "everybody may read:\n{open}");
    let account = machine.ok(&["getent", "passwd", "beacon"]);
    assert!(account.trim().ends_with("nologin"), "{account}");
}

/// What systemd itself says about the units.
#[track_caller]
fn hardened(machine: &Machine) {
    exposed(machine, "beacon@a.service", EXPOSURE);
    exposed(machine, "beacon-managed.service", EXPOSURE_MANAGED);
    exposed(machine, "beacon-worker.service", EXPOSURE_WORKER);
    let units = [
        "beacon@a.service",
        "beacon@b.service",
        "beacon-managed.service",
        "beacon-worker.service",
        "beacon-http.socket",
        "beacon-https.socket",
    ];
    let mut words = vec!["systemd-analyze", "verify", "--man=no"];
    words.extend(units);
    words.push("beacon-operations.socket");
    let verified = machine.run(&words).expect_code(0);
    assert!(verified.stderr.is_empty() && verified.stdout.is_empty(), "{}", verified.report());
}

#[track_caller]
fn exposed(machine: &Machine, unit: &str, most: f64) {
    let table = machine.ok(&["systemd-analyze", "security", "--no-pager", unit]);
    let line = table.lines().find(|line| line.contains("Overall exposure level")).unwrap_or_default();
    let exposure: f64 = line
        .split_whitespace()
        .find_map(|word| word.parse().ok())
        .unwrap_or_else(|| panic!("no exposure in:\n{table}"));
    say(&format!("install: {unit}: exposure {exposure}"));
    assert!(exposure <= most, "exposure {exposure}:\n{table}");
}
