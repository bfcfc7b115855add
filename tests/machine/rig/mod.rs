//! The rig: Debian machines with systemd as PID 1, each in a container of its own, without a network but loopback.
//!
//! A machine is `systemd-nspawn` in a mount and a PID namespace made for it: when the outermost process ends, however it
//! does, the kernel ends everything in the machine and takes its mounts away with it. Commands run inside by `nsenter`.
//! Machines exist one at a time, so that what is measured in one is not disturbed by another. A machine lives in the
//! thread that boots it: the kernel ends it with that thread.

mod cgroup;
mod command;
mod http;
mod image;
mod load;
mod package;
mod ssh;

use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tempfile::TempDir;

use cgroup::Cgroups;
pub use command::Ran;
use image::{BOOKWORM, Image};
pub use image::{SERVERS, TRIXIE};
pub use load::Kind;
pub use package::{Fault, Package};

/// What a machine has to boot, or to shut down.
const BOOT_BOUND: Duration = Duration::from_mins(1);
/// What a command inside has, unless it says otherwise.
const RUN_BOUND: Duration = Duration::from_mins(2);
/// How systemd-nspawn ends when the machine wants to be booted anew.
const REBOOT: i32 = 133;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A booted machine; it ends with this value.
pub struct Machine {
    name: String,
    tree: PathBuf,
    /// The outermost process of this boot, and the machine's PID 1 as the host sees it.
    child: Child,
    leader: u32,
    cgroups: Cgroups,
    scratch: TempDir,
    _turn: MutexGuard<'static, ()>,
}

/// Writes a line past the capturing of the test harness, which shows nothing of a test that passes.
pub fn say(text: &str) {
    static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);
    let _ = writeln!(std::io::stderr().lock(), "machine: {:6.1} s: {text}", BEGUN.elapsed().as_secs_f32());
}

/// Whether machines can be booted here. Where they cannot, that is said; in CI it is a failure.
pub fn possible(test: &str) -> bool {
    let Err(reason) = tools() else { return true };
    assert!(std::env::var_os("CI").is_none_or(|value| value == "false"), "{test} cannot be left out in CI: {reason}");
    say(&format!("SKIPPED: {test}: {reason}"));
    false
}

fn tools() -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("booting machines needs root".into());
    }
    for tool in ["debootstrap", "systemd-nspawn", "nsenter", "unshare", "setpriv", "dpkg-deb", "ssh", "ssh-keygen"] {
        let found = Command::new(tool).arg("--help").stdin(Stdio::null()).output();
        if found.is_err() {
            return Err(format!("{tool} is missing: run  packaging/prerequisites test"));
        }
    }
    let unshare = Command::new("unshare").args(["--mount", "--pid", "--fork", "--mount-proc", "true"]).output();
    match unshare {
        Ok(output) if output.status.success() => Ok(()),
        other => Err(format!("no namespaces can be made here: {other:?}")),
    }
}

impl Machine {
    /// A bare Debian 12, booted; `None` where no machine can be.
    pub fn boot(name: &str) -> Option<Self> {
        Self::boot_from(&BOOKWORM, name)
    }

    /// A machine from another tree.
    pub fn boot_from(image: &Image, name: &str) -> Option<Self> {
        if !possible(name) {
            return None;
        }
        // A test that failed has left nothing that the next would trip over.
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let tree = image.tree();
        let scratch = scratch(name);
        for folder in ["upper", "work", "root", "host"] {
            fs::create_dir(scratch.path().join(folder)).unwrap();
        }
        if !can_overlay(&tree, scratch.path()) {
            let mut copy = Command::new("cp");
            copy.args(["-a", "--reflink=auto", "--no-target-directory"]).arg(&tree).arg(scratch.path().join("root"));
            let status = copy.status().unwrap();
            assert!(status.success(), "{name}: the tree cannot be copied");
        }
        let cgroups = Cgroups::new(name);
        let child = spawn(name, &tree, scratch.path(), &cgroups);
        let mut machine = Self { name: name.into(), tree, child, leader: 0, cgroups, scratch, _turn: turn };
        machine.wait_until_running();
        Some(machine)
    }

    /// A folder of the host's for what belongs to this machine; it goes away with it.
    pub fn scratch(&self) -> PathBuf {
        self.scratch.path().join("host")
    }

    /// The machine's PID 1 as the host sees it, until the next reboot. `scratch()/leader` holds the number, too.
    pub fn leader(&self) -> u32 {
        self.leader
    }

    /// Boots the machine anew, as `systemctl reboot` does, and waits until it runs.
    pub fn reboot(&mut self) {
        self.run(&["systemctl", "reboot"]);
        let status = self.wait_for_end();
        assert_eq!(status.code(), Some(REBOOT), "{}: it does not reboot:\n{}", self.name, self.console());
        self.child = spawn(&self.name, &self.tree, self.scratch.path(), &self.cgroups);
        self.wait_until_running();
    }

    /// Shuts the machine down in order; nothing can be run in it afterwards.
    pub fn power_off(&mut self) {
        self.run(&["systemctl", "poweroff"]);
        let status = self.wait_for_end();
        assert!(status.success(), "{}: it does not power off: {status}\n{}", self.name, self.console());
    }

    /// Runs a function in a thread whose network is the machine's.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let network = self.network();
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                enter(&network);
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn network(&self) -> File {
        File::open(format!("/proc/{}/ns/net", self.leader)).unwrap()
    }

