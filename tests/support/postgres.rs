//! A real PostgreSQL: one server for a whole test binary, and a fresh database for each test.
//!
//! The application's login is [`OWNER`]: it may create roles and owns its database, and is no superuser, as on a rented
//! database. Passwords are asked for, so that a login that Beacon makes has to be right. The superuser is for the harness.
//!
//! A shell outlives the test process by a moment: it waits for the end of a pipe that the process holds, then stops the
//! server and removes its folder. So nothing is left behind when a test panics or the run is killed.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::ports::free_port;

/// The login that Beacon is given: CREATEROLE, no superuser, owner of the test's database.
pub const OWNER: &str = "application";
/// Its password.
pub const PASSWORD: &str = "a password with ' and / in it";
/// The superuser of the cluster, who needs no password on the socket.
const SUPERUSER: &str = "postgres";

/// Without the waits for the disk: nobody needs what is in here after a crash of the machine. What was committed does
/// outlive a crash of the server (synchronous_commit stays on).
const SETTINGS: &[(&str, &str)] = &[
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("shared_buffers", "64MB"),
    ("max_connections", "250"),
    ("max_locks_per_transaction", "256"),
    ("wal_level", "logical"),
    ("log_min_messages", "warning"),
    ("listen_addresses", "127.0.0.1"),
];

/// A server in a folder of its own.
pub struct Postgres {
    folder: PathBuf,
    port: u16,
    databases: AtomicU32,
    /// Holds the pipe whose end stops the server.
    guardian: Child,
}

/// A database in it; it goes with the value.
pub struct Database<'server> {
    server: &'server Postgres,
    name: String,
}

/// How to stop a server: see pg_ctl.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Open transactions are rolled back, sessions are ended.
    Fast,
    /// As after a crash.
    Immediate,
}

