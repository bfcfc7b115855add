//! The private PostgreSQL and Redis under systemd: a unit of their own, which hand-overs and upgrades leave alone.

use std::time::Duration;

use crate::install::quiet;
use crate::rig::{Machine, Package, SERVERS, say};

/// What a first start may take: initdb, and what comes after it.
const BOUND: Duration = Duration::from_mins(1);
const UNIT: &str = "beacon-managed.service";

#[test]
fn private_servers_are_a_unit_of_their_own() {
    let Some(mut machine) = Machine::boot_from(&SERVERS, "managed") else { return };
    let package = Package::version("0.1.0");
    machine.install(&package).expect_code(0);
    machine.until_serves(BOUND);
    ready(&machine);
    quiet(&machine, "after the installation");
    assert_eq!(machine.show(UNIT, "UnitFileState"), "enabled");
    let owner = machine.ok(&[
        "stat",
        "-c",
        "%U:%G %a",
        "/run/beacon-managed",
        "/var/lib/beacon/postgres",
        "/var/lib/beacon/redis",
    ]);
    assert_eq!(owner, "beacon:beacon 700\n".repeat(3));
    let listening = machine.ok(&["ss", "-Hltn"]);
    assert!(!listening.contains(":5432") && !listening.contains(":6379"), "a server is on the network:\n{listening}");
    sql(&machine, "create table kept (id int); insert into kept values (7)");
    machine.run(&["beacon", "doctor"]).expect_code(0).expect_text("PostgreSQL 15");

    say("managed: a hand-over, a reload and an upgrade do not touch them");
    let before = pids(&machine);
    machine.ok(&["beacon", "handover"]);
    machine.ok(&["beacon", "reload"]);
    machine.install(&Package::version("0.2.0")).expect_code(0);
    machine.until_serves(BOUND);
    assert_eq!(pids(&machine), before, "a server was started anew");
    assert_eq!(sql(&machine, "select id from kept"), "7");

    say("managed: a backup while they run, and a restore");
    machine.run(&["beacon", "backup", "/root/beacon.tar.zst"]).expect_code(0).expect_text("the database \"beacon\"");
    sql(&machine, "drop table kept");
    machine.sh("systemctl stop 'beacon-*.socket' 'beacon@*.service'");
    machine
        .run(&["beacon", "restore", "/root/beacon.tar.zst"])
        .expect_code(1)
        .expect_text("the private servers run here");
    machine.sh("systemctl stop beacon-managed");
    machine.run(&["beacon", "restore", "/root/beacon.tar.zst"]).expect_code(0).expect_text("beacon_before_");
    machine.sh("systemctl start 'beacon-*.socket' --all; systemctl start beacon@a");
    machine.until_serves(BOUND);
    ready(&machine);
    assert_eq!(sql(&machine, "select id from kept"), "7");

    say("managed: killed, and after a reboot");
    let before = pids(&machine);
    machine.ok(&["systemctl", "kill", "--kill-whom=main", "--signal=KILL", UNIT]);
    machine.until("the servers to be others", BOUND, || {
        let new = machine.run(&["sh", "-c", PIDS]);
        (new.code() == 0 && new.stdout.lines().count() == 2 && new.stdout != before).then_some(())
    });
    ready(&machine);
    machine.reboot();
    machine.until_serves(BOUND);
    ready(&machine);
    assert_eq!(sql(&machine, "select id from kept"), "7");

    say("managed: tasks that need programs have a unit of their own");
    worked(&machine);

    say("managed: nothing to keep");
    machine.put("/etc/beacon/conf.d/50-off.toml", "[managed]\npostgres = \"off\"\nredis = \"off\"\n", 0o640);
    machine.ok(&["systemctl", "restart", UNIT]);
    machine.until("it to end", BOUND, || (machine.show(UNIT, "ActiveState") == "inactive").then_some(()));
    assert_eq!(machine.show(UNIT, "Result"), "success");
    assert!(machine.journal(UNIT).contains("no private servers are asked for"));
    nothing_runs(&machine);
    machine.ok(&["beacon", "handover"]);
    assert_eq!(machine.show(UNIT, "ActiveState"), "inactive");
    machine.ok(&["rm", "/etc/beacon/conf.d/50-off.toml"]);
    machine.ok(&["systemctl", "start", UNIT]);
    ready(&machine);

    say("managed: purged");
    machine.ok(&["apt-get", "purge", "-y", "beacon"]);
    nothing_runs(&machine);
    machine.sh("test ! -e /var/lib/beacon; test ! -e /run/beacon-managed");
}

