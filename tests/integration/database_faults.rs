//! The API while its database misbehaves: restarted under load, out of connections, busy for ever, very large, and changed
//! while it is read.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Answer, Api, Launch, Postgres, Stop, free_port, send, token, until};

const SCHEMA: &str = "
    CREATE TABLE things (id int PRIMARY KEY, name text);
    INSERT INTO things SELECT n, 'thing ' || n FROM generate_series(1, 1000) n;
    CREATE TABLE written (id int PRIMARY KEY);
    ALTER TABLE things ENABLE ROW LEVEL SECURITY;
    ALTER TABLE written ENABLE ROW LEVEL SECURITY;
    CREATE POLICY p ON things USING (true);
    CREATE POLICY p ON written USING (true) WITH CHECK (true);
    CREATE FUNCTION nap(seconds float) RETURNS void LANGUAGE sql VOLATILE AS $$ SELECT pg_sleep(seconds) $$;";

/// A server of the test's own, which ends with the test process.
fn server(settings: &[(&str, &str)]) -> &'static Postgres {
    Box::leak(Box::new(Postgres::start(settings)))
}

fn code(answer: &Answer) -> String {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    body["code"].as_str().unwrap_or_default().to_owned()
}

/// Whether it is 503 or 504 and says when to try again.
fn is_patient(answer: &Answer) -> bool {
    let wait = answer.header("retry-after").and_then(|value| value.parse::<u64>().ok());
    matches!(answer.status, 503 | 504) && wait.is_some_and(|wait| wait <= 5)
}

#[test]
fn a_restart_under_load_is_503_and_then_right_answers_again() {
    let server = server(&[]);
    let api = Api::on(server, SCHEMA, "", "");
    let (over, back) = (AtomicBool::new(false), AtomicBool::new(false));
    let (faults, stored, seen) = (Mutex::new(Vec::new()), Mutex::new(BTreeSet::new()), Mutex::new((0, 0, 0)));
    std::thread::scope(|scope| {
        for worker in 0..4_usize {
            let (api, over, back, faults, stored, seen) = (&api, &over, &back, &faults, &stored, &seen);
            scope.spawn(move || {
                let mut client = api.connect();
                for turn in 0.. {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    let id = 1 + (turn * 7 + worker * 131) % 1000;
                    let (answer, expected) = if turn % 4 == 3 {
                        let id = turn * 4 + worker;
                        let answer =
                            send(&mut client, "POST", "/rest/v1/written", &[], &json!({ "id": id }).to_string());
                        if answer.status == 201 {
                            stored.lock().unwrap().insert(id);
                        }
                        (answer, (201, String::new()))
                    } else {
                        let answer =
                            send(&mut client, "GET", &format!("/rest/v1/things?id=eq.{id}&select=name"), &[], "");
                        (answer, (200, format!("[{{\"name\":\"thing {id}\"}}]")))
                    };
                    let right = (answer.status, answer.text()) == expected;
                    let mut seen = seen.lock().unwrap();
                    match (right, is_patient(&answer)) {
                        (true, _) if back.load(Ordering::Relaxed) => seen.2 += 1,
                        (true, _) => seen.0 += 1,
                        (false, true) => seen.1 += 1,
                        (false, false) => faults.lock().unwrap().push(format!("{} {}", answer.status, answer.text())),
                    }
                }
            });
        }
        std::thread::sleep(Duration::from_secs(1));
        for how in [Stop::Immediate, Stop::Fast] {
            server.stop(how);
            std::thread::sleep(Duration::from_millis(700));
            server.start_again();
            std::thread::sleep(Duration::from_millis(300));
        }
        back.store(true, Ordering::Relaxed);
        std::thread::sleep(Duration::from_secs(3));
        over.store(true, Ordering::Relaxed);
    });
    let faults = faults.into_inner().unwrap();
    assert!(faults.is_empty(), "{} wrong answers: {:#?}", faults.len(), &faults[..faults.len().min(10)]);
    let (before, waiting, after) = seen.into_inner().unwrap();
    assert!(before > 50 && waiting > 0 && after > 50, "right before: {before}, 503: {waiting}, right after: {after}");
    let rows = api.database().rows("SELECT id FROM written");
    let there: BTreeSet<usize> = rows.iter().map(|row| row[0].parse().unwrap()).collect();
    let lost: Vec<_> = stored.into_inner().unwrap().difference(&there).copied().collect();
    assert!(lost.is_empty(), "what was answered with 201 is not there: {lost:?}");
    api.beacon().is_sound();
}

