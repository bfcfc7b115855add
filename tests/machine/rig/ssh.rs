//! A real sshd in a machine that has no network: ssh speaks to it through a command that enters the machine.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use super::Machine;

/// How to reach a machine by ssh. `machine` is its administrator, who is not root and may use sudo, as on a cloud's
/// image; `machine-root` is root.
pub struct Ssh {
    /// For `ssh -F`.
    pub config: PathBuf,
}

impl Machine {
    /// Lets ssh in, with a key made for this machine. The configuration outlives reboots.
    #[track_caller]
    pub fn sshd(&self) -> Ssh {
        let scratch = self.scratch();
        let (key, config) = (scratch.join("ssh_key"), scratch.join("ssh_config"));
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "beacon-machine", "-f"])
            .arg(&key)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        let public = fs::read_to_string(key.with_extension("pub")).unwrap();
        self.sh("id admin >/dev/null 2>&1 || useradd --create-home --shell /bin/bash admin
            for home in /root /home/admin; do mkdir -p -m 0700 $home/.ssh; done
            mkdir -p /run/sshd");
        self.put("/etc/sudoers.d/admin", "admin ALL=(ALL) NOPASSWD: ALL\n", 0o440);
        for home in ["/root", "/home/admin"] {
            self.put(&format!("{home}/.ssh/authorized_keys"), &public, 0o600);
        }
        self.sh("chown -R admin: /home/admin/.ssh");
        let host_key = self.get_file("/etc/ssh/ssh_host_ed25519_key.pub");
        let known = scratch.join("known_hosts");
        fs::write(&known, format!("machine,machine-root {host_key}")).unwrap();
        // PID 1 is another process after a reboot, so it is looked up at each connection. ssh ends its command by
        // SIGHUP when it is done; nsenter must outlive sshd all the same, or nobody would wait for that: a machine with
        // such a zombie takes long to shut down.
        let text = format!(
            "Host machine\n  User admin\nHost machine-root\n  User root\nHost machine machine-root\n  \
             HostKeyAlias machine\n  IdentityFile {key}\n  IdentitiesOnly yes\n  UserKnownHostsFile {known}\n  \
             GlobalKnownHostsFile /dev/null\n  StrictHostKeyChecking yes\n  BatchMode yes\n  LogLevel ERROR\n  \
             ProxyCommand sh -c 'trap \"\" HUP; exec nsenter --target \"$(cat {leader})\" --all -- env -i PATH={path} \
             /usr/sbin/sshd -i'\n",
            key = key.display(),
            known = known.display(),
            leader = scratch.join("leader").display(),
            path = super::command::PATH,
        );
        fs::write(&config, text).unwrap();
        Ssh { config }
    }
}

impl Ssh {
    /// Runs a command by ssh, as the user of this alias.
    pub fn run(&self, alias: &str, command: &str) -> Output {
        Command::new("ssh").arg("-F").arg(&self.config).args([alias, command]).stdin(Stdio::null()).output().unwrap()
    }
}
