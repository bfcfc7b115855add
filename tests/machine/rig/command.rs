//! Commands in a machine: as root, with a clean environment, and never for ever.

use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::{Machine, RUN_BOUND};

/// Where commands are looked for.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What became of a command.
#[derive(Debug)]
pub struct Ran {
    /// The command itself, for messages.
    pub words: String,
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

impl Ran {
    /// The exit code; -1 when a signal ended it.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }

    /// Everything, for a message.
    pub fn report(&self) -> String {
        let Self { words, status, stdout, stderr, .. } = self;
        format!("`{words}` in the machine: {status}\n--- stdout\n{stdout}--- stderr\n{stderr}---")
    }

    /// Panics unless it exited with `code`.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code(), code, "{}", self.report());
        self
    }

    /// Panics unless stdout or stderr has `text`.
    #[track_caller]
    pub fn expect_text(self, text: &str) -> Self {
        assert!(self.stdout.contains(text) || self.stderr.contains(text), "no {text:?} in {}", self.report());
        self
    }
}

impl Machine {
    /// Runs a command, and tells how it ended; it has two minutes.
    #[track_caller]
    pub fn run(&self, words: &[&str]) -> Ran {
        self.run_for(RUN_BOUND, words)
    }

    /// Runs a command with a bound of the caller's own.
    #[track_caller]
    pub fn run_for(&self, bound: Duration, words: &[&str]) -> Ran {
        self.try_run(bound, words, b"").unwrap_or_else(|error| panic!("{error}"))
    }

    /// Runs a command with these bytes as its standard input.
    #[track_caller]
    pub fn run_with(&self, input: &[u8], words: &[&str]) -> Ran {
        self.try_run(RUN_BOUND, words, input).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Runs a command that must succeed; gives its standard output.
    #[track_caller]
    pub fn ok(&self, words: &[&str]) -> String {
        let ran = self.run(words);
        assert!(ran.status.success(), "{}", ran.report());
        ran.stdout
    }

    /// Runs a shell's commands, the first failure of which ends it; gives their standard output.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        self.ok(&["sh", "-ec", script])
    }

    /// Writes a file whole, with the folders above it.
    #[track_caller]
    pub fn put(&self, path: &str, bytes: impl AsRef<[u8]>, mode: u32) {
        const SCRIPT: &str = "mkdir -p \"${1%/*}\"; cat >\"$1.put\"; chmod \"$2\" \"$1.put\"; mv \"$1.put\" \"$1\"";
        let ran = self.run_with(bytes.as_ref(), &["sh", "-ec", SCRIPT, "sh", path, &format!("{mode:o}")]);
        assert!(ran.status.success(), "{}", ran.report());
    }

    /// A file's content.
    #[track_caller]
    pub fn get_file(&self, path: &str) -> String {
        self.ok(&["cat", "--", path])
    }

    /// What a unit has written since the last boot. A pattern such as `beacon*` stands for several units.
    #[track_caller]
    pub fn journal(&self, unit: &str) -> String {
        self.ok(&["journalctl", "--boot", "--no-pager", "--output=short-monotonic", "--unit", unit])
    }

    /// A property of a unit, as in `show("beacon@a", "MainPID")`.
    #[track_caller]
    pub fn show(&self, unit: &str, property: &str) -> String {
        self.ok(&["systemctl", "show", "--value", "--property", property, unit]).trim().to_owned()
    }

    /// Waits until `state` gives something; asks again at short intervals.
    #[track_caller]
    pub fn until<T>(&self, what: &str, bound: Duration, mut state: impl FnMut() -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(value) = state() {
                return value;
            }
            assert!(begun.elapsed() < bound, "{}: waited {bound:?} in vain for {what}", self.name);
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub(super) fn try_run(&self, bound: Duration, words: &[&str], input: &[u8]) -> Result<Ran, String> {
        // Files and not pipes: a daemon that keeps a pipe open would keep its reader waiting.
        let file = || tempfile::tempfile().unwrap();
        let (mut stdin, mut stdout, mut stderr) = (file(), file(), file());
        stdin.write_all(input).and_then(|()| stdin.rewind()).unwrap();
        let begun = Instant::now();
        let mut child = Command::new("nsenter")
            .args(["--target", &self.leader.to_string(), "--all", "--", "env", "-i", "--chdir=/"])
            .args([&format!("PATH={PATH}"), "HOME=/root", "LANG=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"])
            .args(words)
            .process_group(0)
            .stdin(stdin)
            .stdout(stdout.try_clone().unwrap())
            .stderr(stderr.try_clone().unwrap())
            .spawn()
            .map_err(|error| format!("nsenter: {error}"))?;
        let status = wait(&mut child, bound);
        let text = |file: &mut std::fs::File| {
            let mut bytes = Vec::new();
            file.rewind().and_then(|()| file.read_to_end(&mut bytes)).unwrap();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let (stdout, stderr, words) = (text(&mut stdout), text(&mut stderr), words.join(" "));
        match status {
            Some(status) => Ok(Ran { words, status, stdout, stderr, took: begun.elapsed() }),
            None => Err(format!("`{words}` in the machine has not ended after {bound:?}:\n{stdout}\n{stderr}")),
        }
    }
}

/// Waits for the end; when it does not come, ends the whole group.
fn wait(child: &mut Child, bound: Duration) -> Option<ExitStatus> {
    let begun = Instant::now();
    while begun.elapsed() < bound {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let group = Pid::from_raw(child.id() as i32).unwrap();
    let _ = kill_process_group(group, Signal::KILL);
    let _ = child.wait();
    None
}
