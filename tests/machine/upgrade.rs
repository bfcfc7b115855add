//! What happens to a serving Beacon, under the load of clients that count every request they lose: hand-overs, reloads,
//! upgrades, the way back, and new versions that do not work.

use std::time::{Duration, Instant};

use crate::rig::{Fault, Machine, Package, Ran, say};

const BOUND: Duration = Duration::from_secs(30);
/// How often the slots change under load.
const ROUNDS: usize = 10;

#[test]
fn no_request_is_lost_whatever_is_done_to_a_serving_beacon() {
    let Some(machine) = Machine::boot("upgrade") else { return };
    machine.install(&Package::version("0.1.0")).expect_code(0);
    machine.until_serves(BOUND);

    handovers(&machine);
    reloads(&machine);
    upgrade_and_rollback(&machine);
    broken_versions(&machine);
}

fn handovers(machine: &Machine) {
    let loads = machine.loads();
    let mut slowest = Duration::ZERO;
    for round in 0..ROUNDS {
        let before = slot(machine);
        let ran = machine.run(&["beacon", "handover"]).expect_code(0);
        slowest = slowest.max(ran.took);
        assert_ne!(slot(machine), before, "hand-over {round} has changed nothing: {}", ran.report());
    }
    say(&format!("upgrade: {ROUNDS} hand-overs, the slowest took {} ms", slowest.as_millis()));
    loads.stop_unharmed("hand-overs");
}

fn reloads(machine: &Machine) {
    let loads = machine.loads();
    for round in 0..ROUNDS {
        let level = if round % 2 == 0 { "info" } else { "warn" };
        machine.put("/etc/beacon/conf.d/50-test.toml", format!("[log]\nlevel = \"{level}\"\n"), 0o644);
        let slot = slot(machine);
        // Both ways to ask for it.
        let ran = if round % 2 == 0 {
            machine.run(&["systemctl", "reload", &format!("beacon@{slot}.service")])
        } else {
            machine.run(&["beacon", "reload"])
        };
        ran.expect_code(0);
    }
    loads.stop_unharmed("reloads");

    let loads = machine.loads();
    machine.put("/etc/beacon/conf.d/50-test.toml", "[log]\nlevle = \"info\"\n", 0o644);
    machine.run(&["beacon", "reload"]).expect_code(78).expect_text("levle");
    let slot = slot(machine);
    let ran = machine.run(&["systemctl", "reload", &format!("beacon@{slot}.service")]);
    assert_ne!(ran.code(), 0, "systemd takes a refused reload for a success: {}", ran.report());
    loads.stop_unharmed("refused reloads");
    machine.ok(&["rm", "/etc/beacon/conf.d/50-test.toml"]);
    machine.run(&["beacon", "reload"]).expect_code(0);
}

fn upgrade_and_rollback(machine: &Machine) {
    let (newer, older) = (Package::version("0.2.0"), Package::version("0.1.0"));
    let loads = machine.loads();
    for package in [&newer, &older, &newer] {
        let before = slot(machine);
        let sockets = socket_ids(machine);
        let ran = machine.install(package).expect_code(0);
        say(&format!("upgrade: the way to {} took {} ms", package.version, ran.took.as_millis()));
        assert_eq!(installed(machine), package.version, "{}", ran.report());
        assert_ne!(slot(machine), before, "the old program still serves: {}", ran.report());
        assert_eq!(socket_ids(machine), sockets, "the sockets were opened anew: {}", ran.report());
        // The program that runs is the one that lies there.
        let id = machine.show(&format!("beacon@{}.service", slot(machine)), "MainPID");
        let program = machine.ok(&["readlink", &format!("/proc/{id}/exe")]);
        assert_eq!(program.trim(), "/usr/bin/beacon", "an old program runs");
    }
    loads.stop_unharmed("upgrade, rollback, upgrade");
}

