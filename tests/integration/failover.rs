//! A primary that dies while its standby takes over, under a load of writes: what was acknowledged is there, and
//! everything else is an error that says "later".

use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use beacon::db::{Config, Database, Error, Parameter, Transaction};
use beacon::secret::Secret;

use crate::support::{OWNER, PASSWORD, Postgres, Stop, free_port, programs, servant};

/// A copy of a server that follows it, and takes over when it is told to.
struct Standby {
    folder: PathBuf,
    port: u16,
}

impl Standby {
    fn of(primary: &Postgres) -> Self {
        let rules = primary.socket().join("data/pg_hba.conf");
        writeln!(OpenOptions::new().append(true).open(rules).unwrap(), "local replication postgres trust").unwrap();
        let folder = tempfile::Builder::new().prefix("beacon-standby-").tempdir_in("/tmp").unwrap().keep();
        if let Some((user, group)) = servant() {
            chown(&folder, Some(user), Some(group)).unwrap();
        }
        let port = free_port();
        let standby = Self { folder, port };
        standby.run("pg_ctl", &["-D", primary.socket().join("data").to_str().unwrap(), "reload"]);
        let (socket, from, data) = (primary.socket().to_str().unwrap(), primary.port().to_string(), standby.data());
        let copy = ["-R", "-X", "stream", "-c", "fast", "--no-sync", "-U", "postgres"];
        standby.run("pg_basebackup", &[&copy[..], &["-h", socket, "-p", &from, "-D", &data]].concat());
        let (options, log) = (format!("-p {port} -k {}", standby.folder.display()), standby.folder.join("log"));
        standby.run("pg_ctl", &["-D", &data, "-w", "-l", log.to_str().unwrap(), "-o", &options, "start"]);
        standby
    }

    fn promote(&self) {
        self.run("pg_ctl", &["-D", &self.data(), "-w", "promote"]);
    }

    fn data(&self) -> String {
        self.folder.join("data").display().to_string()
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let path = programs().join(program);
        let mut command = match servant() {
            None => Command::new(path),
            Some((user, group)) => {
                let mut command = Command::new("setpriv");
                command
                    .args([format!("--reuid={user}"), format!("--regid={group}"), "--clear-groups".into()])
                    .arg(path);
                command
            }
        };
        command.args(arguments).current_dir("/").env_remove("PGDATA").stdin(Stdio::null()).stdout(Stdio::null());
        let status = command.stderr(Stdio::null()).status().unwrap();
        assert!(status.success(), "{command:?}: {}", fs::read_to_string(self.folder.join("log")).unwrap_or_default());
    }
}

impl Drop for Standby {
    fn drop(&mut self) {
        if let Ok(pid) = fs::read_to_string(self.folder.join("data/postmaster.pid")) {
            let _ = Command::new("kill").args(["-QUIT", pid.lines().next().unwrap_or_default()]).status();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// What the writers share.
#[derive(Default)]
struct Work {
    stop: AtomicBool,
    next: AtomicU32,
    written: AtomicU32,
}

/// Writes one number after the other until it is stopped, and gives those that were acknowledged.
async fn write(database: Database, work: Arc<Work>) -> Vec<u32> {
    let mut acknowledged = Vec::new();
    while !work.stop.load(Ordering::Relaxed) {
        let id = work.next.fetch_add(1, Ordering::Relaxed);
        let transaction = Transaction {
            read_only: false,
            isolation: None,
            settings: &[("role", "anon")],
            before: None,
            sql: "with done as (insert into public.written values ($1) returning id) select count(*) from done",
            parameters: &[Parameter::Text(Some(id.to_string()))],
            rollback: false,
            prepare: true,
        };
        match database.requests().transact(&transaction).await {
            Ok(_) => {
                acknowledged.push(id);
                work.written.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                let waits = matches!(error, Error::Busy(_) | Error::Timeout(_));
                assert!(waits || error.is_unavailable() || error.sqlstate() == Some("25006"), "{error:?}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    acknowledged
}

async fn reach(work: &Work, count: u32) {
    let enough = async {
        while work.written.load(Ordering::Relaxed) < count {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), enough).await.expect("writes go on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_takes_over_and_no_acknowledged_write_is_missing() {
    let primary = Postgres::start(&[]);
    let database = primary.database();
    let own = beacon::assets::folder("migrations").unwrap();
    let ours = |url: &str| Database::new(&Config::default(), &Secret::new(url), own, Vec::new()).unwrap();
    ours(&database.tcp_url()).prepare().await.unwrap();
    database.execute("create table public.written (id int primary key)");
    let standby = Standby::of(&primary);
    // A write is acknowledged when the standby has it.
    database.execute_as_superuser("alter system set synchronous_standby_names = '*'");
    database.execute_as_superuser("select pg_reload_conf()");

    let password = percent_encoding::utf8_percent_encode(PASSWORD, percent_encoding::NON_ALPHANUMERIC);
    let (first, second, name) = (primary.port(), standby.port, database.name());
    let both = ours(&format!(
        "postgres://{OWNER}:{password}@127.0.0.1:{first},127.0.0.1:{second}/{name}?target_session_attrs=read-write"
    ));
    both.prepare().await.unwrap();
    let work = Arc::new(Work::default());
    let writers: Vec<_> = (0..4).map(|_| tokio::spawn(write(both.clone(), work.clone()))).collect();
    reach(&work, 200).await;
    primary.stop(Stop::Immediate);
    standby.promote();
    reach(&work, work.written.load(Ordering::Relaxed) + 200).await;
    work.stop.store(true, Ordering::Relaxed);
    let mut acknowledged = Vec::new();
    for writer in writers {
        acknowledged.extend(writer.await.unwrap());
    }
    let rows = both.owner().get().await.unwrap().query("select id from public.written", &[]).await.unwrap();
    let there: HashSet<u32> = rows.iter().map(|row| row.get::<_, i32>(0) as u32).collect();
    let missing = acknowledged.iter().filter(|id| !there.contains(id)).count();
    assert_eq!(missing, 0, "of {}", acknowledged.len());
    // The old primary stays down: dropping its database would wait for a standby that follows it no more.
}