#[test]
fn without_a_free_connection_a_request_is_told_to_come_again() {
    let api = Api::start(SCHEMA, "[database]\nconnections = 2\nacquire_timeout = \"300ms\"", "");
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let answer = api.ask("POST", "/rest/v1/rpc/nap", &[], "{\"seconds\": 2}");
                assert_eq!(answer.status, 204, "{}", answer.text());
            });
        }
        until("two naps", || {
            let busy = api.database().value("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%nap%' AND wait_event = 'PgSleep'");
            (busy == "2").then_some(())
        });
        let begun = Instant::now();
        let answer = api.ask("GET", "/rest/v1/things?id=eq.1", &[], "");
        assert!(begun.elapsed() < Duration::from_millis(1500), "it waited {:?}", begun.elapsed());
        assert_eq!((answer.status, code(&answer).as_str()), (504, "PGRST003"), "{}", answer.text());
        assert!(is_patient(&answer), "{answer:?}");
    });
    assert_eq!(api.ask("GET", "/rest/v1/things?id=eq.1", &[], "").status, 200, "afterwards");
}

#[test]
fn a_statement_for_ever_is_ended_and_its_connection_used_again() {
    let sections = "[database]\nconnections = 1\nstatement_timeout = \"500ms\"\nrequest_timeout = \"2s\"";
    let api = Api::start(SCHEMA, sections, "");
    let begun = Instant::now();
    let answer = api.ask("POST", "/rest/v1/rpc/nap", &[], "{\"seconds\": 600}");
    assert_eq!((answer.status, code(&answer).as_str()), (500, "57014"), "{}", answer.text());
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!(api.ask("GET", "/rest/v1/things?id=eq.1", &[], "").status, 200);
    // A lock that somebody else holds is waited for no longer than is said.
    let user = token(&json!({ "role": "authenticated" }));
    let answer = api.ask("GET", "/rest/v1/things?id=eq.1", &[("Authorization", &format!("Bearer {user}"))], "");
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn a_client_that_goes_away_leaves_no_statement_behind() {
    let api = Api::start(SCHEMA, "[database]\nconnections = 1", "");
    let mut client = api.connect();
    let body = "{\"seconds\": 30}";
    client.send(format!("POST /rest/v1/rpc/nap HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    let sleeping =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'";
    until("the nap", || (api.database().value(sleeping) == "1").then_some(()));
    drop(client);
    until("the end of the nap", || (api.database().value(sleeping) == "0").then_some(()));
    assert_eq!(api.ask("GET", "/rest/v1/things?id=eq.1", &[], "").status, 200);
}

#[test]
fn five_thousand_tables_are_seen_soon_and_within_bounds() {
    let api = Api::start(SCHEMA, "", "");
    let before = api.beacon().memory();
    api.database().execute(
        "DO $$ BEGIN FOR n IN 1..5000 LOOP
           EXECUTE format('CREATE TABLE big_%s (id int PRIMARY KEY, before int %s, name text, made timestamptz DEFAULT now(), amount numeric)',
             n, CASE WHEN n > 1 THEN 'REFERENCES big_' || n - 1 END);
           EXECUTE format('ALTER TABLE big_%s ENABLE ROW LEVEL SECURITY', n);
           IF n % 100 = 0 THEN COMMIT; END IF;
         END LOOP; END $$",
    );
    let begun = Instant::now();
    api.reload();
    let took = begun.elapsed();
    let answer = api.ask("GET", "/rest/v1/big_5000?select=id,big_4999(id,big_4998(id))", &[], "");
    assert_eq!((answer.status, answer.text().as_str()), (200, "[]"));
    let grown = api.beacon().memory() - before;
    println!("5,000 tables: seen after {took:?}, {} MiB more (unoptimised build)", grown / 1024);
    assert!(took < Duration::from_secs(15), "{took:?}");
    assert!(grown < 150 * 1024, "{grown} KiB");
}

#[test]
fn tables_change_while_they_are_read() {
    let api = Api::start(SCHEMA, "[api]\nschema_poll = \"1s\"", "");
    let over = AtomicBool::new(false);
    let faults = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut client = api.connect();
                while !over.load(Ordering::Relaxed) {
                    for target in
                        ["things?id=eq.1&select=*", "things?id=eq.1&select=id,name", "things?select=id&limit=5"]
                    {
                        let answer = send(&mut client, "GET", &format!("/rest/v1/{target}"), &[], "");
                        // A column that is gone is the client's fault; nothing else may happen.
                        let fine = answer.status == 200
                            || matches!(code(&answer).as_str(), "42703" | "PGRST204" | "PGRST205" | "42P01");
                        if !fine {
                            faults.lock().unwrap().push(format!("{} {target}: {}", answer.status, answer.text()));
                        }
                    }
                }
            });
        }
        for turn in 0..12 {
            api.database().execute(&format!("ALTER TABLE things ADD COLUMN extra_{turn} int DEFAULT {turn}"));
            api.database().execute(
                "ALTER TABLE things RENAME COLUMN name TO title; ALTER TABLE things RENAME COLUMN title TO name",
            );
            api.database().execute(&format!(
                "ALTER TABLE things ALTER COLUMN id TYPE {}",
                if turn % 2 == 0 { "bigint" } else { "int" }
            ));
            api.database().execute(&format!("ALTER TABLE things DROP COLUMN extra_{turn}"));
            std::thread::sleep(Duration::from_millis(50));
        }
        over.store(true, Ordering::Relaxed);
    });
    let faults = faults.into_inner().unwrap();
    assert!(faults.is_empty(), "{}: {:#?}", faults.len(), &faults[..faults.len().min(10)]);
    // The poll sees a new table without being told.
    api.database().execute("CREATE TABLE later (id int PRIMARY KEY); ALTER TABLE later ENABLE ROW LEVEL SECURITY");
    until("the new table", || (api.ask("GET", "/rest/v1/later", &[], "").status == 200).then_some(()));
}

