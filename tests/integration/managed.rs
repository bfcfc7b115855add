//! The private servers: started with nothing configured, brought back, stopped last, and never started twice.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::{Beacon, Launch, until};

pub fn launch() -> Launch {
    Launch::new().env("BEACON_MANAGED__POSTGRES", "auto").env("BEACON_MANAGED__REDIS", "auto")
}

/// Waits until a server answers, as the log says for the time `count`.
#[track_caller]
pub fn ready(beacon: &Beacon, message: &str, count: usize) {
    until(message, || (beacon.count(message) >= count).then_some(()));
}

#[track_caller]
pub fn both(beacon: &Beacon) {
    ready(beacon, "PostgreSQL is ready", 1);
    ready(beacon, "Redis is ready", 1);
}

/// The folder of the sockets, as whoever keeps the servers has written it down.
pub fn sockets(state: &Path) -> PathBuf {
    let record: Value = serde_json::from_slice(&fs::read(state.join("run/managed.json")).unwrap()).unwrap();
    record["sockets"].as_str().unwrap().into()
}

fn postmaster(state: &Path) -> i32 {
    let text = fs::read_to_string(state.join("postgres/postmaster.pid")).unwrap();
    text.lines().next().unwrap().parse().unwrap()
}

/// The warnings and errors of a log, but for what an installation without mail is told.
pub fn troubles(log: &str) -> String {
    let bad = |line: &&str| line.contains(r#""level":"WARN""#) || line.contains(r#""level":"ERROR""#);
    log.lines().filter(bad).filter(|line| !line.contains("mail.host is not set")).collect::<Vec<_>>().join("\n")
}

fn alive(pid: i32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

fn kill(pid: i32) {
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
}

/// Asks the database as the role that owns it, over the URL's own socket.
pub fn sql(sockets: &Path, text: &str) -> Result<String, String> {
    let mut config = tokio_postgres::Config::new();
    config.host_path(sockets).user("beacon").dbname("beacon");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let said = |error: tokio_postgres::Error| {
            error.as_db_error().map_or_else(|| error.to_string(), |error| error.message().to_owned())
        };
        let (client, connection) = config.connect(tokio_postgres::NoTls).await.map_err(said)?;
        tokio::spawn(connection);
        let rows = client.simple_query(text).await.map_err(said)?;
        let first = rows.iter().find_map(|row| match row {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        });
        Ok(first.unwrap_or_default())
    })
}

/// One command to Redis, and the first line of its answer.
pub fn redis(sockets: &Path, command: &str) -> String {
    use std::io::{Read as _, Write as _};
    let mut stream = std::os::unix::net::UnixStream::connect(sockets.join("redis.sock")).unwrap();
    stream.set_read_timeout(Some(crate::support::BOUND)).unwrap();
    stream.write_all(format!("{command}\r\n").as_bytes()).unwrap();
    let mut bytes = [0; 4096];
    let length = stream.read(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes[..length]).trim().to_owned()
}

