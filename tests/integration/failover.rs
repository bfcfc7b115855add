//! A primary that dies while its standby takes over, under a load of writes: what was acknowledged is there, and
//! everything else is an error that says "later".

use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use beacon::db::{Config, Database, Error, Parameter, Transaction};
use beacon::secret::Secret;

use crate::support::{self, BOUND, Launch, OWNER, PASSWORD, Postgres, Stop, free_port, programs, send, servant, until};

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

    /// The URL that leads to whichever of the two takes writes.
    fn url_with(&self, primary: &Postgres, database: &str) -> String {
        let password = percent_encoding::utf8_percent_encode(PASSWORD, percent_encoding::NON_ALPHANUMERIC);
        let (first, second) = (primary.port(), self.port);
        format!(
            "postgres://{OWNER}:{password}@127.0.0.1:{first},127.0.0.1:{second}/{database}?target_session_attrs=read-write"
        )
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

/// Lets a write be acknowledged only when the standby has it.
fn wait_for_standby(database: &support::Database<'_>) {
    database.execute_as_superuser("alter system set synchronous_standby_names = '*'");
    database.execute_as_superuser("select pg_reload_conf()");
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
    wait_for_standby(&database);
    let both = ours(&standby.url_with(&primary, database.name()));
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

#[test]
fn clients_are_told_to_wait_and_then_find_all_that_was_answered_on_the_standby() {
    let primary = Postgres::start(&[]);
    let database = primary.database();
    let standby = Standby::of(&primary);
    wait_for_standby(&database);
    let url = standby.url_with(&primary, database.name());
    let beacon = Launch::new().env("DATABASE_URL", &url).with("[api]\nmax_rows = 1000000\n").start();
    database.execute(
        "create table public.written (id int primary key); alter table public.written enable row level security;
         create policy p on public.written using (true) with check (true); notify pgrst, 'reload schema'",
    );
    until("the API's view of the schema", || (beacon.plain().get("/rest/v1/written").status == 200).then_some(()));

    let (over, later) = (AtomicBool::new(false), AtomicU32::new(0));
    let (stored, faults) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    // Writers end also when what is waited for does not come.
    let begun = Instant::now();
    let count = || stored.lock().unwrap().len();
    std::thread::scope(|scope| {
        for worker in 0..4_u32 {
            let (beacon, over, later, stored, faults) = (&beacon, &over, &later, &stored, &faults);
            scope.spawn(move || {
                let mut client = beacon.plain();
                let mut last = None;
                for id in (worker..).step_by(4).take_while(|_| !over.load(Ordering::Relaxed) && begun.elapsed() < BOUND)
                {
                    let insert = send(&mut client, "POST", "/rest/v1/written", &[], &format!("{{\"id\": {id}}}"));
                    // Everybody reads what was stored for them before, also from the server that took over.
                    if insert.status == 201 {
                        last = Some(id);
                        stored.lock().unwrap().push(id);
                    }
                    let mut answers = vec![(insert, 201, String::new())];
                    if let Some(last) = last {
                        let read = send(&mut client, "GET", &format!("/rest/v1/written?id=eq.{last}"), &[], "");
                        answers.push((read, 200, format!("[{{\"id\":{last}}}]")));
                    }
                    for (answer, status, body) in answers {
                        let wait = answer.header("retry-after").and_then(|value| value.parse::<u64>().ok());
                        if matches!(answer.status, 503 | 504) && wait.is_some() {
                            later.fetch_add(1, Ordering::Relaxed);
                            std::thread::sleep(Duration::from_millis(10));
                        } else if (answer.status, answer.text()) != (status, body) {
                            faults.lock().unwrap().push(format!("{id}: {} {}", answer.status, answer.text()));
                        }
                    }
                }
            });
        }
        until("writes", || (count() > 200).then_some(()));
        primary.stop(Stop::Immediate);
        until("answers that say when to come again", || (later.load(Ordering::Relaxed) > 0).then_some(()));
        standby.promote();
        let before = count();
        until("writes to the standby", || (count() > before + 200).then_some(()));
        over.store(true, Ordering::Relaxed);
    });
    let (faults, stored) = (faults.into_inner().unwrap(), stored.into_inner().unwrap());
    assert!(faults.is_empty(), "{} wrong answers: {:#?}", faults.len(), &faults[..faults.len().min(10)]);
    let answer = beacon.plain().get("/rest/v1/written");
    let rows: Vec<serde_json::Value> = serde_json::from_slice(&answer.body).unwrap();
    let there: HashSet<u64> = rows.iter().filter_map(|row| row["id"].as_u64()).collect();
    let missing: Vec<_> = stored.iter().filter(|id| !there.contains(&u64::from(**id))).collect();
    assert!(missing.is_empty(), "answered with 201 and not there, of {}: {missing:?}", stored.len());
    beacon.is_sound();
}
