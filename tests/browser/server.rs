//! The built binary, serving on free ports from a scratch folder; it stops with the value.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use tempfile::TempDir;

const BOUND: Duration = Duration::from_mins(1);

/// A Beacon that serves.
pub struct Server {
    child: Child,
    folder: TempDir,
    port: u16,
}

impl Server {
    /// Starts with `more` in its configuration file, and returns when it is ready.
    pub fn start(more: &str) -> Self {
        Self::in_folder(tempfile::tempdir().unwrap(), more)
    }

    /// Starts with a listed folder at `/files/` and the documentation at `/docs/`.
    pub fn with_folder() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let files = folder.path().join("files");
        fs::create_dir_all(files.join("photographs of the harbour")).unwrap();
        let long = format!("{}.tar.zst", "a-rather-long-name-without-a-space-".repeat(3));
        for (name, size) in
            [("notes.txt", 120), ("report 2026 (final).pdf", 48_213), ("größe & <tags>.html", 2_048), (&long, 3 << 20)]
        {
            fs::write(files.join(name), vec![b'x'; size]).unwrap();
        }
        let more = format!(
            "[mounts.files]\npath = \"/files\"\nsite.root = \"{}\"\nsite.listing = true\n\
             [mounts.docs]\npath = \"/docs\"\ndocs.folder = \"\"\n",
            files.display()
        );
        Self::in_folder(folder, &more)
    }

    fn in_folder(folder: TempDir, more: &str) -> Self {
        let mut config = String::from("[listen]\n");
        for listener in ["https", "http", "operations"] {
            let _ = writeln!(config, "{listener} = [\"127.0.0.1:0\"]");
        }
        let file = folder.path().join("beacon.toml");
        fs::write(&file, config + more).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_beacon"))
            .args(["serve", "--config"])
            .arg(&file)
            .current_dir(folder.path())
            .env_clear()
            .env("XDG_STATE_HOME", folder.path().join("state"))
            .env("BEACON_MANAGED__POSTGRES", "off")
            .env("BEACON_MANAGED__REDIS", "off")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let (send, lines) = mpsc::channel();
        // Reads to the end, so that the server never waits for a full pipe.
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                let _ = send.send(line);
            }
        });
        let mut server = Self { child, folder, port: 0 };
        let mut seen = String::new();
        loop {
            let Ok(line) = lines.recv_timeout(BOUND) else { panic!("Beacon did not become ready:\n{seen}") };
            let entry: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
            if entry["message"] == "listening" && entry["role"] == "https" {
                let address = entry["listener"].as_str().unwrap_or_default();
                server.port = address.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap();
            }
            if entry["message"] == "ready" {
                break;
            }
            seen.push_str(&line);
            seen.push('\n');
        }
        assert_ne!(server.port, 0, "no HTTPS listener in the log:\n{seen}");
        server
    }

    /// Where it serves.
    pub fn origin(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    /// The certificate that it made for itself, as PEM.
    pub fn certificate(&self) -> PathBuf {
        self.state().join("tls/server.pem")
    }

    fn state(&self) -> PathBuf {
        Path::new(self.folder.path()).join("state/beacon")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
