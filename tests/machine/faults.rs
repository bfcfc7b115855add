//! What goes wrong by itself: a process killed, a process hung, a disk full, a mistyped secret.

use std::time::{Duration, Instant};

use crate::rig::{Kind, Machine, Package, say};

const BOUND: Duration = Duration::from_secs(30);
/// After the worst end of the process.
const BACK_WITHIN: Duration = Duration::from_secs(2);

#[test]
fn what_breaks_mends_itself_or_changes_nothing() {
    let Some(machine) = Machine::boot("faults") else { return };
    machine.install(&Package::version("0.1.0")).expect_code(0);
    machine.until_serves(BOUND);

    killed(&machine);
    hung(&machine);
    mistyped(&machine);
    full(&machine);
}

/// Killed under load, it is back before anybody gives up.
fn killed(machine: &Machine) {
    let loads = machine.loads();
    for _ in 0..3 {
        let process = machine.show("beacon@a.service", "MainPID");
        machine.ok(&["kill", "-KILL", &process]);
        let took = machine.until_serves(BOUND);
        say(&format!("faults: served again {} ms after kill -9", took.as_millis()));
        assert!(took < BACK_WITHIN, "served again after {took:?}");
        assert_ne!(machine.show("beacon@a.service", "MainPID"), process, "the same process serves");
    }
    for (kind, counts) in loads.stop("kill -9 (three times)") {
        assert!(counts.silence < BACK_WITHIN, "{kind:?}: {counts}\n{}", counts.failures.join("\n"));
        // What the killed process had in hand is lost, and nothing else: each client's request at most, each time.
        let most = if kind == Kind::Http2 { 27 } else { 9 };
        assert!(counts.failed <= most, "{kind:?}: {counts}\n{}", counts.failures.join("\n"));
    }
}

/// Stopped in its tracks, it is ended by systemd's watchdog and started anew.
fn hung(machine: &Machine) {
    let folder = "/etc/systemd/system/beacon@.service.d";
    let dropin = format!("{folder}/test.conf");
    machine.put(&dropin, "[Service]\nWatchdogSec=2\nTimeoutAbortSec=1\n", 0o644);
    machine.sh("systemctl daemon-reload; systemctl restart beacon@a.service");
    machine.until_serves(BOUND);
    let process = machine.show("beacon@a.service", "MainPID");
    let begun = Instant::now();
    machine.ok(&["kill", "-STOP", &process]);
    machine.until("the watchdog", BOUND, || {
        let now = machine.show("beacon@a.service", "MainPID");
        (now != process && now != "0" && machine.show("beacon@a.service", "ActiveState") == "active").then_some(())
    });
    machine.until_serves(BOUND);
    say(&format!("faults: served again {} ms after it hung, with WatchdogSec=2", begun.elapsed().as_millis()));
    let journal = machine.journal("beacon@a.service");
    assert!(journal.to_lowercase().contains("watchdog"), "{journal}");
    machine.sh(&format!("rm -r {folder}; systemctl daemon-reload; systemctl restart beacon@a.service"));
    machine.until_serves(BOUND);
}

/// A new file of secrets with a typo is refused, and nothing changes.
fn mistyped(machine: &Machine) {
    let install = |text: &str| machine.run_with(text.as_bytes(), &["beacon", "env", "install", "-"]);
    install("AUTH_WALL_USERNAME=someone\nAUTH_WALL_PASSWORD=first-secret\n").expect_code(0);
    let before = state(machine);

    // No equals sign: not a file of variables at all. And a quotation mark that is never closed.
    for wrong in ["AUTH_WALL_PASSWORD second-secret\n", "AUTH_WALL_PASSWORD=\"second-secret\n"] {
        let ran = install(wrong).expect_code(78);
        assert!(!ran.stdout.contains("second-secret") && !ran.stderr.contains("second-secret"), "{}", ran.report());
        assert!(ran.stderr.contains('1'), "the line is not named: {}", ran.report());
        assert_eq!(state(machine), before, "{}", ran.report());
    }
    // Well formed, but not a configuration.
    let ran = install("BEACON_HTTP__TIMEOUTS__IDLE=soon\n").expect_code(78);
    assert_eq!(state(machine), before, "{}", ran.report());

    // What is right is shown by name alone, and the version before is kept.
    let ran = install("AUTH_WALL_USERNAME=someone\nAUTH_WALL_PASSWORD=second-secret\n").expect_code(0);
    let ran = ran.expect_text("AUTH_WALL_PASSWORD");
    assert!(!ran.stdout.contains("secret") && !ran.stderr.contains("secret"), "{}", ran.report());
    machine.run(&["beacon", "env", "rollback"]).expect_code(0);
    assert!(machine.get_file("/etc/beacon/beacon.env").contains("first-secret"), "the version before is not back");
    install("").expect_code(0);
}

/// On a full disk, changes are refused with a reason, and what was there stays whole.
fn full(machine: &Machine) {
    machine.sh("cp -a /etc/beacon /root/beacon.kept
        mount -t tmpfs -o size=256k,mode=0750 tmpfs /etc/beacon
        chown root:beacon /etc/beacon; cp -a /root/beacon.kept/. /etc/beacon/
        dd if=/dev/zero of=/etc/beacon/filler bs=4k 2>/dev/null || true");
    let before = state(machine);
    let long = format!("AUTH_WALL_USERNAME=someone\nAUTH_WALL_PASSWORD={}\n", "x".repeat(9000));
    let ran = machine.run_with(long.as_bytes(), &["beacon", "env", "install", "-"]);
    assert_ne!(ran.code(), 0, "{}", ran.report());
    let ran = ran.expect_text("No space left");
    assert!(!ran.stderr.contains("panicked"), "{}", ran.report());
    assert_eq!(state(machine), before, "{}", ran.report());
    machine.sh("umount /etc/beacon; rm -r /root/beacon.kept");

    // The state folder full: reloads and hand-overs need nothing there, and go on.
    machine.sh("cp -a /var/lib/beacon /root/state.kept
        mount -t tmpfs -o size=64k,mode=0700 tmpfs /var/lib/beacon
        chown beacon:beacon /var/lib/beacon; cp -a /root/state.kept/. /var/lib/beacon/
        dd if=/dev/zero of=/var/lib/beacon/filler bs=1k 2>/dev/null || true");
    let loads = machine.loads();
    let reload = machine.run(&["beacon", "reload"]);
    let handover = machine.run(&["beacon", "handover"]);
    for ran in [&reload, &handover] {
        say(&format!("faults: with a full state folder, {}", ran.report()));
        assert!(ran.code() == 0 || !ran.stderr.trim().is_empty(), "no reason: {}", ran.report());
    }
    loads.stop_unharmed("with a full state folder");
    machine.sh("umount /var/lib/beacon; rm -r /root/state.kept");
    machine.run(&["beacon", "handover"]).expect_code(0);
    machine.until_serves(BOUND);
}

/// Everything below /etc/beacon with its owners, modes and contents.
fn state(machine: &Machine) -> String {
    machine.sh("cd /etc/beacon; find . ! -name filler -printf '%p %u:%g %m\\n' | sort
        find . -type f ! -name filler | sort | xargs sha256sum")
}