impl Postgres {
    /// The server that all tests of this binary share.
    pub fn shared() -> &'static Self {
        static SERVER: OnceLock<Postgres> = OnceLock::new();
        SERVER.get_or_init(|| Self::start(&[]))
    }

    /// A server of one's own, to stop and to start, with settings over the harness's.
    pub fn start(settings: &[(&str, &str)]) -> Self {
        let made = tempfile::Builder::new().prefix("beacon-pg-").tempdir_in("/tmp").unwrap();
        let folder = made.keep();
        if let Some((user, group)) = servant() {
            chown(&folder, Some(user), Some(group)).unwrap();
        }
        let data = folder.join("data");
        let data = data.to_str().unwrap();
        succeeds(
            program("initdb")
                .args(["--no-sync", "--encoding=UTF8", "--locale=C.UTF-8", "--auth=trust"])
                .args(["-U", SUPERUSER, "-D", data]),
        );
        let rules = format!(
            "local all {SUPERUSER} trust\nlocal all all scram-sha-256\nhost all all 127.0.0.1/32 scram-sha-256\n"
        );
        fs::write(folder.join("data/pg_hba.conf"), rules).unwrap();
        let mut lines = format!("unix_socket_directories = '{}'\n", folder.display());
        for (name, value) in SETTINGS.iter().chain(settings) {
            let _ = writeln!(lines, "{name} = '{value}'");
        }
        fs::write(folder.join("data/postgresql.auto.conf"), lines).unwrap();
        let guardian = guard(&folder);
        let server = Self { folder, port: free_port(), databases: AtomicU32::new(0), guardian };
        assert!(server.try_start(), "PostgreSQL does not start:\n{}", server.log());
        server.superuser(
            SUPERUSER,
            &format!("CREATE ROLE {OWNER} LOGIN CREATEROLE NOSUPERUSER PASSWORD '{}'", PASSWORD.replace('\'', "''")),
        );
        server
    }

    /// A fresh, empty database that [`OWNER`] owns.
    pub fn database(&self) -> Database<'_> {
        self.create("template1")
    }

    fn create(&self, template: &str) -> Database<'_> {
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        let name = format!("test_{number}");
        self.superuser(SUPERUSER, &format!("CREATE DATABASE {name} OWNER {OWNER} TEMPLATE {template}"));
        Database { server: self, name }
    }

    /// Stops it, and waits until it has ended.
    pub fn stop(&self, how: Stop) {
        let mode = if how == Stop::Fast { "fast" } else { "immediate" };
        succeeds(program("pg_ctl").args(["-m", mode, "-w", "stop", "-D"]).arg(self.data()));
    }

    /// Starts it again where it was, and waits until it accepts.
    pub fn start_again(&self) {
        assert!(self.try_start(), "PostgreSQL does not start again:\n{}", self.log());
    }

    /// Ends it and all its processes by SIGKILL, in the middle of whatever they do.
    pub fn kill(&self) {
        let file = self.data().join("postmaster.pid");
        let pid = fs::read_to_string(&file).unwrap().lines().next().unwrap().to_owned();
        // Stopped first: it would start others in the place of those that are gone.
        self.signal("STOP");
        self.signal("KILL");
        while Path::new(&format!("/proc/{pid}")).exists() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// Lets it answer nothing any more, while its connections stay open: what a machine does that hangs.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal("CONT");
    }

    /// To the server and all its processes.
    fn signal(&self, name: &str) {
        let pid = fs::read_to_string(self.data().join("postmaster.pid")).unwrap();
        let pid = pid.lines().next().unwrap();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        let status = Command::new("kill").arg(format!("-{name}")).arg(pid).args(children.split_whitespace()).output();
        status.unwrap();
    }

    /// What it wrote to its log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// The folder with its socket.
    pub fn socket(&self) -> &Path {
        &self.folder
    }

    /// The port on 127.0.0.1, which also names the socket.
    pub fn port(&self) -> u16 {
        self.port
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn try_start(&self) -> bool {
        let log = self.folder.join("log");
        let mut command = program("pg_ctl");
        command.args(["-w", "-t", "60", "-l", log.to_str().unwrap(), "-D"]).arg(self.data());
        command.args(["-o", &format!("-p {}", self.port), "start"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
    }

    fn superuser(&self, database: &str, sql: &str) -> String {
        psql(self, SUPERUSER, database, sql)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.guardian.stdin.take());
        let _ = self.guardian.wait();
    }
}

impl Database<'_> {
    /// Its name in the server.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The server that it is in.
    pub fn server(&self) -> &Postgres {
        self.server
    }

    /// The URL for Beacon: as [`OWNER`] over the socket.
    pub fn url(&self) -> String {
        let folder = escaped(self.server.folder.to_str().unwrap());
        let (name, port) = (&self.name, self.server.port);
        format!("postgres://{OWNER}:{}@localhost:{port}/{name}?host={folder}", escaped(PASSWORD))
    }

    /// The same over TCP, without TLS.
    pub fn tcp_url(&self) -> String {
        let (name, port) = (&self.name, self.server.port);
        format!("postgres://{OWNER}:{}@127.0.0.1:{port}/{name}", escaped(PASSWORD))
    }

    /// Runs statements as the owner; each on its own transaction unless they say otherwise.
    #[track_caller]
    pub fn execute(&self, sql: &str) {
        psql(self.server, OWNER, &self.name, sql);
    }

    /// Runs statements as the owner while the server may be gone; whether all of them were done.
    pub fn attempt(&self, sql: &str) -> bool {
        let mut command = client(self.server, OWNER, &self.name);
        command.args(["-c", sql]).output().unwrap().status.success()
    }

    /// Runs statements as the superuser: what an application cannot do by itself.
    #[track_caller]
    pub fn execute_as_superuser(&self, sql: &str) {
        self.server.superuser(&self.name, sql);
    }

    /// What a query as the superuser gives, as text; NULL is "∅".
    #[track_caller]
    pub fn rows(&self, sql: &str) -> Vec<Vec<String>> {
        let text = self.server.superuser(&self.name, sql);
        let rows = text.split('\u{1e}').filter(|row| !row.is_empty());
        rows.map(|row| row.split('\u{1f}').map(str::to_owned).collect()).collect()
    }

    /// The first column of the first row.
    #[track_caller]
    pub fn value(&self, sql: &str) -> String {
        self.rows(sql)
            .into_iter()
            .next()
            .and_then(|row| row.into_iter().next())
            .unwrap_or_else(|| panic!("no row: {sql}"))
    }

    /// A copy with everything in it. Nobody may be connected to this one meanwhile.
    pub fn copy(&self) -> Self {
        self.server.create(&self.name)
    }
}