#[test]
fn they_start_keep_what_they_are_given_and_stop_last() {
    let mut beacon = launch().start();
    both(&beacon);
    let state = beacon.path().join("state");
    let there = sockets(&state);

    // The owner is no superuser, and has what it needs.
    let query = "SELECT concat_ws(',', current_user, rolsuper, rolcreaterole, rolcreatedb) FROM pg_roles WHERE rolname = current_user";
    assert_eq!(sql(&there, query).unwrap(), "beacon,f,t,t");
    assert_eq!(sql(&there, "SELECT rolbypassrls FROM pg_roles WHERE rolname = 'service_role'").unwrap(), "t");
    for (setting, value) in [
        ("data_checksums", "on"),
        ("listen_addresses", ""),
        ("wal_level", "logical"),
        ("fsync", "on"),
        ("server_encoding", "UTF8"),
        ("unix_socket_permissions", "0700"),
    ] {
        assert_eq!(sql(&there, &format!("SELECT current_setting('{setting}')")).unwrap(), value, "{setting}");
    }
    let given = "CREATE ROLE clients LOGIN PASSWORD 'x' NOINHERIT; GRANT anon, service_role TO clients; \
                 CREATE TABLE kept (id int); INSERT INTO kept VALUES (7)";
    sql(&there, given).unwrap();
    assert!(redis(&there, "CONFIG GET maxmemory-policy").contains("noeviction"));
    assert!(redis(&there, "CONFIG GET port").ends_with("$1\r\n0"));
    assert_eq!(redis(&there, "SET kept 7"), "+OK");
    let components: Value = serde_json::from_slice(&beacon.operations("/readyz").body).unwrap();
    assert!(
        components["components"].to_string().contains(r#"{"name":"managed.postgres","state":"ok"}"#),
        "{components}"
    );

    let pid = postmaster(&state);
    beacon.signal("TERM");
    assert!(beacon.wait_end().success());
    assert!(!alive(pid));
    let log = beacon.logged();
    let at = |text: &str| log.find(text).unwrap_or_else(|| panic!("no {text} in:\n{log}"));
    assert!(
        at("stopping; a second signal") < at("PostgreSQL has stopped")
            && at("PostgreSQL has stopped") < at("\"stopped\"")
    );
    assert_eq!(troubles(&log), "");
    assert!(!state.join("run/managed.json").exists());

    // The next one finds what the first one left, cleanly stopped.
    let beacon = launch().with(&format!("server.state_dir = {state:?}")).start();
    both(&beacon);
    assert_eq!(sql(&there, "SELECT id FROM kept").unwrap(), "7");
    assert_eq!(redis(&there, "GET kept"), "$1\r\n7");
    assert!(!beacon.logged().contains("not properly shut down"));
    assert!(!beacon.logged().contains("making a private database"));
}

#[test]
fn a_server_that_is_killed_comes_back() {
    let beacon = launch().start();
    both(&beacon);
    let state = beacon.path().join("state");
    let there = sockets(&state);
    sql(&there, "CREATE TABLE kept (id int); INSERT INTO kept VALUES (7)").unwrap();
    kill(postmaster(&state));
    ready(&beacon, "PostgreSQL is ready", 2);
    assert_eq!(sql(&there, "SELECT id FROM kept").unwrap(), "7");
    let log = beacon.logged();
    assert!(log.contains("PostgreSQL is being started again: it ended (signal: 9 (SIGKILL))"), "{log}");
    assert_eq!(redis(&there, "SET kept 7"), "+OK");
    let pid: i32 = fs::read_to_string(state.join("redis/redis.pid")).unwrap().trim().parse().unwrap();
    kill(pid);
    ready(&beacon, "Redis is ready", 2);
    assert_eq!(redis(&there, "GET kept"), "$1\r\n7");
    assert_eq!(beacon.secure().get("/").status, 200);
}

#[test]
fn a_second_beacon_connects_to_the_first_one_s_and_takes_over_when_that_has_died() {
    let mut first = launch().start();
    both(&first);
    let state = first.path().join("state");
    let pid = postmaster(&state);
    let second = launch().with(&format!("server.state_dir = {state:?}")).start();
    second.wait_log("whose the servers are", |line| {
        line["message"] == "another Beacon keeps the private servers of this state folder"
    });
    until("the second one to see them ready", || {
        let body = String::from_utf8(second.operations("/readyz").body).unwrap();
        body.contains(r#""ready":true"#).then_some(())
    });
    assert_eq!(postmaster(&state), pid, "it has started a second server");

    first.signal("KILL");
    first.wait_end();
    both(&second);
    assert_ne!(postmaster(&state), pid);
    let there = sockets(&state);
    assert_eq!(sql(&there, "SELECT 1").unwrap(), "1");
    // The sockets are the new servers', although the old ones remove theirs when they end.
    until("the first one's server to have gone", || (!alive(pid)).then_some(()));
    assert_eq!(redis(&there, "PING"), "+PONG");
    assert_eq!(sql(&there, "SELECT 1").unwrap(), "1");
}

#[test]
fn servers_do_not_outlive_a_beacon_that_is_killed() {
    let mut beacon = launch().start();
    both(&beacon);
    let state = beacon.path().join("state");
    let redis: i32 = fs::read_to_string(state.join("redis/redis.pid")).unwrap().trim().parse().unwrap();
    let pids = [postmaster(&state), redis];
    beacon.signal("KILL");
    beacon.wait_end();
    until("the servers to stop by themselves", || pids.iter().all(|pid| !alive(*pid)).then_some(()));
    let log = fs::read_to_string(state.join("postgres/postmaster.pid"));
    assert!(log.is_err(), "PostgreSQL was not stopped cleanly");
}

#[test]
fn missing_programs_are_named_and_the_edge_serves() {
    let none = tempfile::tempdir().unwrap();
    let toml = format!(
        "managed.postgres_programs = {0:?}\nmanaged.redis_program = \"{1}/redis\"",
        none.path(),
        none.path().display()
    );
    let beacon = launch().with(&toml).start();
    let line = beacon.wait_log("what is missing", |line| line["service"] == "PostgreSQL" && line["level"] == "WARN");
    assert!(line["message"].as_str().unwrap().contains("has no programs of PostgreSQL"), "{line}");
    beacon.wait_log("what is missing", |line| line["service"] == "Redis" && line["level"] == "WARN");
    assert_eq!(beacon.secure().get("/").status, 200);
    let body = String::from_utf8(beacon.operations("/readyz").body).unwrap();
    assert!(body.contains(r#""ready":true"#) && body.contains("has no programs of PostgreSQL"), "{body}");
    // Whoever asks the API hears it too.
    let answer = beacon.secure().get("/rest/v1/notes");
    let text = String::from_utf8_lossy(&answer.body);
    assert!(answer.status == 503 && text.contains("has no programs of PostgreSQL"), "{} {text}", answer.status);

    // With "on", it is not ready.
    let beacon = launch().with(&toml).env("BEACON_MANAGED__POSTGRES", "on").start();
    beacon.wait_log("what is missing", |line| line["service"] == "PostgreSQL" && line["level"] == "WARN");
    until("it to be not ready", || (beacon.operations("/readyz").status == 503).then_some(()));
}

#[test]
fn data_of_another_version_are_left_alone() {
    let launch = launch().env("BEACON_MANAGED__REDIS", "off");
    let data = launch.path().join("state/postgres");
    fs::create_dir_all(&data).unwrap();
    fs::write(data.join("PG_VERSION"), "14\n").unwrap();
    let beacon = launch.start();
    let line = beacon.wait_log("the version", |line| line["service"] == "PostgreSQL" && line["level"] == "WARN");
    let text = line["message"].as_str().unwrap();
    assert!(text.contains("apt install postgresql-14") && text.contains("beacon backup"), "{text}");
    assert_eq!(fs::read_dir(&data).unwrap().count(), 1, "something was written into it");
}

#[test]
fn as_root_they_run_as_somebody_else() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let beacon = launch().start();
    both(&beacon);
    let state = beacon.path().join("state");
    let redis: i32 = fs::read_to_string(state.join("redis/redis.pid")).unwrap().trim().parse().unwrap();
    for pid in [postmaster(&state), redis] {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = |name: &str| status.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
        let ids: Vec<&str> = line("Uid:").leak().split_whitespace().skip(1).collect();
        assert!(ids.iter().all(|id| *id != "0"), "{ids:?}");
        assert_eq!(line("Groups:").trim(), "Groups:", "supplementary groups are left");
        if pid != redis {
            assert_eq!(line("THP_enabled:").split_whitespace().nth(1), Some("1"), "Redis may renounce them by itself");
        }
    }
}

#[test]
fn a_setting_that_postgres_refuses_is_told_with_its_words() {
    let beacon = launch()
        .env("BEACON_MANAGED__REDIS", "off")
        .with("[managed.postgres_settings]\nshared_buffers = \"much\"")
        .start();
    let line = beacon.wait_log("the crash loop", |line| {
        line["message"].as_str().is_some_and(|text| text.starts_with("PostgreSQL ends again and again"))
    });
    assert!(line["message"].as_str().unwrap().contains("shared_buffers"), "{line} {}", beacon.logged());
    assert_eq!(beacon.secure().get("/").status, 200);
}
