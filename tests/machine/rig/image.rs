//! The trees that machines boot from: made by debootstrap once, kept in `.cache/machine` below the repository, and never
//! changed afterwards. A tree's name ends in a digest of its recipe, so a changed recipe makes a new tree.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{FlockOperation, flock};
use sha2::{Digest as _, Sha256};

/// What a tree is made of.
pub struct Image {
    suite: &'static str,
    packages: &'static [&'static str],
    /// The `hosts:` line of nsswitch.conf, where it is not to be what the packages' scripts made of it.
    hosts: Option<&'static str>,
}

/// Debian 12 as a bare server has it.
pub const BOOKWORM: Image = Image {
    suite: "bookworm",
    packages: &[
        "apt",
        "ca-certificates",
        "dbus",
        "init-system-helpers",
        "iproute2",
        "openssh-server",
        "sudo",
        "systemd",
        "systemd-sysv",
    ],
    hosts: None,
};

/// Debian 12 with the programs of servers, whose own services are off, as on a host whose operator wants Beacon's alone.
pub const SERVERS: Image = Image {
    suite: "bookworm",
    packages: &[
        "apt",
        "ca-certificates",
        "dbus",
        "init-system-helpers",
        "iproute2",
        "openssh-server",
        "postgresql",
        "procps",
        "redis-server",
        "sudo",
        "systemd",
        "systemd-sysv",
    ],
    hosts: None,
};

/// Debian 13 with the modules for look-ups that its cloud images have.
pub const TRIXIE: Image = Image {
    suite: "trixie",
    packages: &[
        "ca-certificates",
        "dbus",
        "init-system-helpers",
        "iproute2",
        "libnss-myhostname",
        "libnss-resolve",
        "systemd",
        "systemd-resolved",
        "systemd-sysv",
    ],
    hosts: Some("hosts: files resolve myhostname dns"),
};

/// Exists in every machine, and tells its root from the host's while it boots.
pub const MARK: &str = "etc/beacon-machine";

/// Work that would begin by itself in the middle of a test, and wants the network; and servers that nobody asks for.
const MASKED: [&str; 6] = [
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "e2scrub_all.timer",
    "systemd-networkd-wait-online.service",
    "postgresql.service",
    "redis-server.service",
];

/// To be raised with every change of `finish`.
const RECIPE: u32 = 2;

/// Where trees, and the scratch folders of running machines, are kept.
pub fn cache() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache/machine")
}

impl Image {
    /// The tree, made now if it is not there yet.
    pub fn tree(&self) -> PathBuf {
        let folder = cache();
        fs::create_dir_all(&folder).unwrap();
        let tree = folder.join(format!("{}-{}", self.suite, self.digest()));
        // One maker at a time; the others wait for what it makes.
        let lock = File::create(folder.join(format!("{}.lock", self.suite))).unwrap();
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        if !tree.exists() {
            super::say(&format!("making a tree of Debian {} in {} (once)", self.suite, tree.display()));
            let making = folder.join(format!("{}.making", self.suite));
            if making.exists() {
                fs::remove_dir_all(&making).unwrap();
            }
            self.debootstrap(&making);
            self.finish(&making);
            fs::rename(&making, &tree).unwrap();
        }
        tree
    }

    fn digest(&self) -> String {
        let text = format!("{RECIPE} {} {:?} {:?}", self.suite, self.packages, self.hosts);
        Sha256::digest(text).iter().take(5).fold(String::new(), |mut all, byte| {
            let _ = write!(all, "{byte:02x}");
            all
        })
    }

    fn debootstrap(&self, making: &Path) {
        let mut command = Command::new("debootstrap");
        command.arg("--variant=minbase").arg(format!("--include={}", self.packages.join(","))).arg(self.suite);
        command.arg(making).args(mirror()).stdin(Stdio::null());
        let output = command.output().unwrap();
        assert!(
            output.status.success(),
            "debootstrap cannot make Debian {}: {}\n{}",
            self.suite,
            String::from_utf8_lossy(&output.stderr),
            String::from_utf8_lossy(&output.stdout)
        );
    }

    /// Takes out what belongs to the host or only takes space, and what would disturb the tests.
    fn finish(&self, tree: &Path) {
        let write = |name: &str, text: &str| fs::write(tree.join(name), text).unwrap();
        for (folder, ending) in [("var/cache/apt/archives", ".deb"), ("var/lib/apt/lists", "")] {
            for entry in fs::read_dir(tree.join(folder)).unwrap().flatten() {
                if entry.file_type().unwrap().is_file() && entry.file_name().to_string_lossy().ends_with(ending) {
                    fs::remove_file(entry.path()).unwrap();
                }
            }
        }
        write("etc/apt/sources.list", "# A test machine has no network.\n");
        let _ = fs::remove_file(tree.join("etc/resolv.conf"));
        write("etc/hostname", "machine\n");
        write("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n127.0.1.1 machine\n");
        // Each machine makes its own when it boots.
        write("etc/machine-id", "");
        // The disk is thrown away after the test: nothing need survive a power cut.
        write("etc/dpkg/dpkg.cfg.d/unsafe-io", "force-unsafe-io\n");
        for unit in MASKED {
            let link = tree.join("etc/systemd/system").join(unit);
            let _ = fs::remove_file(&link);
            symlink("/dev/null", link).unwrap();
        }
        if let Some(hosts) = self.hosts {
            let path = tree.join("etc/nsswitch.conf");
            let text = fs::read_to_string(&path).unwrap();
            let lines = text.lines().map(|line| if line.starts_with("hosts:") { hosts } else { line });
            fs::write(&path, lines.collect::<Vec<_>>().join("\n") + "\n").unwrap();
        }
        write(MARK, "This is a test machine, and not the host.\n");
    }
}

/// The mirror that the host itself uses, where the host is a Debian; otherwise debootstrap knows one.
fn mirror() -> Option<String> {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    if !release.lines().any(|line| line == "ID=debian") {
        return None;
    }
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    let more = fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten();
    files.extend(more.map(|entry| entry.path()));
    files.sort();
    files.iter().filter_map(|path| fs::read_to_string(path).ok()).find_map(|text| mirror_in(&text))
}

/// The first archive in a list of sources, in either of apt's two forms, that is Debian's own and not that of its
/// security updates, which has no whole suite.
fn mirror_in(text: &str) -> Option<String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    lines
        .filter(|line| line.starts_with("deb ") || line.starts_with("URIs:"))
        .flat_map(str::split_whitespace)
        .find(|word| word.contains("://") && word.trim_end_matches('/').ends_with("/debian"))
        .map(str::to_owned)
}

#[test]
fn the_host_s_mirror_is_found_in_both_forms() {
    let one = "# deb http://old.test/debian bookworm main\ndeb [arch=amd64] http://a.test/debian bookworm main\n";
    assert_eq!(mirror_in(one).as_deref(), Some("http://a.test/debian"));
    let two = "Types: deb\nURIs: http://b.test/debian/\nSuites: bookworm\n";
    assert_eq!(mirror_in(two).as_deref(), Some("http://b.test/debian/"));
    assert_eq!(mirror_in("deb http://c.test/debian-security bookworm-security main\n"), None);
}
