//! A running Beacon: the binary as a user starts it, with a configuration in a folder of its own.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::{Answer, BOUND, Http1, Wire};

/// What stands in files that no request may ever get.
pub const SECRET: &str = "the-content-of-a-file-beside-the-root";

/// The most memory that the process may ever have had, in KiB (an unoptimised build, with room to spare).
const MOST_MEMORY: u64 = 200 * 1024;

/// Lines that a thread collects, and a bell that rings at each.
#[derive(Default)]
struct Lines {
    list: Mutex<Vec<String>>,
    bell: Condvar,
}

/// How to start one.
pub struct Launch {
    folder: TempDir,
    environment: Vec<(String, String)>,
    /// Words before the binary and its arguments, as in `sh -c '...; exec "$@"' sh`.
    wrapper: Vec<String>,
    input: Option<OwnedFd>,
}

/// A process that serves; it ends with the test.
pub struct Beacon {
    child: Child,
    folder: TempDir,
    log: Arc<Lines>,
    access: Arc<Lines>,
    addresses: HashMap<String, Vec<String>>,
}

impl Launch {
    /// A site in `www`, a secret beside it, and listeners of each kind on free ports.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let www = folder.path().join("www");
        fs::create_dir_all(www.join("sub")).unwrap();
        fs::create_dir_all(folder.path().join("conf.d")).unwrap();
        fs::write(folder.path().join("secret.txt"), SECRET).unwrap();
        fs::write(www.join("index.html"), "<p>hello</p>").unwrap();
        fs::write(www.join("sub/page.html"), "<p>below</p>").unwrap();
        fs::write(www.join("text.txt"), "All work and no play. ".repeat(500)).unwrap();
        fs::write(www.join("small.txt"), "0123456789").unwrap();
        Self { folder, environment: Vec::new(), wrapper: Vec::new(), input: None }
    }

    /// The folder that holds everything of this test.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Puts a file of zeros of that size into the site, without taking disk space.
    pub fn big(self, name: &str, bytes: u64) -> Self {
        let file = fs::File::create(self.path().join("www").join(name)).unwrap();
        file.set_len(bytes).unwrap();
        self
    }

    /// Adds a piece of configuration, over the harness's own.
    pub fn with(self, toml: &str) -> Self {
        fs::write(self.path().join("conf.d/50-test.toml"), toml).unwrap();
        self
    }

    /// Sets a variable of the environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Starts the binary through another program.
    pub fn through(mut self, words: &[&str]) -> Self {
        self.wrapper = words.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Gives it a descriptor as its standard input.
    pub fn input(mut self, descriptor: impl Into<OwnedFd>) -> Self {
        self.input = Some(descriptor.into());
        self
    }

    fn command(&mut self) -> Command {
        let mut base = String::new();
        let state = self.path().join("state");
        let _ = writeln!(base, "server.state_dir = {state:?}");
        let root = self.path().join("www");
        let _ = write!(
            base,
            "listen.https = [\"127.0.0.1:0\"]\nlisten.http = [\"127.0.0.1:0\"]\n\
             listen.operations = [\"127.0.0.1:0\"]\nhttp.redirect_to_https = false\nlog.format = \"json\"\n\
             [mounts.site]\npath = \"/\"\nsite.root = {root:?}\n"
        );
        fs::write(self.path().join("beacon.toml"), base).unwrap();
        let binary = env!("CARGO_BIN_EXE_beacon").to_owned();
        let mut words = self.wrapper.clone();
        words.extend([binary, "serve".into(), "--config".into(), "beacon.toml".into()]);
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .current_dir(self.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path())
            // Of the tests, only those about them start private servers.
            .env("BEACON_MANAGED__POSTGRES", "off")
            .env("BEACON_MANAGED__REDIS", "off")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(self.input.take().map_or_else(Stdio::null, Stdio::from))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Starts it, and waits until it is ready.
    pub fn start(mut self) -> Beacon {
        let mut child = self.command().spawn().unwrap();
        let log = collect(child.stderr.take().unwrap());
        let access = collect(child.stdout.take().unwrap());
        let mut beacon = Beacon { child, folder: self.folder, log, access, addresses: HashMap::new() };
        beacon.wait_log("ready", |line| line["message"] == "ready");
        beacon.read_addresses();
        beacon
    }

    /// Starts it in the expectation that it gives up; gives how it ended, and what it wrote.
    pub fn fail(mut self) -> (ExitStatus, String) {
        let mut child = self.command().spawn().unwrap();
        let log = collect(child.stderr.take().unwrap());
        let _access = collect(child.stdout.take().unwrap());
        let status = ended(&mut child, BOUND).unwrap_or_else(|| {
            let _ = child.kill();
            panic!("it serves, where it should have given up: {:?}", log.list.lock().unwrap())
        });
        // The pipe's end comes after the process's.
        std::thread::sleep(Duration::from_millis(50));
        let text = log.list.lock().unwrap().join("\n");
        (status, text)
    }
}

fn collect(pipe: impl Read + Send + 'static) -> Arc<Lines> {
    let lines = Arc::new(Lines::default());
    let ours = lines.clone();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines() {
            let Ok(line) = line else { return };
            ours.list.lock().unwrap().push(line);
            ours.bell.notify_all();
        }
    });
    lines
}

