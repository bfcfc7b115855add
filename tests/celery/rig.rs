//! What the tests stand on: a Redis for messages and results, one for the traces of bodies, and workers to start and kill.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::python;
use crate::support::{BOUND, Redis, until};

/// The application and the journeys.
pub const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/celery/python");

/// Which program runs the tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// `beacon worker`.
    Beacon,
    /// `celery worker`.
    Stock,
}

impl Program {
    /// The one that is tested.
    pub fn tested() -> Self {
        match std::env::var("CELERY_TEST_WORKER").as_deref() {
            Ok("stock") => Self::Stock,
            Ok("beacon") | Err(_) => Self::Beacon,
            Ok(other) => panic!("CELERY_TEST_WORKER is \"{other}\", neither \"beacon\" nor \"stock\""),
        }
    }

    /// As the journeys know it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Beacon => "beacon",
            Self::Stock => "stock",
        }
    }
}

/// The ground of a test.
pub struct Rig {
    pub redis: Redis,
    pub effects: Redis,
    folder: TempDir,
    python: PathBuf,
    /// The broker's URL for workers, if it is not the server's own.
    pub broker: Option<String>,
    /// What the application has as its visibility timeout, in seconds.
    pub visibility: u32,
    /// More of Beacon's configuration, in which NODE stands for the worker's name.
    pub configuration: String,
    /// Whether workers have the Python application; else they have what the configuration says alone.
    pub application: bool,
    /// Words that choose cases of a journey by their names; for developing.
    pub only: Option<String>,
}

/// A worker; it is killed with the value.
pub struct Worker {
    /// Its node name.
    pub node: String,
    child: Child,
    log: PathBuf,
}

/// The Python with Celery of that version: "5.7", "5.6", "5.5" or "5.4".
pub fn celery(version: &str) -> PathBuf {
    let (list, name) = match version {
        "5.7" => ("requirements.txt".to_owned(), "celery".to_owned()),
        other => (format!("requirements-{other}.txt"), format!("celery-{other}")),
    };
    python::environment(&Path::new(PYTHON).join(list), &name)
}

impl Rig {
    /// With a Redis that forgets when it stops.
    pub fn new() -> Self {
        Self::on(Redis::start())
    }

    /// With that Redis for messages.
    pub fn on(redis: Redis) -> Self {
        let folder = tempfile::Builder::new().prefix("beacon-celery-").tempdir_in("/tmp").unwrap();
        Self {
            redis,
            effects: Redis::start(),
            folder,
            python: celery("5.7"),
            broker: None,
            visibility: 3600,
            configuration: String::new(),
            application: true,
            only: std::env::var("CELERY_TEST_CASES").ok(),
        }
    }

    /// The folder of this test.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A Python program with the application on its path and the servers in its environment.
    pub fn program(&self, python: &Path) -> Command {
        let mut command = Command::new(python);
        self.prepare(&mut command);
        command
    }

    fn prepare(&self, command: &mut Command) {
        let path = std::env::var("PATH").unwrap_or_default();
        let url = self.redis.url();
        command
            .current_dir(self.path())
            .env("PATH", format!("{}:{path}", self.python.parent().unwrap().display()))
            .env("HOME", self.path())
            .env("PYTHONPATH", PYTHON)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("PYTHONUTF8", "1")
            .env("PROJ_BROKER", self.broker.as_ref().unwrap_or(&url))
            .env("PROJ_RESULTS", self.broker.as_ref().unwrap_or(&url))
            .env("PROJ_EFFECTS", self.effects.url())
            .env("PROJ_VISIBILITY", self.visibility.to_string())
            .env_remove("CELERY_TEST_WORKER")
            .stdin(Stdio::null());
    }

    /// A worker of the program that is tested, with two places, ready.
    #[track_caller]
    pub fn worker(&self, node: &str) -> Worker {
        self.worker_of(Program::tested(), node, &["-c", "2"])
    }

    /// A worker with these flags, ready.
    #[track_caller]
    pub fn worker_of(&self, program: Program, node: &str, flags: &[&str]) -> Worker {
        let mut worker = self.launch(program, node, flags);
        worker.wait_ready();
        worker
    }

    /// A worker with these flags, that may not be ready for long.
    #[track_caller]
    pub fn launch(&self, program: Program, node: &str, flags: &[&str]) -> Worker {
        let mut command = self.command_of(program, node);
        if self.application {
            command.args(["-A", "proj"]);
        }
        command.args(["worker", "-n", node, "-l", "INFO"]).args(flags);
        if !self.application {
            let url = self.redis.url();
            let broker = self.broker.as_ref().unwrap_or(&url);
            command.args(["-b", broker, "--result-backend", broker, "-Q", "celery"]);
        }
        self.spawn(&mut command, node)
    }