    /// What systemd has written to the console since the last boot.
    pub fn console(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.scratch().join("console")).unwrap_or_default()).into_owned()
    }

    fn wait_until_running(&mut self) {
        let begun = Instant::now();
        self.leader = loop {
            if let Some(leader) = leader_of(self.child.id()) {
                break leader;
            }
            self.still_booting(begun, "it has no PID 1");
        };
        fs::write(self.scratch().join("leader"), self.leader.to_string()).unwrap();
        loop {
            let ran = self.run_for(BOOT_BOUND, &["systemctl", "is-system-running", "--wait"]);
            match ran.stdout.trim() {
                "running" => return,
                // There is nobody to ask yet.
                "" | "offline" | "initializing" | "starting" => self.still_booting(begun, ran.stderr.trim()),
                state => {
                    let failed = self.run(&["systemctl", "--failed", "--no-pager", "--full"]);
                    panic!("{}: the machine is {state}:\n{}\n{}", self.name, failed.stdout, self.console());
                }
            }
        }
    }

    fn still_booting(&mut self, begun: Instant, reason: &str) {
        let ended = self.child.try_wait().unwrap();
        assert!(
            ended.is_none() && begun.elapsed() < BOOT_BOUND,
            "{}: the machine does not boot: {reason} ({ended:?})\n{}",
            self.name,
            self.console()
        );
        std::thread::sleep(Duration::from_millis(20));
    }

    fn wait_for_end(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < BOOT_BOUND, "{}: it does not shut down:\n{}", self.name, self.console());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            say(&format!("{}: the journal's end after the failure:\n{}", self.name, self.last_words()));
        }
        // The child of this process is the parent of a PID namespace's first process, which is killed with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.cgroups.remove();
    }
}

impl Machine {
    /// For whoever has to find out why a test failed; the access log alone would fill it.
    fn last_words(&self) -> String {
        const SCRIPT: &str = "journalctl --no-pager --output=short-monotonic | grep -v '\"request_id\":' | tail -n 60";
        let ran = self.try_run(Duration::from_secs(10), &["sh", "-c", SCRIPT], b"");
        ran.map_or_else(|error| error, |ran| ran.stdout)
    }
}

/// A folder beside the trees, so that an overlay of both is on one file system. What an earlier run left there because
/// it was killed goes away.
fn scratch(name: &str) -> TempDir {
    let folder = image::cache().join("running");
    fs::create_dir_all(&folder).unwrap();
    for entry in fs::read_dir(&folder).unwrap().flatten() {
        let owner = entry.file_name().to_string_lossy().split('.').next().map(str::to_owned).unwrap_or_default();
        if !Path::new("/proc").join(owner).exists() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let prefix = format!("{}.{name}.", std::process::id());
    tempfile::Builder::new().prefix(&prefix).tempdir_in(folder).unwrap()
}

const MOUNT: &str = "mount -t overlay overlay -o \"lowerdir=$tree,upperdir=$scratch/upper,workdir=$scratch/work\" \
                     \"$scratch/root\"";

/// Whether this file system can be the upper one of an overlay; one that is an overlay itself cannot.
fn can_overlay(tree: &Path, scratch: &Path) -> bool {
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-ec", MOUNT]).env("tree", tree).env("scratch", scratch);
    command.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

fn spawn(name: &str, tree: &Path, scratch: &Path, cgroups: &Cgroups) -> Child {
    // First into the cgroup of the machine's own, then into namespaces of its own, then nspawn.
    const OUTER: &str = "for group in $groups; do echo $$ >\"$group/cgroup.procs\"; done
        exec unshare --mount --pid --fork --kill-child --mount-proc -- sh -ec \"$inner\"";
    const NSPAWN: &str = "exec systemd-nspawn --boot --quiet --private-network --register=no --keep-unit \
        --machine=\"beacon-$name\" --hostname=machine --link-journal=no --resolv-conf=off --timezone=off \
        --console=read-only --directory=\"$scratch/root\"";
    let overlay = fs::read_dir(scratch.join("root")).unwrap().next().is_none();
    let inner = if overlay { format!("{MOUNT}\n{NSPAWN}") } else { NSPAWN.to_owned() };
    let console = File::create(scratch.join("host/console")).unwrap();
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--", "sh", "-ec", OUTER])
        .env_clear()
        .env("PATH", command::PATH)
        // As on a real host, also where the one below has the older hierarchies.
        .env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1")
        .env("groups", cgroups.words())
        .env("inner", inner)
        .env("name", name)
        .env("tree", tree)
        .env("scratch", scratch)
        .stdin(Stdio::null())
        .stdout(console.try_clone().unwrap())
        .stderr(console)
        .spawn()
        .unwrap()
}

/// Moves this thread into a network namespace.
fn enter(network: &File) {
    move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
}

/// The first process of the innermost PID namespace below `outermost`, once it stands on the machine's own root.
fn leader_of(outermost: u32) -> Option<u32> {
    let below = |parent: u32| processes().into_iter().filter(move |process| process.parent == parent);
    let leader = below(outermost).flat_map(|nspawn| below(nspawn.id)).find(|process| process.namespaces == 3)?;
    Path::new("/proc").join(leader.id.to_string()).join("root").join(image::MARK).exists().then_some(leader.id)
}

struct Process {
    id: u32,
    parent: u32,
    /// How many PID namespaces it is in.
    namespaces: usize,
}

fn processes() -> Vec<Process> {
    let read = |entry: fs::DirEntry| {
        let id = entry.file_name().to_str()?.parse().ok()?;
        let status = fs::read_to_string(entry.path().join("status")).ok()?;
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let (parent, namespaces) = (field("PPid:")?.parse().ok()?, field("NSpid:")?.split_whitespace().count());
        Some(Process { id, parent, namespaces })
    };
    fs::read_dir("/proc").unwrap().flatten().filter_map(read).collect()
}