fn ended(child: &mut Child, bound: Duration) -> Option<ExitStatus> {
    let begun = Instant::now();
    while begun.elapsed() < bound {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    None
}

/// Waits until `state` gives something.
#[track_caller]
pub fn until<T>(what: &str, mut state: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(value) = state() {
            return value;
        }
        assert!(begun.elapsed() < BOUND, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Lines {
    #[track_caller]
    fn wait(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        let mut list = self.list.lock().unwrap();
        let mut seen = 0;
        loop {
            while seen < list.len() {
                let line: Value = serde_json::from_str(&list[seen]).unwrap_or(Value::Null);
                if fits(&line) {
                    return line;
                }
                seen += 1;
            }
            assert!(begun.elapsed() < BOUND, "no line with {what} in:\n{}", list.join("\n"));
            list = self.bell.wait_timeout(list, Duration::from_millis(100)).unwrap().0;
        }
    }
}

impl Beacon {
    /// With the harness's configuration and a piece of the test's own.
    pub fn with(toml: &str) -> Self {
        Launch::new().with(toml).start()
    }

    /// The folder that holds everything of this test.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The folder that is served.
    pub fn www(&self) -> PathBuf {
        self.path().join("www")
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Reads anew where it listens, as its log says.
    pub fn read_addresses(&mut self) {
        self.addresses.clear();
        for line in self.log.list.lock().unwrap().iter() {
            let line: Value = serde_json::from_str(line).unwrap_or(Value::Null);
            if line["message"] == "listening" {
                let text = |key: &str| line[key].as_str().unwrap().to_owned();
                self.addresses.entry(text("role")).or_default().push(text("listener"));
            }
        }
    }

    /// The address bound last for a role: "http", "https" or "operations".
    #[track_caller]
    pub fn address(&self, role: &str) -> SocketAddr {
        self.addresses[role].last().unwrap().parse().unwrap()
    }

    /// A plain connection to the HTTP listener.
    #[track_caller]
    pub fn plain(&self) -> Http1 {
        Http1::new(Wire::plain(self.address("http")))
    }

    /// HTTP/1.1 over TLS.
    #[track_caller]
    pub fn secure(&self) -> Http1 {
        Http1::new(self.wire(&[b"http/1.1"]))
    }

    /// TLS with these protocols offered, verified against the local authority.
    #[track_caller]
    pub fn wire(&self, alpn: &[&[u8]]) -> Wire {
        Wire::tls(self.address("https"), &self.authority(), alpn)
    }

    /// The certificate of the local authority.
    pub fn authority(&self) -> PathBuf {
        self.path().join("state/tls/ca.crt")
    }

    /// A request to the operations listener.
    #[track_caller]
    pub fn operations(&self, target: &str) -> Answer {
        Http1::new(Wire::plain(self.address("operations"))).get(target)
    }

    /// A line of the log for which `fits` is true, waited for.
    #[track_caller]
    pub fn wait_log(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        self.log.wait(what, fits)
    }

    /// A line of the access log for which `fits` is true, waited for.
    #[track_caller]
    pub fn wait_access(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        self.access.wait(what, fits)
    }

    /// Whether the access log has a line for a target by now.
    pub fn accessed(&self, target: &str) -> bool {
        let needle = format!("\"target\":\"{target}\"");
        self.access.list.lock().unwrap().iter().any(|line| line.contains(&needle))
    }

    /// Everything logged so far.
    pub fn logged(&self) -> String {
        self.log.list.lock().unwrap().join("\n")
    }

    /// The access log so far.
    pub fn accesses(&self) -> String {
        self.access.list.lock().unwrap().join("\n")
    }

    /// How often a message was logged.
    pub fn count(&self, message: &str) -> usize {
        let fits = |line: &&String| serde_json::from_str::<Value>(line).is_ok_and(|line| line["message"] == message);
        self.log.list.lock().unwrap().iter().filter(fits).count()
    }

    /// Sends a signal by name, as in "HUP".
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([format!("-{name}"), self.pid().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Writes another configuration and asks for it; waits until it is in force, or refused.
    #[track_caller]
    pub fn reload(&mut self, toml: &str) -> Result<(), String> {
        const GOOD: &str = "configuration reloaded";
        const BAD: &str = "the new configuration is refused; the old one stays in force";
        let before = (self.count(GOOD), self.count(BAD));
        fs::write(self.path().join("conf.d/50-test.toml"), toml).unwrap();
        self.signal("HUP");
        let good = until("the reload", || {
            if self.count(GOOD) > before.0 {
                return Some(true);
            }
            (self.count(BAD) > before.1).then_some(false)
        });
        self.read_addresses();
        if good {
            return Ok(());
        }
        let list = self.log.list.lock().unwrap();
        let line = list.iter().rev().find(|line| line.contains(BAD)).unwrap();
        Err(serde_json::from_str::<Value>(line).unwrap()["error"].as_str().unwrap_or_default().to_owned())
    }

    /// Waits for the process's own end.
    #[track_caller]
    pub fn wait_end(&mut self) -> ExitStatus {
        ended(&mut self.child, BOUND).unwrap_or_else(|| panic!("it does not end:\n{}", self.logged()))
    }

    /// The most memory the process has had so far, in KiB.
    pub fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Still serves over every protocol, has not grown and has not panicked: to be asked after every attack.
    #[track_caller]
    pub fn is_unharmed(&self) {
        assert_eq!(self.plain().get("/").status, 200, "plain HTTP serves on");
        assert_eq!(self.secure().get("/").status, 200, "HTTPS serves on");
        self.is_sound();
    }

    /// Has not grown and has not panicked.
    #[track_caller]
    pub fn is_sound(&self) {
        assert!(self.memory() < MOST_MEMORY, "memory grew to {} KiB", self.memory());
        let log = self.logged();
        assert!(!log.contains("panicked"), "{log}");
    }
}

impl Drop for Beacon {
    fn drop(&mut self) {
        if self.path().join("state/run/managed.json").exists() {
            // Its private servers write into the folder that goes with this.
            let _ = Command::new("kill").args(["-TERM", &self.pid().to_string()]).status();
            let _ = ended(&mut self.child, BOUND);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