    /// The program, before its first argument.
    pub fn command(&self, program: Program) -> Command {
        self.command_of(program, "")
    }

    fn command_of(&self, program: Program, node: &str) -> Command {
        let mut command = match program {
            Program::Stock => {
                let mut command = Command::new(&self.python);
                command.args(["-m", "celery"]);
                command
            }
            Program::Beacon => {
                let state = tempfile::Builder::new().prefix("state-").tempdir_in(self.path()).unwrap().keep();
                let file = state.join("beacon.toml");
                let own =
                    format!("server.state_dir = {state:?}\nmanaged.redis = \"off\"\nmanaged.postgres = \"off\"\n");
                fs::write(&file, own + &self.configuration.replace("NODE", node)).unwrap();
                let mut command = Command::new(env!("CARGO_BIN_EXE_beacon"));
                command.arg("--config").arg(file);
                command
            }
        };
        self.prepare(&mut command);
        command
    }

    /// Starts a worker whose log goes into a file by its name.
    #[track_caller]
    pub fn spawn(&self, command: &mut Command, node: &str) -> Worker {
        let log = self.path().join(format!("{node}.log"));
        let file = File::options().create(true).append(true).open(&log).unwrap();
        let child = command
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            // What it leaves behind can then be ended with it.
            .process_group(0)
            .spawn()
            .unwrap();
        Worker { node: node.to_owned(), child, log }
    }

    /// The number of messages that wait in a queue, of each priority.
    pub fn waiting(&self, queue: &str) -> usize {
        ["", "\u{6}\u{16}3", "\u{6}\u{16}6", "\u{6}\u{16}9"]
            .iter()
            .map(|step| self.redis.ask(&["LLEN", &format!("{queue}{step}")]).parse::<usize>().unwrap())
            .sum()
    }

    /// The traces that bodies left under a key.
    pub fn traces(&self, key: &str) -> Vec<String> {
        let text = self.effects.ask(&["LRANGE", key, "0", "-1"]);
        text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    /// Waits for so many traces.
    #[track_caller]
    pub fn wait_traces(&self, key: &str, number: usize) -> Vec<String> {
        until(&format!("{number} traces in {key}"), || {
            let found = self.effects.ask(&["LLEN", key]).parse::<usize>().unwrap();
            (found >= number).then_some(())
        });
        self.traces(key)
    }

    /// Sends tasks by the client: a line of Python in which `tasks` and `app` are known. Gives what it prints.
    #[track_caller]
    pub fn client(&self, code: &str) -> String {
        let mut command = self.program(&self.python);
        let url = self.redis.url();
        command.env("PROJ_BROKER", &url).env("PROJ_RESULTS", &url);
        let output = command.args(["-c", &format!("from proj import app, tasks\n{code}")]).output().unwrap();
        assert!(output.status.success(), "{code}\n{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }
}

impl Worker {
    /// Waits until it says that it is ready.
    #[track_caller]
    pub fn wait_ready(&mut self) {
        let begun = Instant::now();
        while !self.log().contains("ready") {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "{} has ended with {ended:?}:\n{}", self.node, self.log());
            assert!(begun.elapsed() < BOUND, "{} is not ready:\n{}", self.node, self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What it wrote so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name, as in "TERM", to the process alone.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([format!("-{name}"), self.pid().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Ends it as the kernel does when memory is out: the parent alone, with no time for anything.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    /// Its end by itself, waited for.
    #[track_caller]
    pub fn wait_end(&mut self) -> ExitStatus {
        until(&format!("the end of {}", self.node), || self.child.try_wait().unwrap())
    }

    /// Asks it to stop, and waits for that.
    #[track_caller]
    pub fn stop(mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait_end()
    }

    /// The memory of the process, without its children, in KiB.
    pub fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Whether a process is a child of it, or a child's child.
    pub fn has_child(&self, process: &str) -> bool {
        let parent = |process: &str| {
            let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
            // The name in parentheses may hold anything; the state and the parent follow it.
            stat.rsplit(')').next()?.split_whitespace().nth(1).map(str::to_owned)
        };
        let ours = self.pid().to_string();
        parent(process).is_some_and(|first| first == ours || parent(&first).is_some_and(|second| second == ours))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // A stock worker's children outlive a parent that was killed.
        let group = format!("-{}", self.child.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
        let _ = self.child.wait();
    }
}
