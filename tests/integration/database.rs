//! The pools, clients' transactions, notifications and migrations, against a real server with an owner that is no
//! superuser.

use std::time::Duration;

use beacon::db::{Config, Database, Error, Notice, Parameter, Transaction};
use beacon::secret::Secret;

use crate::support::{Postgres, Stop};

fn open_with(url: &str, change: impl FnOnce(&mut Config)) -> Database {
    let mut config = Config::default();
    change(&mut config);
    let own = beacon::assets::folder("migrations").unwrap();
    Database::new(&config, &Secret::new(url), own, vec!["anon".into()]).unwrap()
}

fn open(url: &str) -> Database {
    open_with(url, |_| {})
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_mins(1), test).await.unwrap() });
}

fn as_role<'a>(
    role: &'a str,
    sql: &'a str,
    parameters: &'a [Parameter],
    settings: &'a mut Vec<(&'a str, &'a str)>,
) -> Transaction<'a> {
    settings.push(("role", role));
    Transaction {
        read_only: false,
        isolation: None,
        settings,
        before: None,
        sql,
        parameters,
        rollback: false,
        prepare: true,
    }
}

async fn ask(database: &Database, role: &str, sql: &str, parameters: &[Parameter]) -> Result<String, Error> {
    let mut settings = Vec::new();
    let row = database.requests().transact(&as_role(role, sql, parameters, &mut settings)).await?;
    Ok(row.get::<_, Option<String>>(0).unwrap_or_default())
}

#[test]
fn a_bare_database_is_prepared_by_an_owner_without_superuser_and_only_once() {
    let server = Postgres::shared();
    let database = server.database();
    run(async {
        let ours = open(&database.url());
        // Several at once, as when two slots start.
        let other = open(&database.url());
        let (one, two) = tokio::join!(ours.prepare(), other.prepare());
        one.unwrap();
        two.unwrap();
        ours.prepare().await.unwrap();
        let (own, _) = ours.progress().await.unwrap();
        assert!(own.len() >= 4 && own.iter().all(|step| step.applied_at.is_some() && step.fault.is_none()), "{own:?}");
        // A login that another cluster's dump or hand has given another password works again.
        database.execute_as_superuser(&format!("alter role beacon_request_{} password 'other'", database.name()));
        ours.prepare().await.unwrap();
        let who = ask(&ours, "anon", "select session_user || ' ' || current_user", &[]).await.unwrap();
        assert_eq!(who, format!("beacon_request_{} anon", database.name()));
    });
}

#[test]
fn a_request_runs_as_its_role_and_never_as_the_owner() {
    let server = Postgres::shared();
    let database = server.database();
    run(async {
        let ours = open(&database.url());
        ours.prepare().await.unwrap();
        database.execute("create table public.secrets (id int); alter table secrets enable row level security; insert into secrets values (1);");
        let count = "select count(*)::text from public.secrets";
        assert_eq!(ask(&ours, "anon", count, &[]).await.unwrap(), "0");
        let denied = ask(&ours, "anon", "select count(*)::text from auth.users", &[]).await.unwrap_err();
        assert_eq!(denied.sqlstate(), Some("42501"));
        // A role that cannot be taken stops everything after it.
        let refused = ask(&ours, "application", count, &[]).await.unwrap_err();
        assert_eq!(refused.sqlstate(), Some("42501"), "{refused:?}");
        let unknown = ask(&ours, "nobody_at_all", count, &[]).await.unwrap_err();
        assert_eq!(unknown.sqlstate(), Some("22023"), "{unknown:?}");
        // Nor can SQL of an application's function get there.
        let escape = ask(&ours, "anon", "select set_config('role', 'application', true)", &[]).await.unwrap_err();
        assert_eq!(escape.sqlstate(), Some("42501"));
        // And the connection is as good as before.
        assert_eq!(ask(&ours, "anon", "select current_user::text", &[]).await.unwrap(), "anon");
    });
}

