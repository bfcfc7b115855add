//! A folder of its own and a cleared environment for each run of the binary.

use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A folder with an empty beacon.toml and .env, which keep the machine's own configuration out.
pub struct Scratch {
    folder: tempfile::TempDir,
    environment: Vec<(String, OsString)>,
}

/// What a run gave.
#[derive(Debug)]
pub struct Outcome {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Scratch {
    pub fn new() -> Self {
        let mut scratch = Self { folder: tempfile::tempdir().unwrap(), environment: Vec::new() };
        let config = scratch.file("beacon.toml", "");
        scratch.file(".env", "");
        scratch.variable("BEACON_CONFIG", config);
        // Below it is the state folder; `check` writes nothing there.
        let home = scratch.path().join("home");
        scratch.variable("HOME", home);
        scratch.variable("BEACON_MANAGED__POSTGRES", "off");
        scratch.variable("BEACON_MANAGED__REDIS", "off");
        scratch
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file that only its owner may read.
    pub fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    pub fn config(&self, text: &str) {
        self.file("beacon.toml", text);
    }

    pub fn variable(&mut self, name: &str, value: impl Into<OsString>) {
        self.environment.push((name.into(), value.into()));
    }

    pub fn credential(&mut self, name: &str, text: &str) {
        let path = self.file(&format!("credentials/{name}"), text);
        self.variable("CREDENTIALS_DIRECTORY", path.parent().unwrap());
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_beacon"));
        command.args(arguments).current_dir(self.path()).env_clear().envs(self.environment.iter().cloned());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Outcome {
        self.run_with_input(arguments, b"")
    }

    pub fn run_with_input(&self, arguments: &[&str], input: &[u8]) -> Outcome {
        let mut command = self.command(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // A command that does not read its input may be gone already.
        let _ = child.stdin.take().unwrap().write_all(input);
        let output = child.wait_with_output().unwrap();
        Outcome {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Checks that the configuration is refused with code 78 and that the message has each of `parts`.
    #[track_caller]
    pub fn refused(&self, parts: &[&str]) -> Outcome {
        let outcome = self.run(&["check"]);
        assert_eq!(outcome.code, 78, "{outcome:?}");
        assert_eq!(outcome.out, "");
        for part in parts {
            assert!(outcome.err.contains(part), "no {part:?} in:\n{}", outcome.err);
        }
        outcome
    }
}
