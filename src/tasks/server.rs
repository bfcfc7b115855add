//! A real Redis for unit tests: on a Unix socket in a folder of its own, killed when the test process ends, however that
//! ends.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::broker::Broker;
use super::config::Transport;
use super::results::Results;
use crate::redis::{self, Value};
use crate::secret::Secret;

/// A server.
pub(crate) struct Server {
    folder: tempfile::TempDir,
    running: Option<(Child, u32)>,
}

impl Server {
    /// Starts one.
    pub(crate) fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("beacon-broker-").tempdir_in("/tmp").unwrap();
        let mut server = Self { folder, running: None };
        server.start_again();
        server
    }

    /// Starts it where it was: empty, unless it was asked to save.
    pub(crate) fn start_again(&mut self) {
        const SCRIPT: &str = r#"redis-server "$@" >log 2>&1 & echo $!; cat >/dev/null; kill -9 $! 2>/dev/null; wait"#;
        let mut command = Command::new("sh");
        command
            .args(["-c", SCRIPT, "sh", "--port", "0", "--unixsocket", "socket"])
            .args(["--save", "", "--appendonly", "yes", "--appendfsync", "no"])
            .current_dir(self.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        self.running = Some((child, line.trim().parse().unwrap()));
        let log = self.folder.path().join("log");
        let until = Instant::now() + Duration::from_secs(20);
        while !fs::read_to_string(&log).unwrap_or_default().contains("eady to accept connections") {
            assert!(Instant::now() < until, "{}", fs::read_to_string(&log).unwrap_or_default());
            assert!(Path::new(&format!("/proc/{}", line.trim())).exists(), "redis-server has ended; is it installed?");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends it as a crash would.
    pub(crate) fn stop(&mut self) {
        if let Some((mut child, _)) = self.running.take() {
            drop(child.stdin.take());
            child.wait().unwrap();
        }
    }

    /// Stalls it, or lets it go on: connections stay, and nobody answers.
    pub(crate) fn stall(&self, stalled: bool) {
        let signal = if stalled { "-STOP" } else { "-CONT" };
        let pid = self.running.as_ref().unwrap().1.to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Its URL.
    pub(crate) fn url(&self) -> Secret {
        Secret::new(format!("unix://{}/socket", self.folder.path().display()))
    }

    /// A broker there that is connected. Needs a runtime.
    pub(crate) async fn broker(&self) -> Broker {
        self.broker_with(&Transport::default()).await
    }

    /// The same, of an application that has set something otherwise.
    pub(crate) async fn broker_with(&self, transport: &Transport) -> Broker {
        let broker = Broker::new(&self.url(), transport).unwrap();
        tokio::spawn(broker.clone().keep());
        until("the broker is connected", || broker.is_connected()).await;
        broker
    }

    /// Results there, connected. Needs a runtime.
    pub(crate) async fn results(&self) -> Results {
        let results = Results::new(&self.url(), &Transport::default(), Duration::from_hours(1)).unwrap();
        tokio::spawn(results.clone().keep());
        until("the results are connected", || results.is_connected()).await;
        results
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Waits until something is so; 20 s at most.
pub(crate) async fn until(what: &str, mut is: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is() {
        assert!(Instant::now() < end, "it was not so in time: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// What a command gives, in one text: elements of lists with a comma between them.
pub(crate) async fn ask(client: &redis::Client, command: &'static str, arguments: &[&str]) -> String {
    fn shown(value: Value) -> String {
        match value {
            Value::Null => "nil".into(),
            Value::Array(values) => values.into_iter().map(shown).collect::<Vec<_>>().join(","),
            other => redis::text(other).unwrap(),
        }
    }
    let arguments = arguments.iter().map(|argument| Value::from(*argument)).collect();
    shown(client.command(command, arguments, Duration::from_secs(5)).await.unwrap())
}