#[test]
fn parameters_are_of_the_type_that_the_statement_wants_prepared_or_not() {
    let server = Postgres::shared();
    let database = server.database();
    run(async {
        for prepared in [true, false] {
            let ours = open_with(&database.url(), |config| config.prepared_statements = prepared);
            ours.prepare().await.unwrap();
            database
                .execute("drop type if exists public.mood cascade; create type public.mood as enum ('sad', 'glad');");
            let text = |value: &str| Parameter::Text(Some(value.to_owned()));
            let sql =
                "select concat_ws(' ', $1::int + 1, $2::public.mood, $3::date, $4::text is null, length($5::bytea))";
            let parameters = [
                text("41"),
                text("glad"),
                text("2026-11-24"),
                Parameter::Text(None),
                Parameter::Binary(bytes::Bytes::from_static(b"\0\xff")),
            ];
            for _ in 0..3 {
                let answer = ask(&ours, "anon", sql, &parameters).await.unwrap();
                assert_eq!(answer, "42 glad 2026-11-24 t 2", "prepared: {prepared}");
            }
            let error = ask(&ours, "anon", "select ($1::int)::text", &[text("x")]).await.unwrap_err();
            assert_eq!(error.sqlstate(), Some("22P02"));
            let timeout = ask(&ours, "anon", "select current_setting('statement_timeout')", &[]).await.unwrap();
            assert_eq!(timeout, "30s", "prepared: {prepared}");
        }
    });
}

#[test]
fn a_change_of_a_column_s_type_does_not_break_statements_that_are_prepared() {
    let server = Postgres::shared();
    let database = server.database();
    run(async {
        let ours = open_with(&database.url(), |config| config.connections = 1);
        ours.prepare().await.unwrap();
        database.execute("create table public.things (id int, name text); insert into things values (1, 'one');");
        let sql = "select name::text from public.things where id = $1";
        let one = [Parameter::Text(Some("1".into()))];
        assert_eq!(ask(&ours, "anon", sql, &one).await.unwrap(), "one");
        database.execute("alter table things alter column id type text; insert into things values ('a', 'letter');");
        let letter = [Parameter::Text(Some("a".into()))];
        assert_eq!(ask(&ours, "anon", sql, &letter).await.unwrap(), "letter");
        assert_eq!(ask(&ours, "anon", sql, &one).await.unwrap(), "one");
    });
}

