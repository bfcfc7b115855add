//! Debian 13 with its modules for look-ups: there a static glibc of Debian 12 that loads them dies by SIGFPE. Beacon must
//! not load them, whoever asks.

use std::time::Duration;

use crate::rig::{Machine, Package, TRIXIE};

const BOUND: Duration = Duration::from_secs(30);
/// In no file of hosts, so the look-up goes to whatever nsswitch.conf names.
const NAME: &str = "ca.beacon.test";

#[test]
fn look_ups_on_debian_13_load_no_module() {
    let Some(machine) = Machine::boot_from(&TRIXIE, "nss") else { return };
    let hosts = machine.sh("grep ^hosts: /etc/nsswitch.conf");
    assert_eq!(hosts.trim(), "hosts: files resolve myhostname dns");
    // An ordinary program loads them; otherwise this would prove nothing.
    let control = machine.run(&["env", "LD_DEBUG=libs", "getent", "ahosts", NAME]);
    for module in ["libnss_resolve.so.2", "libnss_myhostname.so.2"] {
        assert!(control.stderr.contains(module), "nobody loads {module}: {}", control.report());
    }

    machine.install(&Package::version("0.1.0")).expect_code(0);
    machine.until_serves(BOUND);
    machine.put(
        "/etc/beacon/conf.d/acme.toml",
        format!("[tls.acme]\ndomains = [\"www.beacon.test\"]\ndirectory = \"https://{NAME}:14000/dir\"\n"),
        0o644,
    );
    machine.run(&["beacon", "check"]).expect_code(0);
    machine.run(&["beacon", "doctor"]).expect_text("beacon");
    machine.ok(&["systemctl", "restart", "beacon@a.service"]);
    let journal = machine.until("an order that failed", BOUND, || {
        let journal = machine.journal("beacon@a.service");
        journal.contains("no certificate for www.beacon.test").then_some(journal)
    });
    assert_eq!(machine.show("beacon@a.service", "ActiveState"), "active", "{journal}");
    assert_eq!(machine.show("beacon@a.service", "NRestarts"), "0", "it has died:\n{journal}");
    let process = machine.show("beacon@a.service", "MainPID");
    let maps = machine.get_file(&format!("/proc/{process}/maps"));
    assert!(maps.contains("/usr/bin/beacon"), "these are not the maps of beacon:\n{maps}");
    let modules: Vec<&str> = maps.lines().filter(|line| line.contains(".so")).collect();
    assert!(modules.is_empty(), "{modules:#?}");
    machine.until_serves(BOUND);
}
