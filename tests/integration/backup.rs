//! Backup and restore of what servers hold: the private ones, and a database by its URL.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use beacon::db::{Config, Database};
use beacon::secret::Secret;

use crate::managed::{both, launch, ready, redis, sockets, sql, troubles};
use crate::support::{Beacon, Postgres, until};

/// Runs the binary in a folder, with the configuration in it.
fn beacon(folder: &Path, environment: &[(&str, &str)], words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_beacon"))
        .args(words)
        .args(["--config", "beacon.toml"])
        .current_dir(folder)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", folder)
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

#[track_caller]
fn says(output: &Output, code: i32, part: &str) -> String {
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(text.contains(part), "no {part:?} in: {text}");
    text
}

/// What a backup must bring back: rows, big and odd values, sequences, rights, policies, functions, defaults.
const CONTENT: &str = "
    create table public.notes (id bigint generated always as identity primary key, owner uuid, text text not null, data jsonb);
    insert into public.notes (owner, text, data) select gen_random_uuid(), repeat('zeile ' || n, 50), jsonb_build_object('n', n)
        from generate_series(1, 3000) n;
    insert into public.notes (text) values (E'tab\\there, \\\\ and ''quotes'', \\u00e9\\U0001F600');
    alter table public.notes enable row level security;
    create policy own on public.notes for select to authenticated using (owner is not null);
    grant select on public.notes to anon; grant select, insert on public.notes to authenticated;
    grant all on public.notes to service_role;
    create view public.latest as select id, text from public.notes order by id desc limit 10;
    create function public.twice(n int) returns int language sql immutable as 'select n * 2';
    revoke execute on function public.twice(int) from public; grant execute on function public.twice(int) to anon;
    alter default privileges in schema public grant select on tables to anon";

/// All of that, as text.
const COMPARED: &str = "
    select md5(string_agg(t::text, '|' order by id)) from public.notes t
    union all select last_value::text from public.notes_id_seq
    union all select coalesce(relacl::text, '') || relrowsecurity::text || relowner::regrole::text from pg_class where oid = 'public.notes'::regclass
    union all select pg_get_expr(polqual, polrelid) || polroles::regrole[]::text from pg_policy where polrelid = 'public.notes'::regclass
    union all select md5(string_agg(text, '|' order by id)) from public.latest
    union all select public.twice(21)::text || proacl::text from pg_proc where proname = 'twice'
    union all select string_agg(defaclacl::text || defaclrole::regrole::text, ',' order by defaclacl::text) from pg_default_acl";

/// Waits until Beacon's own migrations are there: rights by default are theirs.
#[track_caller]
fn migrated(beacon_: &Beacon) {
    let there = sockets(&beacon_.path().join("state"));
    until("the migrations", || {
        let sql = sql(&there, "select value from beacon.settings where name = 'request_login'").ok()?;
        (!sql.is_empty()).then_some(())
    });
}

fn whole(rows: &[Vec<String>]) -> String {
    rows.concat().join("\n")
}

#[test]
fn the_private_servers_are_taken_while_they_run_and_come_back_into_their_place() {
    let mut beacon_ = launch().start();
    both(&beacon_);
    let state = beacon_.path().join("state");
    let there = sockets(&state);
    migrated(&beacon_);
    sql(&there, CONTENT).unwrap();
    sql(&there, "alter role anon set statement_timeout = '3s'; alter database beacon set lock_timeout = '7s'").unwrap();
    let compare = format!("select string_agg(x, '/') from ({COMPARED}) t(x)");
    let expected = sql(&there, &compare).unwrap();
    redis(&there, "SET kept before");
    redis(&there, "LPUSH queue 1 2 3");
    fs::write(state.join("letter"), "as it was").unwrap();

    let archive = beacon_.path().join("backup.tar.zst");
    let archive = archive.to_str().unwrap().to_owned();
    let auto = [("BEACON_MANAGED__POSTGRES", "auto"), ("BEACON_MANAGED__REDIS", "auto")];
    let run = |beacon_: &Beacon, words: &[&str]| beacon(beacon_.path(), &auto, words);
    says(&run(&beacon_, &["backup", &archive]), 0, "and the database \"beacon\"");
    says(&run(&beacon_, &["restore", &archive]), 1, "a Beacon runs here");
    says(&run(&beacon_, &["restore", "--force", &archive]), 1, "the private servers run here");

    // Everything is lost or changed, and the server stopped.
    sql(&there, "drop table public.notes cascade; create table public.later (id int); alter role anon reset all")
        .unwrap();
    redis(&there, "SET kept after");
    redis(&there, "DEL queue");
    fs::write(state.join("letter"), "changed").unwrap();
    beacon_.signal("TERM");
    assert!(beacon_.wait_end().success());

    // A cut archive changes nothing, and leaves nothing.
    let bytes = fs::read(&archive).unwrap();
    let cut = beacon_.path().join("cut");
    fs::write(&cut, &bytes[..bytes.len() - 200]).unwrap();
    says(&run(&beacon_, &["restore", cut.to_str().unwrap()]), 78, "Nothing was changed");
    assert_eq!(fs::read_to_string(state.join("letter")).unwrap(), "changed");

    let said = says(&run(&beacon_, &["restore", &archive]), 0, "is in the database \"beacon_before_");
    assert!(!said.contains("Look after"), "{said}");
    assert_eq!(fs::read_to_string(state.join("letter")).unwrap(), "as it was");
    assert!(!state.join("postgres/postmaster.pid").exists(), "the server that restored still runs");

    let next = launch().with(&format!("server.state_dir = {state:?}")).start();
    both(&next);
    let there = sockets(&state);
    assert_eq!(sql(&there, "select max(id) from public.notes").unwrap(), "3001");
    assert_eq!(sql(&there, &compare).unwrap(), expected);
    assert_eq!(
        sql(&there, "select rolconfig::text from pg_roles where rolname = 'anon'").unwrap(),
        "{statement_timeout=3s}"
    );
    assert_eq!(sql(&there, "show lock_timeout").unwrap(), "7s");
    let names = sql(
        &there,
        "select string_agg(regexp_replace(datname, '_\\d.*', ''), ',' order by datname) from pg_database where datname like 'beacon%'",
    );
    assert_eq!(names.unwrap(), "beacon,beacon_before", "the cut archive left a database");
    assert_eq!(redis(&there, "GET kept"), "$6\r\nbefore");
    assert_eq!(redis(&there, "LLEN queue"), ":3");
    assert_eq!(troubles(&next.logged()), "");
}

#[test]
fn private_servers_that_do_not_run_are_started_for_a_backup_and_for_a_restore_on_a_new_host() {
    let mut first = launch().env("BEACON_MANAGED__REDIS", "off").start();
    ready(&first, "PostgreSQL is ready", 1);
    let there = sockets(&first.path().join("state"));
    sql(&there, CONTENT).unwrap();
    first.signal("TERM");
    assert!(first.wait_end().success());
    let archive = first.path().join("backup.tar.zst");
    let archive = archive.to_str().unwrap();
    let auto = [("BEACON_MANAGED__POSTGRES", "auto"), ("BEACON_MANAGED__REDIS", "off")];
    says(&beacon(first.path(), &auto, &["backup", archive]), 0, "and the database \"beacon\"");
    assert!(!first.path().join("state/postgres/postmaster.pid").exists(), "its server still runs");

    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join("beacon.toml"), format!("server.state_dir = {:?}\n", other.path().join("state")))
        .unwrap();
    let off = [("BEACON_MANAGED__POSTGRES", "off"), ("BEACON_MANAGED__REDIS", "off")];
    says(&beacon(other.path(), &off, &["restore", archive]), 78, "--without-database");
    assert!(!other.path().join("state").exists());
    says(&beacon(other.path(), &auto, &["restore", archive]), 0, "is restored");
    let next = launch().env("BEACON_MANAGED__REDIS", "off");
    let next = next.with(&format!("server.state_dir = {:?}", other.path().join("state"))).start();
    ready(&next, "PostgreSQL is ready", 1);
    assert_eq!(sql(&sockets(&other.path().join("state")), "select count(*) from public.notes").unwrap(), "3001");
}