#[test]
fn what_is_not_accepted_is_undone_and_a_cut_transaction_leaves_nothing() {
    let server = Postgres::shared();
    let database = server.database();
    run(async {
        let ours = open_with(&database.url(), |config| config.connections = 1);
        ours.prepare().await.unwrap();
        database.execute("create table public.log (line text);");
        let count = || async { ask(&ours, "anon", "select count(*)::text from public.log", &[]).await.unwrap() };
        let insert = "with done as (insert into public.log values ('x') returning 1) select count(*)::text from done";
        for (accepted, expected) in [(false, "0"), (true, "1")] {
            let mut settings = Vec::new();
            let transaction = as_role("anon", insert, &[], &mut settings);
            let (_, committed) = ours.requests().transact_if(&transaction, |_| accepted).await.unwrap();
            assert_eq!(committed, accepted);
            assert_eq!(count().await, expected);
        }
        let mut settings = Vec::new();
        let undone = Transaction { rollback: true, ..as_role("anon", insert, &[], &mut settings) };
        ours.requests().transact(&undone).await.unwrap();
        assert_eq!(count().await, "1");
        // A client that goes away while its statement runs: the only connection is free again, the statement ended.
        let slow = "with done as (insert into public.log select 'y' from pg_sleep(30) returning 1) select count(*)::text from done";
        let cut = tokio::time::timeout(Duration::from_millis(300), ask(&ours, "anon", slow, &[])).await;
        assert!(cut.is_err());
        assert_eq!(count().await, "1");
        let running = "select count(*) from pg_stat_activity where query like '%pg_sleep(30)%' and state = 'active' and pid <> pg_backend_pid()";
        let gone = || database.value(running) == "0";
        for _ in 0..50 {
            if gone() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(gone(), "the statement still runs");
    });
}

#[test]
fn a_restart_is_an_error_that_says_so_and_then_all_is_well_again() {
    let server = Postgres::start(&[]);
    let database = server.database();
    run(async {
        let ours = open(&database.url());
        ours.prepare().await.unwrap();
        let mut listener = ours.listen(&["beacon_test"]);
        assert_eq!(listener.next().await, Notice::Connected);
        database.execute("notify beacon_test, 'hello'");
        let heard = Notice::Notification { channel: "beacon_test".into(), payload: "hello".into() };
        assert_eq!(listener.next().await, heard);
        assert_eq!(ask(&ours, "anon", "select 'before'", &[]).await.unwrap(), "before");
        server.stop(Stop::Immediate);
        let error = ask(&ours, "anon", "select 'down'", &[]).await.unwrap_err();
        assert!(error.is_unavailable(), "{error:?}");
        server.start_again();
        assert_eq!(ask(&ours, "anon", "select 'after'", &[]).await.unwrap(), "after");
        assert_eq!(listener.next().await, Notice::Connected);
        database.execute("notify beacon_test, 'again'");
        let heard = Notice::Notification { channel: "beacon_test".into(), payload: "again".into() };
        assert_eq!(listener.next().await, heard);
    });
}

#[test]
fn a_pool_without_a_free_connection_says_so_in_time() {
    let server = Postgres::shared();
    let database = server.database();
    run(async {
        let ours = open_with(&database.url(), |config| {
            config.connections = 1;
            config.acquire_timeout = Duration::from_millis(200);
        });
        ours.prepare().await.unwrap();
        let taken = ours.requests().get().await.unwrap();
        let error = ask(&ours, "anon", "select 'x'", &[]).await.unwrap_err();
        assert!(matches!(error, Error::Busy(_)), "{error:?}");
        drop(taken);
        assert_eq!(ask(&ours, "anon", "select 'x'", &[]).await.unwrap(), "x");
    });
}

#[test]
fn the_application_s_migrations_go_forward_once_and_notice_changed_files() {
    let server = Postgres::shared();
    let database = server.database();
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, sql: &str| std::fs::write(folder.path().join(name), sql).unwrap();
    run(async {
        let ours = open_with(&database.url(), |config| config.migrations = folder.path().to_owned());
        write("0001_shop.sql", "create table public.shop (id int primary key);");
        write(
            "0002_index.sql",
            "-- beacon: no transaction\ncreate index concurrently shop_id on public.shop (id);\nselect 1;",
        );
        assert_eq!(ours.migrate().await.unwrap(), ["0001_shop.sql", "0002_index.sql"]);
        assert_eq!(ours.migrate().await.unwrap(), Vec::<String>::new());
        write("0003_bad.sql", "create table public.half (id int); select nonsense;");
        let error = ours.migrate().await.unwrap_err();
        assert!(error.to_string().contains("0003_bad.sql"), "{error}");
        assert_eq!(database.value("select to_regclass('public.half') is null"), "t");
        write("0003_bad.sql", "create table public.whole (id int);");
        assert_eq!(ours.migrate().await.unwrap(), ["0003_bad.sql"]);
        write("0001_shop.sql", "create table public.shop (id bigint primary key);");
        let error = ours.migrate().await.unwrap_err();
        assert!(error.to_string().contains("0001_shop.sql has changed"), "{error}");
        let (_, application) = ours.progress().await.unwrap();
        assert_eq!(application[0].fault, Some("the file has changed since it was applied"));
    });
}

#[test]
fn tables_without_a_schema_s_name_are_public_whatever_the_login_is_called() {
    let server = Postgres::start(&[]);
    let database = server.database();
    let name = database.name();
    database.execute_as_superuser(&format!(
        "create role beacon login createrole password 'secret'; alter database {name} owner to beacon"
    ));
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("0001_lists.sql"), "create table lists (id int)").unwrap();
    run(async {
        let url = format!("postgres://beacon:secret@127.0.0.1:{}/{name}", server.port());
        let ours = open_with(&url, |config| config.migrations = folder.path().to_owned());
        ours.migrate().await.unwrap();
        assert_eq!(database.value("select to_regclass('public.lists') is not null"), "t");
        let session = ours.owner().get().await.unwrap();
        assert_eq!(session.query_one("show search_path", &[]).await.unwrap().get::<_, String>(0), "public, extensions");
    });
}

#[test]
fn a_database_of_another_account_server_is_refused_before_anything_is_changed() {
    let server = Postgres::shared();
    let database = server.database();
    database.execute("create schema auth; create table auth.users (id uuid)");
    run(async {
        let error = open(&database.url()).prepare().await.unwrap_err();
        assert!(error.to_string().contains("auth.users of another account server"), "{error}");
        assert_eq!(
            database.value("select to_regnamespace('beacon') is null and to_regnamespace('storage') is null"),
            "t"
        );
    });
}

