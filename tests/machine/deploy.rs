//! `make configure` and `make deploy` against a machine, over a real sshd: the way of a team, and what holds it back.
//!
//! The verbs run in the machine's network, so that the health gate asks "from outside" as it would across the internet,
//! and from a copy of packaging/deploy whose environment is the test's own.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::rig::{Fault, Machine, Package, say};

const BOUND: Duration = Duration::from_secs(30);

/// A deploying machine: the verbs, and the environment `test` that they know.
struct Desk<'a> {
    machine: &'a Machine,
    root: PathBuf,
    ssh_config: PathBuf,
}

impl<'a> Desk<'a> {
    fn new(machine: &'a Machine) -> Self {
        let root = machine.scratch().join("desk");
        let (verbs, environments) = (root.join("packaging/deploy"), root.join("config/environments"));
        fs::create_dir_all(&verbs).unwrap();
        fs::create_dir_all(environments).unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/deploy");
        for file in ["run", "host.bash", "environment.bash"] {
            fs::copy(source.join(file), verbs.join(file)).unwrap();
        }
        Self { machine, root, ssh_config: machine.sshd().config }
    }

    /// Writes config/environments/test.toml.
    fn environment(&self, more: &str) {
        let text = format!(
            "host = \"machine\"\nhealth = \"https://localhost/\"\naddress = \"127.0.0.1\"\nca_file = \"ca.crt\"\n{more}"
        );
        fs::write(self.root.join("config/environments/test.toml"), text).unwrap();
    }

    /// Writes .env.test.
    fn variables(&self, text: &str) {
        let path = self.root.join(".env.test");
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn run(&self, verb: &str, settings: &[(&str, &str)]) -> Output {
        Command::new("nsenter")
            .arg(format!("--net=/proc/{}/ns/net", self.machine.leader()))
            .arg(self.root.join("packaging/deploy/run"))
            .arg(verb)
            .env("ENV", "test")
            .env("SSH_CONFIG", &self.ssh_config)
            .env("DEPLOYER", "ada")
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    #[track_caller]
    fn deploy(&self, package: &Package, code: i32, says: &str) {
        let path = package.path();
        ends(&self.run("deploy", &[("DEB", path.to_str().unwrap()), ("FORCE", "")]), code, says);
    }
}

#[track_caller]
fn ends(output: &Output, code: i32, says: &str) {
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(text.contains(says), "{says:?} is not in:\n{text}");
}

fn installed(machine: &Machine) -> String {
    machine.ok(&["dpkg-query", "--show", "--showformat=${db:Status-Status} ${Version}", "beacon"])
}

#[test]
fn a_team_configures_deploys_and_is_held_back_from_what_is_wrong() {
    let Some(machine) = Machine::boot("deploy") else { return };
    let desk = Desk::new(&machine);
    let [first, second, third] = ["0.1.0", "0.2.0", "0.3.0"].map(Package::version);
    fs::write(desk.root.join("ca.crt"), "").unwrap();
    desk.environment("");
    desk.variables("BEACON_LOG__LEVEL=info\nTOKEN=do-not-show-me\n");
    let path = first.path();
    let deb = [("DEB", path.to_str().unwrap())];

    say("deploy: before the host is configured");
    desk.deploy(&first, 69, "make configure");

    say("deploy: configure");
    ends(&desk.run("configure", &[deb[0], ("DRY_RUN", "1")]), 0, "");
    assert!(!machine.run(&["test", "-e", "/usr/bin/beacon"]).status.success(), "DRY_RUN=1 installs nothing");
    let configured = desk.run("configure", &deb);
    ends(&configured, 0, "Done");
    let said = format!("{configured:?}");
    assert!(!said.contains("do-not-show-me"), "a value is shown: {said}");
    assert_eq!(installed(&machine), "installed 0.1.0");
    machine.until_serves(BOUND);
    assert!(machine.get_file("/etc/beacon/beacon.env").contains("do-not-show-me"));
    fs::write(desk.root.join("ca.crt"), machine.get_file("/var/lib/beacon/tls/ca.crt")).unwrap();
    ends(&desk.run("configure", &deb), 0, "installed already");

    say("deploy: a new version, under load");
    let loads = machine.loads();
    desk.deploy(&second, 0, "Done");
    loads.stop_unharmed("deploy");
    assert_eq!(installed(&machine), "installed 0.2.0");
    desk.deploy(&second, 0, "installed already");

    say("deploy: an older version is refused");
    desk.deploy(&first, 1, "FORCE=1");

    say("deploy: a health gate that fails goes back by itself");
    desk.environment("expect_status = [418]\n");
    let loads = machine.loads();
    desk.deploy(&third, 1, "0.2.0");
    loads.stop_unharmed("a failing health gate");
    assert_eq!(installed(&machine), "installed 0.2.0");
    machine.until_serves(BOUND);
    desk.environment("");

    say("deploy: a version that does not become ready");
    let loads = machine.loads();
    desk.deploy(&Package::broken("0.4.0", Fault::Serve), 1, "beacon@b.service did not become ready");
    loads.stop_unharmed("a version that does not become ready");
    assert_eq!(installed(&machine), "installed 0.2.0");

    say("deploy: a candidate that cannot use the configuration is not installed");
    desk.deploy(&Package::broken("0.4.1", Fault::Check), 78, "broken on purpose: check");
    assert_eq!(installed(&machine), "installed 0.2.0");

    say("deploy: variables with a mistake are not taken");
    desk.variables("BEACON_LOG__LEVLE=info\n");
    let path = second.path();
    ends(&desk.run("configure", &[("DEB", path.to_str().unwrap())]), 78, "BEACON_LOG__LEVLE");
    assert!(machine.get_file("/etc/beacon/beacon.env").contains("do-not-show-me"), "the old ones are kept");

    say("deploy: rollback, status, env-diff, backup, logs");
    let loads = machine.loads();
    ends(&desk.run("rollback", &[]), 0, "0.1.0");
    loads.stop_unharmed("rollback");
    assert_eq!(installed(&machine), "installed 0.1.0");
    ends(&desk.run("status", &[]), 0, "serving");
    desk.variables("BEACON_LOG__LEVEL=info\nTOKEN=another\n");
    let diff = desk.run("env-diff", &[]);
    ends(&diff, 1, "~ TOKEN");
    assert!(!format!("{diff:?}").contains("another"), "a value is shown");
    let archive = desk.root.join("backup.tar.zst");
    ends(&desk.run("backup", &[("FILE", archive.to_str().unwrap())]), 0, "");
    assert_eq!(archive.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read(&archive).unwrap()[..4], [0x28, 0xb5, 0x2f, 0xfd]);
    ends(&desk.run("logs", &[("LINES", "5")]), 0, "");

    say("deploy: each deployment has left a line in the journal");
    let audit = machine.ok(&["journalctl", "--identifier=beacon-deploy", "--no-pager", "--output=cat"]);
    for word in ["ada", "0.2.0", "0.3.0", "0.4.0", "0.4.1"] {
        assert!(audit.contains(word), "{word} is not in:\n{audit}");
    }
}