fn broken_versions(machine: &Machine) {
    let sound = Package::version("0.2.0");
    for (version, fault, named) in
        [("0.3.0", Fault::Serve, "did not become ready"), ("0.3.1", Fault::Check, "cannot use the configuration")]
    {
        let (before, process) = (slot(machine), main_process(machine));
        let broken = Package::broken(version, fault);
        let loads = machine.loads();
        let ran = machine.install(&broken);
        assert_ne!(ran.code(), 0, "dpkg takes {fault:?} for a success: {}", ran.report());
        let ran: Ran = ran.expect_text("broken on purpose").expect_text(named).expect_text("goes on serving");
        say(&format!("upgrade: {fault:?} was refused after {} ms", ran.took.as_millis()));
        assert_eq!(slot(machine), before, "{fault:?}");
        assert_eq!(main_process(machine), process, "{fault:?}: the old process is not the one that serves");
        loads.stop_unharmed(&format!("a new version that fails: {fault:?}"));
        alone(machine, &format!("{fault:?}"));

        let loads = machine.loads();
        machine.install(&sound).expect_code(0);
        assert_eq!(installed(machine), "0.2.0", "the way back after {fault:?}");
        assert!(machine.ok(&["dpkg", "--audit"]).is_empty(), "dpkg still has work after {fault:?}");
        loads.stop_unharmed(&format!("the way back after {fault:?}"));
    }
}

/// A request that comes alone is answered, too. The slots share the open sockets with systemd, their O_NONBLOCK flag
/// included: a slot that finds it taken away waits in accept(2), and what it has accepted last waits for the next
/// connection. Under load that does not show.
#[track_caller]
fn alone(machine: &Machine, when: &str) {
    let pid = main_process(machine);
    for request in 0..5 {
        let begun = Instant::now();
        let answer = machine.https("/").unwrap_or_else(|error| panic!("request {request} alone, {when}: {error}"));
        assert_eq!(answer.status, 200, "request {request} alone, {when}: {answer:?}");
        assert!(
            begun.elapsed() < Duration::from_secs(2),
            "request {request} alone, {when}, took {:?}",
            begun.elapsed()
        );
    }
    // The flags are octal; 4000 is O_NONBLOCK.
    let flags = machine.sh(&format!(
        "for fd in /proc/{pid}/fd/*; do
            case $(readlink $fd) in socket:*) ;; *) continue ;; esac
            inode=$(readlink $fd | tr -dc 0-9)
            ss -Hltne | grep -q \"ino:$inode \" && grep flags: /proc/{pid}/fdinfo/${{fd##*/}} || true
        done"
    ));
    assert!(flags.lines().count() >= 3, "the listening sockets are not found, {when}: {flags:?}");
    for line in flags.lines() {
        let value = line.trim_start_matches("flags:").trim();
        let value = u32::from_str_radix(value, 8).unwrap();
        assert_ne!(value & 0o4000, 0, "a listening socket blocks, {when}: {flags}");
    }
}

/// The slot that serves; there must be one alone.
#[track_caller]
fn slot(machine: &Machine) -> &'static str {
    let active = |slot: &str| machine.show(&format!("beacon@{slot}.service"), "ActiveState");
    match (active("a").as_str(), active("b").as_str()) {
        ("active", "inactive" | "failed") => "a",
        ("inactive" | "failed", "active") => "b",
        states => panic!("slots a and b are {states:?}:\n{}", machine.journal("beacon@*")),
    }
}

#[track_caller]
fn main_process(machine: &Machine) -> String {
    machine.show(&format!("beacon@{}.service", slot(machine)), "MainPID")
}

/// What tells whether a socket was opened anew.
#[track_caller]
fn socket_ids(machine: &Machine) -> String {
    machine.show("beacon-https.socket", "InvocationID") + &machine.show("beacon-http.socket", "InvocationID")
}

#[track_caller]
fn installed(machine: &Machine) -> String {
    machine.ok(&["dpkg-query", "-W", "-f", "${Version}", "beacon"])
}