/// A server whose certificate is for "localhost" and leads to an authority of ours; the two files, and the folder.
fn server_with_tls() -> (Postgres, std::path::PathBuf, std::path::PathBuf, tempfile::TempDir) {
    let folder = tempfile::Builder::new().prefix("beacon-tls-").tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let authority = |name: &str| {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let certificate = params.self_signed(&key).unwrap();
        let path = folder.path().join(format!("{name}.crt"));
        std::fs::write(&path, certificate.pem()).unwrap();
        (rcgen::Issuer::new(params, key), path)
    };
    let (ours, good) = authority("ours");
    let (_, other) = authority("other");
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap().signed_by(&key, &ours).unwrap();
    let (certificate_file, key_file) = (folder.path().join("server.crt"), folder.path().join("server.key"));
    std::fs::write(&certificate_file, certificate.pem()).unwrap();
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    std::fs::set_permissions(&key_file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    if let Some((user, group)) = crate::support::servant() {
        std::os::unix::fs::chown(&key_file, Some(user), Some(group)).unwrap();
    }
    let server = Postgres::start(&[
        ("ssl", "on"),
        ("ssl_cert_file", certificate_file.to_str().unwrap()),
        ("ssl_key_file", key_file.to_str().unwrap()),
    ]);
    (server, good, other, folder)
}

#[test]
fn the_protection_is_what_sslmode_says() {
    let (server, good, other, _folder) = server_with_tls();
    let database = server.database();
    let by_address = database.tcp_url();
    let by_name = by_address.replace("127.0.0.1", "localhost");
    let encrypted = "select ssl::text from pg_stat_ssl where pid = pg_backend_pid()";
    run(async {
        open(&by_address).prepare().await.unwrap();
        let asked = async |url: &str, mode: &str, authority: &std::path::Path| -> Result<String, String> {
            let url = format!("{url}?sslmode={mode}&sslrootcert={}", authority.display());
            let session = open(&url).owner().get().await.map_err(|error| beacon::error::chain(&error).to_string())?;
            let row = session.query_one(encrypted, &[]).await.map_err(|error| error.to_string())?;
            Ok(row.get::<_, String>(0))
        };
        assert_eq!(asked(&by_address, "disable", &good).await.as_deref(), Ok("false"));
        for mode in ["prefer", "require"] {
            assert_eq!(asked(&by_address, mode, &other).await.as_deref(), Ok("true"), "{mode}");
        }
        assert_eq!(asked(&by_address, "verify-ca", &good).await.as_deref(), Ok("true"));
        assert_eq!(asked(&by_name, "verify-full", &good).await.as_deref(), Ok("true"));
        let wrong_name = asked(&by_address, "verify-full", &good).await.unwrap_err();
        assert!(wrong_name.contains("not valid for name"), "{wrong_name}");
        for mode in ["verify-ca", "verify-full"] {
            let stranger = asked(&by_name, mode, &other).await.unwrap_err();
            assert!(stranger.contains("UnknownIssuer"), "{mode}: {stranger}");
        }
        let config = Config { tls_ca_file: "/nonexistent/ca.pem".into(), ..Config::default() };
        let own = beacon::assets::folder("migrations").unwrap();
        let url = Secret::new(format!("{by_name}?sslmode=verify-full"));
        let error = Database::new(&config, &url, own, Vec::new()).err().unwrap();
        assert!(error.to_string().contains("/nonexistent/ca.pem"), "{error}");
    });
}

#[test]
fn a_password_that_a_program_prints_may_change_while_beacon_runs() {
    let server = Postgres::shared();
    let database = server.database();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    let role = format!("rotating_{}", database.name());
    database.execute_as_superuser(&format!("create role {role} login createrole password 'first'; grant create on database {0} to {role}; alter database {0} owner to {role}", database.name()));
    std::fs::write(&file, "first\n").unwrap();
    let port = server.port();
    let url = format!("postgres://{role}@127.0.0.1:{port}/{}", database.name());
    run(async {
        let ours = open_with(&url, |config| {
            config.password_command = vec!["cat".into(), file.display().to_string()];
            config.max_lifetime = Duration::from_millis(1);
        });
        ours.prepare().await.unwrap();
        database.execute_as_superuser(&format!("alter role {role} password 'second'"));
        std::fs::write(&file, "second\n").unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
        let session = ours.owner().get().await.unwrap();
        assert_eq!(session.query_one("select 1", &[]).await.unwrap().get::<_, i32>(0), 1);
        drop(session);
        std::fs::write(&file, "wrong\n").unwrap();
        database.execute_as_superuser(&format!("alter role {role} password 'third'"));
        tokio::time::sleep(Duration::from_millis(5)).await;
        let error = ours.owner().get().await.err().unwrap();
        assert!(beacon::error::chain(&error).to_string().contains("password authentication failed"), "{error:?}");
    });
}