#[test]
fn a_database_that_takes_nobody_in_is_503_and_tells_clients_nothing_of_itself() {
    let server = server(&[("max_connections", "20"), ("superuser_reserved_connections", "3")]);
    let api = Api::on(server, SCHEMA, "", "");
    let name = api.database().name().to_owned();
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename LIKE 'beacon_request%'";
    let ask = || api.ask("GET", "/rest/v1/things?id=eq.1&select=id", &[], "");
    let refused = |why: &str| {
        let answer = until(why, || Some(ask()).filter(|answer| answer.status != 200));
        assert!(is_patient(&answer) && answer.status == 503, "{why}: {answer:?}");
        let text = answer.text();
        assert!(!text.contains(&name) && !text.contains("beacon_request"), "{why}: {text}");
    };
    let works = |why: &str| until(why, || (ask().status == 200).then_some(()));

    // No login, as after a restore in another cluster.
    api.database().execute_as_superuser(&format!("ALTER ROLE beacon_request_{name} NOLOGIN"));
    api.database().rows(end);
    refused("a login that may not log in");
    api.database().execute_as_superuser(&format!("ALTER ROLE beacon_request_{name} LOGIN"));
    works("the login again");

    // No free place.
    api.database().execute_as_superuser(&format!("ALTER ROLE beacon_request_{name} CONNECTION LIMIT 0"));
    api.database().rows(end);
    refused("a login without a free connection");
    api.database().execute_as_superuser(&format!("ALTER ROLE beacon_request_{name} CONNECTION LIMIT -1"));
    works("a free connection again");

    // A password that somebody changed: for good a fault of the operator's, for the client a database that is not there.
    api.database().execute_as_superuser(&format!("ALTER ROLE beacon_request_{name} PASSWORD 'another'"));
    api.database().rows(end);
    refused("a password that was changed");
}

#[test]
fn a_database_that_comes_after_beacon_is_used_when_it_comes() {
    let server = server(&[]);
    let database = server.database();
    server.stop(Stop::Fast);
    let port = free_port();
    let begun = Instant::now();
    let config = format!("listen.http = [\"127.0.0.1:{port}\"]\n");
    let beacon = Launch::new().env("DATABASE_URL", &database.url()).with(&config).start();
    assert!(begun.elapsed() < Duration::from_secs(15), "a start does not wait for ever: {:?}", begun.elapsed());
    let mut client = beacon.plain();
    let answer = send(&mut client, "GET", "/rest/v1/things", &[], "");
    assert!(is_patient(&answer) && answer.status == 503, "{answer:?}");
    assert_eq!(beacon.plain().get("/").status, 200, "what needs no database is served");
    let ready = || beacon.operations("/readyz").status;
    assert_eq!(ready(), 503, "not ready");
    server.start_again();
    let begun = Instant::now();
    until("readiness", || (ready() == 200).then_some(()));
    println!("ready {:?} after its database", begun.elapsed());
    let answer = send(&mut client, "GET", "/rest/v1/things", &[], "");
    assert_eq!((answer.status, code(&answer).as_str()), (404, "PGRST205"), "{}", answer.text());
}

