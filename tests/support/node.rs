//! Packages from npm for tests that node runs: installed once into the target folder, and again when the lock changes.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A folder with the packages of the package-lock.json in `sources`; `name` is the folder's.
pub fn packages(sources: &Path, name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&folder).unwrap();
    // Tests run at the same time, in threads or in processes; one of them installs.
    let lock = File::create(folder.join("lock")).unwrap();
    lock.lock().unwrap();
    let wanted = fs::read(sources.join("package-lock.json")).unwrap();
    let stamp = folder.join("installed");
    if fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
        return folder;
    }
    for name in ["package.json", "package-lock.json", ".npmrc"] {
        fs::copy(sources.join(name), folder.join(name)).unwrap();
    }
    let output = Command::new("npm")
        .args(["ci", "--ignore-scripts"])
        .current_dir(&folder)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("cannot run npm ({error}): apt-get install npm"));
    assert!(
        output.status.success(),
        "npm cannot install what these tests need:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    fs::write(&stamp, wanted).unwrap();
    folder
}
