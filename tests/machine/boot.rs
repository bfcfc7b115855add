//! The rig itself: machines boot, run commands, reboot, let ssh in, and leave nothing behind.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::rig::Machine;

#[test]
fn a_machine_boots_runs_commands_reboots_and_leaves_nothing_behind() {
    let Some(mut machine) = Machine::boot("boot") else { return };

    // Commands: their outputs, codes and input; root's environment and nothing of the test's.
    assert_eq!(machine.ok(&["cat", "/proc/1/comm"]), "systemd\n");
    machine.run(&["sh", "-c", "echo out; echo err >&2; exit 7"]).expect_code(7).expect_text("out").expect_text("err");
    assert_eq!(machine.run_with(b"given", &["cat"]).stdout, "given");
    assert!(!machine.ok(&["env"]).contains("CARGO"), "the environment is the test's");
    machine.put("/srv/deep/file", "content", 0o640);
    assert_eq!(machine.sh("stat -c %a /srv/deep/file; cat /srv/deep/file"), "640\ncontent");

    // A network of its own, with loopback in it.
    assert_eq!(machine.sh("ls /sys/class/net /proc/sys/net/ipv4/conf | grep -c eth || true").trim(), "0");
    machine.ok(&["systemd-run", "--unit=echo", "--quiet", "sh", "-c", "echo hello from a unit"]);
    machine.until("the unit's words", Duration::from_secs(10), || {
        machine.journal("echo").contains("hello from a unit").then_some(())
    });

    // ssh, as the administrator and as root, before and after a reboot.
    let ssh = machine.sshd();
    for round in ["before", "after"] {
        let admin = ssh.run("machine", "id -un; sudo -n id -un");
        assert_eq!(String::from_utf8_lossy(&admin.stdout), "admin\nroot\n", "{round} the reboot: {admin:?}");
        let root = ssh.run("machine-root", "id -un; exit 9");
        assert_eq!(String::from_utf8_lossy(&root.stdout), "root\n", "{round} the reboot: {root:?}");
        assert_eq!(root.status.code(), Some(9), "{round} the reboot: {root:?}");
        if round == "before" {
            machine.reboot();
            assert_eq!(machine.get_file("/srv/deep/file"), "content", "the disk is the same after a reboot");
        }
    }

    let (scratch, leader) = (machine.scratch(), machine.leader());
    machine.power_off();
    drop(machine);
    assert!(!Path::new("/proc").join(leader.to_string()).exists(), "its PID 1 is still there");
    assert!(!scratch.exists(), "its disk is still there");
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains("/running/"), "a mount is left: {mounts}");
}
