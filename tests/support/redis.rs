//! A real Redis in a folder of its own, over TCP, TLS and a socket, to stop and to start.
//!
//! A shell holds it and kills it when the test process ends, however that ends.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::{free_port, until};

/// Its password, which the URLs have.
const PASSWORD: &str = "p@ss/word";

/// A server.
pub struct Redis {
    folder: tempfile::TempDir,
    port: u16,
    tls_port: u16,
    options: &'static [&'static str],
    running: Option<(Child, u32)>,
}

impl Redis {
    /// Starts one that keeps nothing over a restart.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// Starts one with options of the server's own, as in `--appendonly yes`.
    pub fn with(options: &'static [&'static str]) -> Self {
        let folder = tempfile::Builder::new().prefix("beacon-redis-").tempdir_in("/tmp").unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap().self_signed(&key).unwrap();
        fs::write(folder.path().join("key.pem"), key.serialize_pem()).unwrap();
        fs::write(folder.path().join("certificate.pem"), certificate.pem()).unwrap();
        let mut server = Self { folder, port: free_port(), tls_port: free_port(), options, running: None };
        assert!(server.try_start(), "Redis does not start; is the package redis-server there?\n{}", server.log());
        server
    }

    fn try_start(&mut self) -> bool {
        const SCRIPT: &str = r#"redis-server "$@" >log 2>&1 & echo $!; cat >/dev/null; kill -9 $! 2>/dev/null; wait"#;
        let (port, tls_port) = (self.port.to_string(), self.tls_port.to_string());
        // What the last one wrote there is not to be read for the next one's.
        let _ = fs::remove_file(self.folder.path().join("log"));
        let mut command = Command::new("sh");
        command
            .args(["-c", SCRIPT, "sh", "--bind", "127.0.0.1", "--port", &port, "--unixsocket", "socket"])
            .args(["--save", "", "--appendonly", "no", "--requirepass", PASSWORD])
            .args(["--tls-port", &tls_port, "--tls-auth-clients", "no", "--tls-ca-cert-file", "certificate.pem"])
            .args(["--tls-cert-file", "certificate.pem", "--tls-key-file", "key.pem"])
            .args(self.options)
            .current_dir(self.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        self.running = Some((child, line.trim().parse().unwrap()));
        until("Redis accepts or has ended", || {
            let log = self.log();
            (log.contains("Ready to accept connections") || !Path::new(&format!("/proc/{}", line.trim())).exists())
                .then_some(())
        });
        let started = self.log().contains("Ready to accept connections");
        if !started {
            self.stop();
        }
        started
    }

    /// Ends it as a crash would, and waits until it has ended.
    pub fn stop(&mut self) {
        if let Some((mut child, _)) = self.running.take() {
            drop(child.stdin.take());
            child.wait().unwrap();
        }
    }

    /// Starts it again where it was: empty, unless its options say otherwise.
    pub fn start_again(&mut self) {
        assert!(self.try_start(), "Redis does not start again:\n{}", self.log());
    }

    /// Stalls it, or lets it go on: connections stay, and nobody answers.
    pub fn stall(&self, stalled: bool) {
        let signal = if stalled { "-STOP" } else { "-CONT" };
        let pid = self.running.as_ref().unwrap().1.to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The URL over TCP.
    pub fn url(&self) -> String {
        Self::url_at(self.address())
    }

    /// The URL of something that stands before one of these.
    pub fn url_at(address: SocketAddr) -> String {
        format!("redis://:{}@{address}/3", escaped())
    }

    /// The URL over TLS, without its authority: see [`Redis::authority`].
    pub fn tls_url(&self) -> String {
        format!("rediss://default:{}@localhost:{}/3", escaped(), self.tls_port)
    }

    /// The URL over its socket.
    pub fn socket_url(&self) -> String {
        format!("unix://:{}@{}/socket?db=3", escaped(), self.folder.path().display())
    }

    /// Whom its certificate leads to.
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("certificate.pem")
    }

    /// What a command in database 3 gives, as text.
    #[track_caller]
    pub fn ask(&self, command: &[&str]) -> String {
        let output = Command::new("redis-cli")
            .args(["--no-auth-warning", "-p", &self.port.to_string(), "-a", PASSWORD, "-n", "3"])
            .args(command)
            .output()
            .unwrap();
        assert!(output.status.success(), "{command:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The password in a URL.
fn escaped() -> String {
    percent_encoding::utf8_percent_encode(PASSWORD, percent_encoding::NON_ALPHANUMERIC).to_string()
}
