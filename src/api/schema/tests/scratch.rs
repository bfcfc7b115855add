//! A PostgreSQL server for these tests, started once a process on a socket in a scratch folder, and gone with the
//! process. Databases belong to a role that is no superuser.

use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

use tokio_postgres::{Client, NoTls};

/// The owner of databases.
pub const OWNER: &str = "beacon_owner";

struct Server {
    socket: PathBuf,
    /// Ends the server when its standard input closes, that is with this process.
    _guard: Mutex<Child>,
}

static SERVER: LazyLock<Server> = LazyLock::new(start);
static DATABASES: AtomicU32 = AtomicU32::new(0);

/// The newest PostgreSQL of the machine.
fn binaries() -> PathBuf {
    let mut found: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .expect("PostgreSQL is installed (apt-get install postgresql)")
        .filter_map(|entry| {
            let path = entry.unwrap().path();
            Some((path.file_name()?.to_str()?.parse().ok()?, path.join("bin")))
        })
        .collect();
    found.sort();
    found.pop().expect("PostgreSQL is installed (apt-get install postgresql)").1
}

/// PostgreSQL does not run as root: the user that its package made, or nobody.
fn user() -> Option<(u32, u32)> {
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    ["postgres", "nobody"].into_iter().find_map(|wanted| {
        let mut fields = users.lines().find(|line| line.split(':').next() == Some(wanted))?.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    })
}

fn start() -> Server {
    let folder = tempfile::Builder::new().prefix("beacon-schema-").tempdir().unwrap().keep();
    let user = user();
    if let Some((uid, gid)) = user {
        chown(&folder, Some(uid), Some(gid)).unwrap();
    }
    let script = r#"
        set -e
        "$1/initdb" -D "$2/data" -U postgres --auth=trust --no-sync -E UTF8 --locale=C.UTF-8 >"$2/log" 2>&1
        "$1/postgres" -D "$2/data" -k "$2" -c listen_addresses='' -c fsync=off -c max_connections=50 >>"$2/log" 2>&1 &
        read -r _ || true
        kill -INT $! 2>/dev/null || true
        wait $! || true
        cd / && rm -rf "$2"
    "#;
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(binaries()).arg(&folder).current_dir("/");
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    if let Some((uid, gid)) = user {
        command.uid(uid).gid(gid);
    }
    let guard = command.spawn().unwrap();
    wait_for(&folder);
    Server { socket: folder, _guard: Mutex::new(guard) }
}

fn wait_for(folder: &Path) {
    let until = Instant::now() + Duration::from_mins(1);
    let ready = || std::fs::read_to_string(folder.join("log")).is_ok_and(|log| log.contains("ready to accept"));
    while !ready() {
        let log = || std::fs::read_to_string(folder.join("log")).unwrap_or_default();
        assert!(Instant::now() < until, "PostgreSQL does not start: {}", log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A session of `user` in `database`.
pub async fn session(user: &str, database: &str) -> Client {
    let address = format!("host={} user={user} dbname={database}", SERVER.socket.display());
    let (client, connection) = tokio_postgres::connect(&address, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// A new database with `sql` run in it, and a session of its owner.
pub async fn database(sql: &str) -> (String, Client) {
    let admin = session("postgres", "postgres").await;
    let name = format!("schema_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
    let role = format!(
        "do $$ begin if not exists (select from pg_roles where rolname = '{OWNER}') then
             create role {OWNER} login createrole;
         end if; exception when unique_violation or duplicate_object then null; end $$"
    );
    admin.batch_execute(&role).await.unwrap();
    admin.batch_execute(&format!("create database {name} owner {OWNER}")).await.unwrap();
    let owner = session(OWNER, &name).await;
    owner.batch_execute("alter schema public owner to current_user").await.unwrap_or_default();
    owner.batch_execute(sql).await.unwrap_or_else(|error| panic!("{}", crate::error::chain(&error)));
    (name, owner)
}

/// The URL of a database.
pub fn url(user: &str, database: &str) -> String {
    let socket = SERVER.socket.display().to_string().replace('/', "%2F");
    format!("postgres://{user}@{socket}/{database}")
}