#[test]
fn a_database_that_hangs_costs_a_bounded_time_and_its_answers_are_not_mixed_up() {
    let server = server(&[]);
    let sections = "[database]\nconnections = 2\nacquire_timeout = \"500ms\"\nrequest_timeout = \"1s\"\nconnect_timeout = \"500ms\"";
    let api = Api::on(server, SCHEMA, sections, "");
    let ask = |id: usize| api.ask("GET", &format!("/rest/v1/things?id=eq.{id}&select=name"), &[], "");
    assert_eq!(ask(1).status, 200);
    server.freeze();
    std::thread::scope(|scope| {
        for worker in 0..6 {
            let ask = &ask;
            scope.spawn(move || {
                for turn in 0..3 {
                    let begun = Instant::now();
                    let answer = ask(1 + worker * 10 + turn);
                    assert!(matches!(answer.status, 503 | 504), "{answer:?}");
                    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
                }
            });
        }
    });
    server.thaw();
    let begun = Instant::now();
    until("answers again", || (ask(7).status == 200).then_some(()));
    println!("answers again after {:?}", begun.elapsed());
    for id in 1..50 {
        let answer = ask(id);
        assert_eq!((answer.status, answer.text()), (200, format!("[{{\"name\":\"thing {id}\"}}]")));
    }
}

const STUBBORN: &str = "CREATE FUNCTION stubborn() RETURNS void LANGUAGE plpgsql VOLATILE AS $$ BEGIN LOOP
      BEGIN PERFORM pg_sleep(60); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END $$;";

const STATEMENTS: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state <> 'idle'
    AND usename LIKE 'beacon_request%' AND wait_event = 'PgSleep'";

#[test]
fn a_statement_that_refuses_to_end_loses_its_connection() {
    let sections = "[database]\nconnections = 1\nstatement_timeout = \"300ms\"\nrequest_timeout = \"1s\"\nacquire_timeout = \"10s\"";
    let api = Api::start(&format!("{SCHEMA}{STUBBORN}"), sections, "");
    let answer = api.ask("POST", "/rest/v1/rpc/stubborn", &[], "{}");
    assert_eq!((answer.status, code(&answer).as_str()), (504, "PGRST003"), "{}", answer.text());
    assert_eq!(api.ask("GET", "/rest/v1/things?id=eq.1", &[], "").status, 200, "another connection");
    until("the end of the statement", || (api.database().value(STATEMENTS) == "0").then_some(()));
}

#[test]
fn statements_end_with_a_beacon_that_was_killed() {
    let api = Api::start(SCHEMA, "[database]\nstatement_timeout = \"10m\"", "");
    let mut client = api.connect();
    let body = "{\"seconds\": 300}";
    client.send(format!("POST /rest/v1/rpc/nap HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    until("the nap", || (api.database().value(STATEMENTS) == "1").then_some(()));
    api.beacon().signal("KILL");
    until("the end of the nap", || (api.database().value(STATEMENTS) == "0").then_some(()));
}

#[test]
fn a_role_s_own_timeout_is_kept_and_changed_without_a_restart() {
    let api = Api::start(SCHEMA, "", "");
    let nap = || api.ask("POST", "/rest/v1/rpc/nap", &[], "{\"seconds\": 1}");
    assert_eq!(nap().status, 204);
    api.database().execute_as_superuser(&format!(
        "ALTER ROLE anon IN DATABASE {} SET statement_timeout = '200ms'",
        api.database().name()
    ));
    api.reload();
    let answer = nap();
    assert_eq!((answer.status, code(&answer).as_str()), (500, "57014"), "{}", answer.text());
}

#[test]
fn an_explained_statement_ends_with_its_client() {
    let slow = "CREATE VIEW slow WITH (security_invoker = true) AS SELECT id, pg_sleep(20) IS NULL AS slept FROM things LIMIT 1;";
    let api = Api::start(&format!("{SCHEMA}{slow}"), "[database]\nconnections = 1\n[api]\nplan_enabled = true", "");
    let mut client = api.connect();
    client.send("GET /rest/v1/slow HTTP/1.1\r\nHost: localhost\r\nAccept: application/vnd.pgrst.plan+json; options=analyze\r\n\r\n");
    until("the statement", || (api.database().value(STATEMENTS) == "1").then_some(()));
    drop(client);
    let begun = Instant::now();
    assert_eq!(api.ask("GET", "/rest/v1/things?id=eq.1", &[], "").status, 200);
    assert!(begun.elapsed() < Duration::from_secs(3), "the connection was busy for {:?}", begun.elapsed());
    until("the end of the statement", || (api.database().value(STATEMENTS) == "0").then_some(()));
}
