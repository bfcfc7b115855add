//! Packages from PyPI for tests that Python runs: a virtual environment in the target folder, made again when the list of
//! packages changes.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The Python of an environment that has the packages of a requirements.txt; `name` is the folder's.
pub fn environment(requirements: &Path, name: &str) -> PathBuf {
    environment_of(Path::new("python3"), requirements, name)
}

/// The same of an interpreter that is chosen.
pub fn environment_of(interpreter: &Path, requirements: &Path, name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("test-venv").join(name);
    let python = folder.join("bin/python");
    fs::create_dir_all(&folder).unwrap();
    // Tests run at the same time, in threads or in processes; one of them installs.
    let lock = File::create(folder.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    let made = folder.join("made-of.txt");
    if fs::read(&made).ok() == fs::read(requirements).ok() {
        return python;
    }
    run(
        Command::new(interpreter).args(["-m", "venv", "--clear"]).arg(&folder),
        "this test needs Python with venv: apt-get install python3-venv",
    );
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"];
    run(
        Command::new(&python).args(install).arg(requirements),
        "this test needs a Python package index, or one that pip is configured for (PIP_INDEX_URL)",
    );
    fs::copy(requirements, &made).unwrap();
    python
}

fn run(command: &mut Command, need: &str) {
    let program = command.get_program().to_owned();
    let Output { status, stderr, .. } =
        command.output().unwrap_or_else(|error| panic!("{need}; {} did not start: {error}", program.display()));
    assert!(status.success(), "{need}; {} said:\n{}", program.display(), String::from_utf8_lossy(&stderr));
}
