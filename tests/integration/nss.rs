//! The binary never loads the host's NSS modules, although /etc/nsswitch.conf names them.
//!
//! A static glibc loads them all the same, and dies in them where the host's glibc is another one (Debian 13). So Beacon
//! pins its look-ups; here one leaves /etc/hosts in a mount namespace that asks for the modules. It runs as root, or as
//! anybody who may make a user namespace; only outside of CI is it left out where neither is possible.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use tempfile::TempDir;

const BOUND: Duration = Duration::from_mins(1);
const NAME: &str = "ca.beacon.test";

#[test]
fn a_look_up_loads_no_module_of_the_host() {
    if let Err(reason) = prepare() {
        assert!(std::env::var_os("CI").is_none(), "{reason}");
        eprintln!("SKIPPED: a_look_up_loads_no_module_of_the_host: {reason}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();

    // An ordinary program in the same surroundings loads the module; otherwise this would prove nothing.
    let control = surrounded(&folder, "getent").args(["ahosts", NAME]).env("LD_DEBUG", "libs").output().unwrap();
    let loaded = String::from_utf8_lossy(&control.stderr);
    assert!(loaded.contains("libnss_myhostname.so.2"), "the surroundings ask for no module:\n{loaded}");

    let config = folder.path().join("beacon.toml");
    fs::write(
        &config,
        format!(
            "[listen]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\noperations = []\n[tls.acme]\n\
             domains = [\"www.beacon.test\"]\ndirectory = \"https://{NAME}:14000/dir\"\n"
        ),
    )
    .unwrap();
    let mut beacon = Beacon::start(
        surrounded(&folder, env!("CARGO_BIN_EXE_beacon")).args(["serve", "--config"]).arg(&config),
        &folder,
    );
    beacon.until_an_order_has_failed();
    assert!(beacon.0.try_wait().unwrap().is_none(), "it has ended");
    let maps = fs::read_to_string(format!("/proc/{}/maps", beacon.0.id())).unwrap();
    assert!(maps.contains("/beacon"), "these are not the maps of beacon:\n{maps}");
    let modules: Vec<&str> = maps.lines().filter(|line| line.contains(".so")).collect();
    assert!(modules.is_empty(), "{modules:#?}");
}

/// A program that sees an nsswitch.conf with modules, and a resolver on loopback where nobody answers.
fn surrounded(folder: &TempDir, program: &str) -> Command {
    let file = |name: &str, content: &str| -> PathBuf {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        path
    };
    let nsswitch =
        file("nsswitch.conf", "hosts: files myhostname resolve dns\npasswd: files systemd\ngroup: files systemd\n");
    let resolv = file("resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n");
    let mut command = unshare();
    command
        .args([
            "sh",
            "-ec",
            // Without a resolv.conf the resolver is on loopback, too.
            "mount --bind \"$1\" /etc/nsswitch.conf; [ ! -e /etc/resolv.conf ] || mount --bind \"$2\" /etc/resolv.conf; \
             shift 2; exec \"$@\"",
            "sh",
        ])
        .arg(nsswitch)
        .arg(resolv)
        .arg(program)
        .stdin(Stdio::null());
    command
}

/// A mount namespace of its own; without root, in a user namespace in which we are root.
fn unshare() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]);
    if !is_root() {
        command.arg("--map-root-user");
    }
    command.arg("--");
    command
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Installs the module if it is missing, and tells what makes the test impossible.
fn prepare() -> Result<(), String> {
    let try_out = unshare().arg("true").stderr(Stdio::null()).status();
    if !try_out.is_ok_and(|status| status.success()) {
        return Err("it needs root, or `unshare --map-root-user --mount` to be allowed".into());
    }
    if has_module() {
        return Ok(());
    }
    if is_root() {
        // Its only dependency is libc, and it needs no daemon.
        let output = Command::new("apt-get")
            .args(["install", "-y", "--no-install-recommends", "libnss-myhostname"])
            .env("DEBIAN_FRONTEND", "noninteractive")
            .output();
        if has_module() {
            return Ok(());
        }
        return Err(format!("apt-get cannot install libnss-myhostname: {output:?}"));
    }
    Err("libnss-myhostname is missing: apt-get install libnss-myhostname".into())
}

fn has_module() -> bool {
    let Ok(folders) = fs::read_dir("/usr/lib") else { return false };
    folders.flatten().any(|folder| folder.path().join("libnss_myhostname.so.2").exists())
}

/// A Beacon, which ends with the test.
struct Beacon(Child, mpsc::Receiver<String>);

impl Beacon {
    fn start(command: &mut Command, folder: &TempDir) -> Self {
        let mut child = command
            .current_dir(folder.path())
            .env("XDG_STATE_HOME", Path::new(folder.path()).join("state"))
            .env("BEACON_MANAGED__POSTGRES", "off")
            .env("BEACON_MANAGED__REDIS", "off")
            .env_remove("STATE_DIRECTORY")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let (send, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                let _ = send.send(line);
            }
        });
        Self(child, lines)
    }

    /// Waits for the line that says that the authority could not be asked.
    fn until_an_order_has_failed(&self) {
        let mut seen = String::new();
        loop {
            // The end of the log is the end of the process: SIGFPE, as a rule, if a module of another glibc was loaded.
            let Ok(line) = self.1.recv_timeout(BOUND) else { panic!("no order was tried:\n{seen}") };
            if line.contains("no certificate for www.beacon.test") {
                return;
            }
            seen.push_str(&line);
            seen.push('\n');
        }
    }
}

impl Drop for Beacon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