#[test]
fn a_database_by_its_url_is_replaced_only_when_asked_and_only_as_a_whole() {
    let server = Postgres::start(&[]);
    let (source, target) = (server.database(), server.database());
    let prepare = |url: &str| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let own = beacon::assets::folder("migrations").unwrap();
        let database = Database::new(&Config::default(), &Secret::new(url), own, Vec::new()).unwrap();
        runtime.block_on(async {
            database.prepare().await.unwrap();
            // Clients' requests come in.
            let session = database.requests().get().await.unwrap();
            session.query_one("select 1", &[]).await.unwrap();
        });
        database.close();
    };
    prepare(&source.url());
    prepare(&target.url());
    source.execute(CONTENT);
    target.execute("create table public.mine (id int); insert into public.mine values (7)");
    let databases = || target.rows("select datname from pg_database order by 1");
    let before = databases();

    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("beacon.toml"), format!("server.state_dir = {:?}\n", folder.path().join("state")))
        .unwrap();
    fs::create_dir(folder.path().join("state")).unwrap();
    let run = |url: &str, words: &[&str]| beacon(folder.path(), &[("DATABASE_URL", url)], words);
    let wrong = source.tcp_url().replace("application:", "application:x");
    says(&run(&wrong, &["backup", "b"]), 69, "--without-database leaves the database out");
    assert!(!folder.path().join("b").exists());
    says(&run(&source.tcp_url(), &["backup", "b"]), 0, "and the database");

    // Not unless it is asked for.
    says(&run(&target.tcp_url(), &["restore", "b"]), 0, "--with-database");
    assert_eq!(target.value("select id from public.mine"), "7");
    // Not by somebody who would have to replace it in place.
    says(&run(&target.tcp_url(), &["restore", "--with-database", "b"]), 78, "alter role \"application\" createdb");
    target.execute_as_superuser("alter role application createdb");
    // Not while somebody is in it.
    let url = target.tcp_url();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let session = runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    });
    says(&run(&url, &["restore", "--with-database", "b"]), 78, "1 sessions are open");
    assert_eq!(databases(), before);
    // Not a part of it, nor if the new one cannot be used: here by migrations of a later Beacon.
    let bytes = fs::read(folder.path().join("b")).unwrap();
    fs::write(folder.path().join("cut"), &bytes[..bytes.len() / 2]).unwrap();
    drop(session);
    drop(runtime);
    says(&run(&url, &["restore", "--with-database", "cut"]), 78, "Nothing was changed");
    assert_eq!(databases(), before);
    source.execute(
        "insert into beacon.migrations (version, name, checksum, milliseconds) values (9999, '9999_x.sql', 'x', 0)",
    );
    says(&run(&source.tcp_url(), &["backup", "later"]), 0, "");
    says(&run(&url, &["restore", "--with-database", "later"]), 78, "Nothing was changed");
    assert_eq!(databases(), before);
    assert_eq!(target.value("select id from public.mine"), "7");

    // With --force, sessions end.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let _session = runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    });
    source.execute("delete from beacon.migrations where version = 9999");
    says(&run(&url, &["restore", "--with-database", "--force", "b"]), 0, "_before_");
    assert_eq!(databases().len(), before.len() + 1);
    assert_eq!(whole(&target.rows(COMPARED)), whole(&source.rows(COMPARED)));
    // The login of requests is this database's own, and still comes in.
    prepare(&target.url());
    let login = target.value("select value from beacon.settings where name = 'request_login'");
    assert_eq!(login, format!("beacon_request_{}", target.name()));
}