impl Drop for Database<'_> {
    fn drop(&mut self) {
        let mut command = client(self.server, SUPERUSER, SUPERUSER);
        command.args(["-c", &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name)]);
        // The server may be stopped, and a panic is no place for another.
        let _ = command.output();
    }
}

/// A folder with PostgreSQL's programs: Debian keeps each version's apart.
pub fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path().join("bin"))))
        .filter(|(_, folder)| folder.join("postgres").exists())
        .max();
    newest.map_or_else(
        || panic!("there is no PostgreSQL, which the tests start: apt-get install postgresql"),
        |found| found.1,
    )
}

/// A program of PostgreSQL's; as root by way of a user, since the server refuses to be root.
fn program(name: &str) -> Command {
    let path = programs().join(name);
    let mut command = match servant() {
        None => Command::new(path),
        Some((user, group)) => {
            let mut command = Command::new("setpriv");
            command.args([format!("--reuid={user}"), format!("--regid={group}"), "--clear-groups".into()]).arg(path);
            command
        }
    };
    // It inherits a folder that its user may not enter.
    command.current_dir("/").env_remove("PGDATA").env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
    command
}

/// The user and group that run the server when we are root.
pub fn servant() -> Option<(u32, u32)> {
    static SERVANT: OnceLock<Option<(u32, u32)>> = OnceLock::new();
    *SERVANT.get_or_init(|| {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let users = fs::read_to_string("/etc/passwd").unwrap();
        let find = |wanted: &str| {
            let fields: Vec<&str> = users
                .lines()
                .map(|line| line.split(':'))
                .find_map(|mut fields| (fields.next() == Some(wanted)).then(|| fields.collect()))?;
            Some((fields[1].parse().ok()?, fields[2].parse().ok()?))
        };
        Some(find("postgres").or_else(|| find("nobody")).expect("a user for the server"))
    })
}

/// Waits for our end, stops the server and removes the folder. In a session of its own, so that Control-C spares it.
fn guard(folder: &Path) -> Child {
    const SCRIPT: &str = r#"cat >/dev/null; "$1" -D "$2/data" -m immediate -w stop; rm -rf "$2""#;
    let mut command = Command::new("setsid");
    if let Some((user, group)) = servant() {
        command.args(["setpriv", &format!("--reuid={user}"), &format!("--regid={group}"), "--clear-groups"]);
    }
    command.args(["sh", "-c", SCRIPT, "sh"]).arg(programs().join("pg_ctl")).arg(folder).current_dir("/");
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn client(server: &Postgres, user: &str, database: &str) -> Command {
    let mut command = Command::new(programs().join("psql"));
    command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-F", "\u{1f}", "-R", "\u{1e}", "-P", "null=∅"]);
    command.arg("-h").arg(&server.folder).args(["-p", &server.port.to_string(), "-U", user, "-d", database]);
    command
        .env("PGPASSWORD", PASSWORD)
        .env("PGCLIENTENCODING", "UTF8")
        .env("PGOPTIONS", "-c client_min_messages=warning");
    command
}

#[track_caller]
fn psql(server: &Postgres, user: &str, database: &str, sql: &str) -> String {
    let mut command = client(server, user, database);
    command.args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let sql_text = sql.to_owned();
    // Apart from the reading: both pipes are bounded.
    let writer = std::thread::spawn(move || input.write_all(sql_text.as_bytes()));
    let output = child.wait_with_output().unwrap();
    let _ = writer.join();
    assert!(output.status.success(), "{user} in {database}: {}\n{sql}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end_matches(['\n', '\u{1e}']).to_owned()
}

#[track_caller]
fn succeeds(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let both = [output.stdout.as_slice(), &output.stderr].concat();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&both));
    output
}

/// For a URL: everything but letters and digits escaped.
fn escaped(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}
