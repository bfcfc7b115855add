//! Packages to install: what packaging/deb makes of the binary under test, in several versions, and broken ones.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use tempfile::TempDir;

use super::Machine;

/// Where a package is put in the machine.
const INSIDE: &str = "/root/beacon.deb";

/// A package, and where it lies on the host.
pub struct Package {
    folder: TempDir,
    pub version: String,
}

/// What is wrong with a broken package's program; everything else is passed on to the real one.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// It ends at once when it is to serve.
    Serve,
    /// It finds every configuration wrong.
    Check,
}

impl Package {
    /// The package in this version. Made by packaging/deb the first time; the others are that one with another number,
    /// since making it takes a while.
    #[track_caller]
    pub fn version(version: &str) -> Self {
        Self::derive(version, |_| {})
    }

    /// A package whose program is a script that fails, before the real program beside it.
    #[track_caller]
    pub fn broken(version: &str, fault: Fault) -> Self {
        let (verb, code) = match fault {
            Fault::Serve => ("serve", 1),
            Fault::Check => ("check", 78),
        };
        Self::derive(version, |tree| {
            let program = tree.join("usr/bin/beacon");
            fs::rename(&program, tree.join("usr/bin/beacon.real")).unwrap();
            let script = format!(
                "#!/bin/sh\n[ \"$1\" != {verb} ] || {{ echo 'broken on purpose: {verb}' >&2; exit {code}; }}\n\
                 # As a candidate of a deployment it is alone, beside the program that is installed.\n\
                 real=/usr/bin/beacon.real; [ -x \"$real\" ] || real=/usr/bin/beacon\nexec \"$real\" \"$@\"\n"
            );
            fs::write(&program, script).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
            // A script needs its interpreter, which the unit's sandbox would not let run: what is to fail is the script.
            let unit = "[Service]\nNoExecPaths=\nExecPaths=\n";
            let folder = tree.join("usr/lib/systemd/system/beacon@.service.d");
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("broken.conf"), unit).unwrap();
        })
    }

    #[track_caller]
    fn derive(version: &str, change: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("tree");
        tool(Command::new("dpkg-deb").arg("--raw-extract").arg(first()).arg(&tree));
        let control = tree.join("DEBIAN/control");
        let text = fs::read_to_string(&control).unwrap();
        let lines = text.lines().map(|line| match line.split_once(':') {
            Some(("Version", _)) => format!("Version: {version}"),
            _ => line.to_owned(),
        });
        fs::write(&control, lines.collect::<Vec<_>>().join("\n") + "\n").unwrap();
        change(&tree);
        let sums =
            "find . -path ./DEBIAN -prune -o -type f -printf '%P\\0' | sort -z | xargs -0 md5sum >DEBIAN/md5sums";
        tool(Command::new("sh").args(["-c", sums]).current_dir(&tree));
        let package = Self { version: version.into(), folder };
        tool(
            Command::new("dpkg-deb")
                .args(["--build", "--root-owner-group", "-Zgzip", "-z1"])
                .arg(&tree)
                .arg(package.path()),
        );
        fs::remove_dir_all(&tree).unwrap();
        package
    }

    /// The file on the host.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("beacon.deb")
    }
}

impl Machine {
    /// Puts a package into the machine; gives its path there.
    #[track_caller]
    pub fn put_package(&self, package: &Package) -> &'static str {
        self.put(INSIDE, fs::read(package.path()).unwrap(), 0o644);
        INSIDE
    }

    /// Installs a package as a sysadmin does, whichever version is there.
    #[track_caller]
    pub fn install(&self, package: &Package) -> super::Ran {
        let path = self.put_package(package);
        self.run(&["apt-get", "install", "-y", "--no-install-recommends", "--allow-downgrades", path])
    }
}

/// What packaging/deb makes of the binary under test, once a run.
#[track_caller]
fn first() -> PathBuf {
    static FIRST: OnceLock<PathBuf> = OnceLock::new();
    FIRST
        .get_or_init(|| {
            super::say("making the package");
            let folder = super::image::cache().join(format!("running/{}.package", std::process::id()));
            fs::create_dir_all(&folder).unwrap();
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/deb");
            let mut command = Command::new(script);
            command.args(["--binary", env!("CARGO_BIN_EXE_beacon"), "--version", "0.1.0", "--output"]);
            // What is thrown away after the test need not be small.
            command.arg(&folder).envs([("DPKG_DEB_COMPRESSOR_LEVEL", "0")]);
            let said = tool(&mut command);
            PathBuf::from(said.lines().last().unwrap_or_default())
        })
        .clone()
}

#[track_caller]
fn tool(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}\n{err}", output.status);
    out.into_owned()
}
