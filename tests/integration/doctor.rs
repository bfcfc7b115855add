//! `beacon doctor` about the database and the private servers.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::managed::{both, launch};
use crate::support::Postgres;

/// The findings about a subject, as "level text (fix)", one a line.
fn findings(folder: &Path, environment: &[(&str, &str)], subjects: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_beacon"))
        .args(["doctor", "--json", "--config", "beacon.toml"])
        .current_dir(folder)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", folder)
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let list = report["findings"].as_array().unwrap().iter();
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_owned();
    let list = list.filter(|finding| subjects.contains(&text(finding, "subject").as_str()));
    list.map(|finding| format!("{} {} ({})", text(finding, "level"), text(finding, "text"), text(finding, "fix")))
        .collect::<Vec<_>>()
        .join("\n")
}

#[track_caller]
fn has(found: &str, parts: &[&str]) {
    for part in parts {
        assert!(found.contains(part), "no {part:?} in:\n{found}");
    }
}

#[test]
fn what_is_open_or_closed_by_mistake_in_a_database_is_told_with_the_way_out() {
    let server = Postgres::start(&[("max_connections", "20")]);
    let database = server.database();
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    fs::create_dir_all(folder.path().join("migrations")).unwrap();
    fs::write(folder.path().join("migrations/0001_own.sql"), "create table public.shop (id int primary key)").unwrap();
    fs::write(
        folder.path().join("beacon.toml"),
        format!("server.state_dir = {state:?}\ndatabase.migrations = \"migrations\"\n"),
    )
    .unwrap();
    let url = database.tcp_url();
    let run = || findings(folder.path(), &[("DATABASE_URL", url.as_str())], &["database", "row security", "grants"]);

    has(
        &run(),
        &[
            "ok PostgreSQL ",
            "warn Beacon's own migrations: ",
            "warn it takes ",
            "warn the application's migrations: 1 of 1 are pending (Run: beacon migrate up)",
        ],
    );

    let migrated = Command::new(env!("CARGO_BIN_EXE_beacon"))
        .args(["migrate", "up", "--config", "beacon.toml"])
        .current_dir(folder.path())
        .env("DATABASE_URL", &url)
        .output()
        .unwrap();
    assert!(migrated.status.success(), "{migrated:?}");
    database.execute("alter table public.shop enable row level security");
    let healthy = run();
    assert!(!healthy.contains("pending") && !healthy.contains("fail "), "{healthy}");
    has(&healthy, &["service_role has no BYPASSRLS; policies", "ok it is on for each table in public"]);

    // A table without row-level security, one of another owner, and a login that lost a role.
    database.execute("create table public.open (id int)");
    database.execute_as_superuser(
        "do $$ begin create role django login; exception when duplicate_object then null; end $$;
         grant create on schema public to django; set role django; create table public.users (id int); reset role",
    );
    let login = format!("beacon_request_{}", database.name());
    database.execute(&format!("revoke authenticated from {login}; revoke authenticated from authenticator"));
    let found = run();
    has(
        &found,
        &[
            "warn 1 tables have no row-level security: open: whoever has signed in",
            "alter table open enable row level security",
            "warn 1 tables are not granted to service_role: users",
            "run as \"django\": grant all on all tables in schema \"public\"",
            "tables that \"django\" makes in \"public\" are not granted",
            "alter default privileges for role \"django\" in schema \"public\"",
            "fail requests cannot change to the role authenticated",
            &format!("grant authenticated to \"{login}\""),
        ],
    );
    database.execute(&format!("grant authenticated to {login}; grant authenticated to authenticator"));
    database.execute_as_superuser("alter role application nocreaterole");
    has(&run(), &["warn \"application\" may not create roles", "alter role \"application\" createrole"]);
    database.execute_as_superuser("alter role application superuser createrole");
    has(&run(), &["warn \"application\" is a superuser"]);
    database.execute_as_superuser("alter role application nosuperuser");

    let wrong = url.replace("application:", "application:x");
    let found = findings(folder.path(), &[("DATABASE_URL", &wrong)], &["database"]);
    has(&found, &["fail ", "password authentication failed", "Mend what the database says."]);
    assert!(!found.contains("a%20password") && !found.contains("a password with"), "{found}");
    let gone = url.replace(&format!(":{}/", server.port()), ":1/");
    has(&findings(folder.path(), &[("DATABASE_URL", &gone)], &["database"]), &["fail ", "See that it runs"]);
}

#[test]
fn the_private_servers_are_looked_at_where_they_run_and_where_they_do_not() {
    let mut beacon = launch().start();
    both(&beacon);
    let auto = [("BEACON_MANAGED__POSTGRES", "auto"), ("BEACON_MANAGED__REDIS", "auto")];
    let found = findings(beacon.path(), &auto, &["servers", "database"]);
    has(&found, &["ok the private PostgreSQL runs", "ok the private Redis runs", "ok PostgreSQL "]);
    assert!(!found.contains("fail "), "{found}");
    beacon.signal("TERM");
    assert!(beacon.wait_end().success());
    has(&findings(beacon.path(), &auto, &["servers"]), &["private servers start with `beacon serve`"]);
    fs::write(beacon.path().join("state/postgres/PG_VERSION"), "14\n").unwrap();
    has(
        &findings(beacon.path(), &auto, &["servers"]),
        &["warn the data of the private database were made by PostgreSQL 14"],
    );
}
