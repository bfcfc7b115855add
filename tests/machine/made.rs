//! What `packaging/deb` makes: the same bytes whoever makes it, and nothing that lintian objects to.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::rig::possible;

/// Makes the package under circumstances that must not show in it.
#[track_caller]
fn make(folder: &Path, name: &str, umask: &str, environment: &[(&str, &str)]) -> PathBuf {
    let output = folder.join(name);
    let made = Command::new("sh")
        .args(["-c", &format!("umask {umask}; exec \"$@\""), "sh"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/deb"))
        .args(["--binary", env!("CARGO_BIN_EXE_beacon"), "--version", "0.1.0", "--output"])
        .arg(&output)
        // What is thrown away after the test need not be small.
        .env("DPKG_DEB_COMPRESSOR_LEVEL", "0")
        .envs(environment.iter().copied())
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    PathBuf::from(String::from_utf8_lossy(&made.stdout).lines().last().unwrap())
}

#[test]
fn the_package_is_the_same_whoever_makes_it_and_lintian_has_no_objection() {
    if !possible("made") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let first = make(folder.path(), "first", "022", &[("TZ", "UTC"), ("LC_ALL", "C")]);
    let second = make(folder.path(), "second", "077", &[("TZ", "Asia/Tokyo"), ("LC_ALL", "C.UTF-8"), ("HOME", "/")]);
    assert!(fs::read(&first).unwrap() == fs::read(second).unwrap(), "two builds differ");
    let judged =
        Command::new("lintian").args(["--fail-on", "error,warning", "--allow-root"]).arg(first).output().unwrap();
    assert!(judged.status.success(), "{judged:?}");
}