const WORKER: &str = "beacon-worker.service";
const TASKS: &str = r#"
[handlers.echo]
command.run = ["/bin/cat"]
[handlers.slow]
command.run = ["/bin/sh", "-c", "echo began >> /var/cache/beacon-worker/runs; sleep 3; echo ended >> /var/cache/beacon-worker/runs"]
"#;

/// The worker's unit: nothing to do at first, then commands, which neither a hand-over ends nor a kill loses.
#[track_caller]
fn worked(machine: &Machine) {
    machine.until("the worker to find nothing", BOUND, || {
        (machine.show(WORKER, "ActiveState") == "inactive").then_some(())
    });
    assert_eq!(machine.show(WORKER, "Result"), "success");
    machine.put("/etc/beacon/conf.d/60-tasks.toml", TASKS, 0o644);
    machine.ok(&["systemctl", "restart", WORKER]);
    machine.ok(&["beacon", "handover"]);
    assert_eq!(machine.show(WORKER, "ActiveState"), "active");
    let sent = machine.ok(&["beacon", "tasks", "send", "echo", "--kwarg", "order=42", "--wait", "20"]);
    assert!(sent.contains("42"), "{sent}");
    // Only the worker's unit can run programs, so it was not the slot that ran it.
    let runs = || machine.run(&["cat", "/var/cache/beacon-worker/runs"]).stdout;
    machine.ok(&["beacon", "tasks", "send", "slow"]);
    machine.until("the task to begin", BOUND, || runs().contains("began").then_some(()));
    machine.ok(&["beacon", "handover"]);
    machine.until("the task to end", BOUND, || runs().contains("ended").then_some(()));
    assert_eq!(runs(), "began\nended\n", "the hand-over touched it");
    machine.ok(&["beacon", "tasks", "send", "slow"]);
    machine.until("the task to begin", BOUND, || (runs().matches("began").count() == 2).then_some(()));
    machine.ok(&["systemctl", "kill", "--kill-whom=all", "--signal=KILL", WORKER]);
    machine.until("another life to end the task", BOUND, || (runs().matches("ended").count() == 2).then_some(()));
    assert_eq!(runs().matches("began").count(), 3);
    machine.ok(&["rm", "/etc/beacon/conf.d/60-tasks.toml"]);
    machine.ok(&["systemctl", "restart", WORKER]);
    machine.ok(&["beacon", "handover"]);
}

/// The numbers of the two servers.
const PIDS: &str = "head -n1 /var/lib/beacon/postgres/postmaster.pid && cat /var/lib/beacon/redis/redis.pid";

#[track_caller]
fn pids(machine: &Machine) -> String {
    let pids = machine.sh(PIDS);
    assert_eq!(pids.lines().count(), 2, "{pids}");
    pids
}

#[track_caller]
fn ready(machine: &Machine) {
    machine.until("the private servers", BOUND, || {
        (machine.show(UNIT, "StatusText") == "PostgreSQL is ready; Redis is ready").then_some(())
    });
    machine.until("the API", BOUND, || {
        // Which answer it is, is nothing to a table that is not there; 503 is that there is no database.
        machine.https("/rest/v1/none").ok().filter(|answer| (400..500).contains(&answer.status)).map(drop)
    });
}

#[track_caller]
fn nothing_runs(machine: &Machine) {
    let left = machine.sh("ps -eo user,args | grep -E 'postgres|redis' | grep -v grep || true");
    assert!(left.is_empty(), "still running:\n{left}");
}

#[track_caller]
fn sql(machine: &Machine, text: &str) -> String {
    let words =
        ["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-h", "/run/beacon-managed", "-U", "beacon", "beacon", "-c", text];
    machine.ok(&words).trim().to_owned()
}
